"""Complete runs read back from their folders, gathered by method and benchmark."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from utils.checkpoint import RunFolderError
from utils.config import ConfigError, Settings, read_settings
from utils.logger import read_env, read_summary
from utils.suite.file import Cell


@dataclass(frozen=True)
class RunRecord:
    """A complete run.

    Attributes:
        accuracy: R, float ``[rounds, T]``, NaN where a task has not arrived.
        summary: what ``summary.json`` says.
        env: what ``env.json`` says.
    """

    accuracy: np.ndarray
    summary: dict[str, Any]
    env: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """A method on a benchmark, with its complete runs by seed.

    Attributes:
        column: the benchmark; of a column of pairs, with the two task ids.
        group: the column's key in the suite file.
        settings: of its runs, the seed apart.
    """

    row: str
    column: str
    group: str
    settings: Settings
    runs: dict[int, RunRecord] = field(default_factory=dict)

    def values(self, metric: str) -> list[float]:
        """A metric of each run that has it, a fraction."""
        values = [run.summary[metric] for run in self.runs.values()]
        return [value for value in values if value is not None]

    def final_accuracy(self) -> dict[int, list[float]]:
        """Each run's accuracy by task at its end, by seed."""
        return {seed: run.summary["final_accuracy"] for seed, run in self.runs.items()}

    @property
    def is_isolated(self) -> bool:
        """Whether each task has a learner of its own."""
        return self.settings.continual and (self.settings.tasks_per_round == 1 or self.settings.replay_frac == 0)

    def is_isolated_of(self, other: "Result") -> bool:
        """Whether it is Isolated, and another but for what makes it so as that is."""
        own = {"continual", "tasks_per_round", "num_rounds", "replay_frac", "naive", "warm_start", "seed"}
        mine, its = (
            {key: value for key, value in result.settings.computed.items() if key not in own}
            for result in (self, other)
        )
        return self.is_isolated and mine == its


def read_run(run_dir: Path) -> RunRecord:
    """A complete run. Raises RunFolderError: it is not complete, or damaged."""
    summary = read_summary(run_dir)
    path = run_dir / "accuracy.csv"
    try:
        accuracy = np.genfromtxt(path, delimiter=",", skip_header=1, ndmin=2)[:, 1:]
    except (OSError, ValueError, IndexError) as error:
        raise RunFolderError(f"{path}: expected the accuracies of a run ({error})") from error
    last = accuracy[-1] if len(accuracy) == summary["num_rounds"] else np.empty(0)
    if last[~np.isnan(last)].tolist() != summary["final_accuracy"]:
        raise RunFolderError(f"{path}: expected {summary['num_rounds']} rounds that end as in summary.json, got others")
    return RunRecord(accuracy, summary, read_env(run_dir))


def of_suite(cells: Sequence[Cell]) -> tuple[list[Result], list[str]]:
    """A result for each cell of a suite, and a remark on each folder that was left out."""
    results, remarks = [], []
    for cell in cells:
        result = Result(cell.row, cell.column, cell.group, cell.settings)
        seeds = sorted(int(path.name[1:]) for path in cell.folder.glob("s*") if path.name[1:].isdecimal())
        for seed, run_dir in ((seed, cell.run_dir(seed)) for seed in seeds):
            differing = cell.differing(seed)
            if differing:
                remarks.append(f"left out: {differing}")
            elif not (run_dir / "summary.json").exists():
                remarks.append(f"left out: {run_dir} is not complete")
            else:
                result.runs[seed] = read_run(run_dir)
        results.append(result)
    return results, remarks


def of_folders(run_dirs: Sequence[Path]) -> tuple[list[Result], list[str]]:
    """Results of run folders given one by one: those whose settings differ by the seed alone are one method.

    Raises:
        ConfigError: a folder holds no run.
    """
    results: list[Result] = []
    remarks = []
    for run_dir in run_dirs:
        settings = read_settings(run_dir / "config.yaml")
        if not (run_dir / "summary.json").exists():
            remarks.append(f"left out: {run_dir} is not complete")
            continue
        alike = [r for r in results if r.settings.computed | {"seed": None} == settings.computed | {"seed": None}]
        result = alike[0] if alike else _new_result(settings, results)
        if not alike:
            results.append(result)
        if settings.seed in result.runs:
            raise ConfigError(f"{run_dir}: expected runs that differ, got one with the settings and seed of another")
        result.runs[settings.seed] = read_run(run_dir)
    return results, remarks


def _new_result(settings: Settings, others: Sequence[Result]) -> Result:
    """Named by its files and its settings in short; numbered where the name stands for something else already."""
    files = f"{settings.benchmark_name}-{settings.recipe_name}"
    in_short = settings.run_name.removeprefix(f"{files}-").removesuffix(f"-s{settings.seed}")
    column = _name(files, settings.benchmark, {other.column: other.settings.benchmark for other in others})
    row = _name(
        in_short, settings.recipe, {other.row: other.settings.recipe for other in others if other.column == column}
    )
    return Result(row, column, column, settings)


def _name(short: str, value: Any, taken: Mapping[str, Any]) -> str:
    """The first of ``short``, ``short (2)``, ... that stands for the value, or for nothing yet."""
    names = itertools.chain([short], (f"{short} ({number})" for number in itertools.count(2)))
    return next(name for name in names if taken.get(name, value) == value)
