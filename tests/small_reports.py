"""Runs and suites for reports: Isolated and a zoo on the digits, by the accuracies that a test gives them."""

from collections.abc import Mapping
from pathlib import Path

from tests.make_runs import COLUMN, CONV, DIGITS, continual, finished_run, make_run, write_suite
from utils.command_line import read_command
from utils.config import Settings
from utils.report.results import Result, gather
from utils.suite.file import read_plan

SUITE = {
    "flags": "--epochs 1 --continual",
    "rows": {"Isolated": "--tasks_per_round 1", "Zoo": "--tasks_per_round 3"},
    "columns": {"Digits": COLUMN, "More digits": COLUMN},
}


def settings(*flags: str) -> Settings:
    """Of a continual run of an epoch."""
    base = ("--data_config", str(DIGITS), "--hp_config", str(CONV), "--epochs", "1", "--continual")
    return read_command([*base, *flags]).settings


def result(method: str, accuracy: Mapping[int, list], *flags: str, benchmark: str = "Digits") -> Result:
    """A method on a benchmark, from its accuracies R by seed."""
    chosen = settings(*flags)
    of_seed = {seed: chosen.model_copy(update={"seed": seed}) for seed in accuracy}
    return gather({(benchmark, method, seed): finished_run(of_seed[seed], r) for seed, r in accuracy.items()})[0]


def make_run_folders(folder: Path) -> None:
    """Isolated and a zoo with two seeds, and a run that is not complete."""
    for seed, (alone, zoo) in enumerate([(0.7, 0.8), (0.9, 0.9)]):
        alone_settings = settings("--tasks_per_round", "1", "--seed", str(seed))
        make_run(folder / f"alone{seed}", alone_settings, continual(*[alone] * 5))
        make_run(folder / f"zoo{seed}", settings("--seed", str(seed)), continual(*[zoo] * 5))
    (folder / "broken").mkdir()
    (folder / "broken/config.yaml").write_text((folder / "zoo0/config.yaml").read_text())


def run_folders(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir()) if path.is_dir()]


def write_report_suite(path: Path, **values) -> Path:
    return write_suite(path, **SUITE | values)


def make_suite_runs(path: Path, folder: Path, accuracy: Mapping[tuple[str, str], Mapping[int, list]]) -> None:
    """A run of each cell and seed that ``accuracy`` has a row for."""
    for cell in read_plan(path, folder).cells:
        for seed, matrix in accuracy.get((cell.method, cell.benchmark), {}).items():
            run = cell.with_seed(seed)
            make_run(run.run_dir, run.settings, matrix)
