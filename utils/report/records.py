"""The two tables that a report is made of: one with a line for each run, round and task, one with a line for each run.

Both are written beside the report, as ``records.csv`` and ``runs.csv``, and are all that is needed to make it again.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd

from utils.config import Settings
from utils.errors import UserError, in_one_line
from utils.records import Cost
from utils.run_folder import is_complete, read_accuracy, read_env, read_summary, settings_of
from utils.suite.file import Cell

RUN = ["benchmark", "method", "seed"]
RECORD = [*RUN, "round", "task", "accuracy"]
HOW_MADE = ("commit", "torch", "device", "threads", "precision")  # each value of a run's invocations, once
OF_RUNS = [*RUN, *HOW_MADE, "elapsed_sec", "peak_mem_gb", "scored_on", *Cost.model_fields, "settings"]
NO_SEED = -1  # of a run from elsewhere whose seed is not known
OF_THE_METHOD = set(Settings.model_fields) - {"benchmark", "recipe", "epochs", "samples", "validation"}


class Tables(NamedTuple):
    """Complete runs.

    Attributes:
        records: A line for each run, round and task, with the columns ``RECORD``; the accuracy is a fraction.
        runs: A line for each run of ours: how it was made, what it cost, its settings as JSON.
    """

    records: pd.DataFrame
    runs: pd.DataFrame


@dataclass(frozen=True)
class Result:
    """A method on a benchmark, with R of each complete run.

    Attributes:
        settings: The settings of its runs, which differ in the seed alone; None for a method from elsewhere.
        accuracy: By seed: R, float ``[rounds, T]``, NaN where a task has not arrived.
    """

    benchmark: str
    method: str
    settings: Settings | None
    accuracy: dict[int, np.ndarray]

    @property
    def continual(self) -> bool:
        """Whether tasks arrive one at a time."""
        if self.settings:
            return self.settings.continual
        return all(r.shape[0] == r.shape[1] and np.isnan(r[np.triu_indices(len(r), 1)]).all() for r in self.matrices)

    @property
    def matrices(self) -> list[np.ndarray]:
        """R of each run."""
        return list(self.accuracy.values())

    @property
    def final(self) -> pd.DataFrame:
        """The accuracy of each task seen at the end: a row for each seed, a column for each task."""
        return pd.DataFrame([r[-1] for r in self.matrices], index=list(self.accuracy)).dropna(axis="columns")

    @property
    def flat(self) -> dict[str, Any]:
        """The settings by name, the recipe's keys among them; none for a method from elsewhere."""
        if self.settings is None:
            return {}
        return self.settings.model_dump(exclude={"recipe", "recipe_name", "changed"}) | dict(self.settings.recipe)

    @property
    def is_isolated(self) -> bool:
        """Whether each task has a learner of its own."""
        flat = self.flat
        return bool(flat) and self.continual and (flat["tasks_per_round"] == 1 or flat["replay_frac"] == 0)

    def is_isolated_of(self, other: "Result") -> bool:
        """Whether this is Isolated with the same benchmark, recipe, epochs, samples and validation as the other."""
        return self.is_isolated and not self.differing(other, besides=OF_THE_METHOD)

    def differing(self, other: "Result", *, besides: set[str]) -> list[str]:
        """The settings in which two results differ, besides some; all if one of them is from elsewhere."""
        if self.settings is None or other.settings is None:
            return ["settings"]
        return [key for key in self.settings.differences(other.settings) if key.partition(".")[0] not in besides]


EMPTY = Tables(pd.DataFrame(columns=RECORD), pd.DataFrame(columns=OF_RUNS))


def of_run(run_dir: Path, benchmark: str, method: str) -> Tables:
    """A complete run, under these names. Raises UserError if it is damaged."""
    settings, summary, env = settings_of(run_dir), read_summary(run_dir), read_env(run_dir)
    name = {"benchmark": benchmark, "method": method, "seed": settings.seed}
    accuracy = pd.DataFrame(read_accuracy(run_dir)).rename_axis(index="round", columns="task")
    records = accuracy.stack().dropna().rename("accuracy").reset_index().assign(**name)[RECORD]
    run = name | {key: "; ".join(dict.fromkeys(str(getattr(entry, key)) for entry in env)) for key in HOW_MADE}
    run |= {"elapsed_sec": summary.elapsed_sec, "peak_mem_gb": summary.peak_mem_gb, "scored_on": summary.scored_on}
    run |= summary.cost.model_dump()
    run["settings"] = settings.model_dump_json(exclude_defaults=True, exclude={"benchmark": {"root"}})
    return Tables(records, pd.DataFrame([run]))


def of_folders(run_dirs: Sequence[Path]) -> tuple[Tables, list[str]]:
    """Run folders given one by one, and remarks; runs that differ by the seed alone are of one method.

    Raises:
        UserError: A folder holds no run, or two folders hold the same one.
    """
    tables, remarks = [EMPTY], []
    taken: dict[tuple[str, str], Settings] = {}
    for run_dir in run_dirs:
        settings = settings_of(run_dir)
        if not is_complete(run_dir):
            remarks.append(f"left out: {run_dir} is not complete")
            continue
        name = _name(settings, taken)
        taken.setdefault(name, settings)
        tables.append(of_run(run_dir, *name))
        if (pd.concat([table.runs for table in tables])[RUN].value_counts() > 1).any():
            raise UserError(f"{run_dir}: expected runs that differ, got one with the settings and seed of another")
    return joined(tables), remarks


def _name(settings: Settings, taken: Mapping[tuple[str, str], Settings]) -> tuple[str, str]:
    """Benchmark and method named by files and settings, numbered if the name stands for something else already."""
    files = f"{settings.benchmark_name}-{settings.recipe_name}"
    in_short = settings.run_name.removeprefix(f"{files}-").removesuffix(f"-s{settings.seed}")
    numbers = ["", *(f" ({number})" for number in range(2, 2 + len(taken)))]
    for benchmark in (files + number for number in numbers):
        others = [other for (name, _), other in taken.items() if name == benchmark]
        if any(key.startswith("benchmark") for other in others for key in other.differences(settings)):
            continue
        for method in (in_short + number for number in numbers):
            other = taken.get((benchmark, method), settings)
            if not other.differences(settings).keys() - {"seed"}:
                return benchmark, method
    raise AssertionError("there is a number that is not taken")


def of_suite(cells: Sequence[Cell]) -> tuple[Tables, list[str]]:
    """The complete runs of a suite's cells, and a remark on each folder that was left out."""
    tables, remarks = [EMPTY], []
    for cell in cells:
        for seed in sorted(int(path.name[1:]) for path in cell.folder.glob("s*") if path.name[1:].isdecimal()):
            if differing := cell.differing(seed):
                remarks.append(f"left out: {differing}")
            elif not is_complete(cell.run_dir(seed)):
                remarks.append(f"left out: {cell.run_dir(seed)} is not complete")
            else:
                tables.append(of_run(cell.run_dir(seed), cell.column, cell.row))
    return joined(tables), remarks


def of_files(folder: Path, cells: Sequence[Cell]) -> tuple[Tables, list[str]]:
    """What a report has written, and remarks; of a suite only the runs that have its settings. Raises UserError."""
    tables = Tables(read_table(folder / "records.csv", RECORD), read_table(folder / "runs.csv", [*RUN, "settings"]))
    wanted = {(cell.column, cell.row): cell for cell in cells}
    others = []
    for run in tables.runs.itertuples() if cells else ():
        cell = wanted.get((run.benchmark, run.method))
        if cell is None or cell.settings_of(run.seed).differences(Settings.model_validate_json(run.settings)):
            others.append([run.benchmark, run.method, run.seed])
    keep = [pd.MultiIndex.from_frame(frame[RUN]).isin(others) for frame in tables]
    remarks = [f"left out: {' / '.join(map(str, name))}: not a run of the suite" for name in others]
    return Tables(*(frame[~is_other] for frame, is_other in zip(tables, keep, strict=True))), remarks


def of_elsewhere(path: Path, ours: Tables) -> Tables:
    """Our runs and those of a csv file with the columns ``RECORD``, of which seed and round may be missing.

    Raises:
        UserError: The file cannot be read, or has a method of ours, the same line twice or an accuracy beyond 0..1.
    """
    found = read_table(path, [key for key in RECORD if key not in ("seed", "round")])
    found = pd.DataFrame({"seed": NO_SEED, "round": 0} | dict(found.items()))[RECORD]
    if not found["accuracy"].between(0, 1).all():
        raise UserError(f"{path}: accuracy: expected fractions in 0..1, got {found['accuracy'].max()}")
    if found.duplicated(RECORD[:-1]).any():
        raise UserError(f"{path}: expected one line for each {', '.join(RECORD[:-1])}, got one twice")
    if len(found.merge(ours.records, on=RUN[:2])):
        raise UserError(f"{path}: expected names of methods that no run has, got one of ours")
    return ours._replace(records=pd.concat([ours.records, found]))


def joined(tables: Sequence[Tables]) -> Tables:
    """All lines, as they come back from csv files, so that a report from files has the same bytes."""
    frames = [pd.concat(parts, ignore_index=True) for parts in zip(*tables, strict=True)]
    return Tables(*(read_table(io.StringIO(to_csv(frame)), RUN) for frame in frames))


def to_csv(frame: pd.DataFrame) -> str:
    """A table as the content of a csv file, numbers in full precision."""
    return frame.to_csv(index=False, lineterminator="\n")


def read_table(source: Path | IO[str], columns: Sequence[str]) -> pd.DataFrame:
    """A csv file that has at least these columns; only an empty cell is no value. Raises UserError."""
    texts = dict.fromkeys((*RUN[:2], *HOW_MADE, "settings"), str)
    options: Any = {"keep_default_na": False, "na_values": [""]}
    try:
        frame = pd.read_csv(source, dtype=texts, **options)
        frame = frame.astype({key: "int64" for key in ("seed", "round", "task") if key in frame})
        frame = frame.astype({key: "float64" for key in ("accuracy",) if key in frame})
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: expected a table of runs as csv ({in_one_line(error)})") from error
    if missing := [key for key in columns if key not in frame]:
        raise UserError(f"{source}: expected the columns {', '.join(columns)}, got no {', '.join(missing)}")
    return frame


def make_results(tables: Tables, cells: Sequence[Cell]) -> list[Result]:
    """The runs by benchmark and method: a suite's cells, those without a run too, or all; then those from elsewhere."""
    settings: dict[tuple[str, str], Settings | None] = {(cell.column, cell.row): cell.settings for cell in cells}
    for benchmark, method, text in tables.runs[[*RUN[:2], "settings"]].itertuples(index=False):
        if (benchmark, method) not in settings:
            settings[benchmark, method] = Settings.model_validate_json(text)
    results = {name: Result(*name, found, {}) for name, found in settings.items()}
    for (benchmark, method, seed), lines in tables.records.groupby(RUN, sort=False):
        result = results.setdefault((benchmark, method), Result(benchmark, method, None, {}))
        result.accuracy[seed] = lines.pivot(index="round", columns="task", values="accuracy").to_numpy()
    return list(results.values())


def read_labelled_csv(path: Path) -> pd.DataFrame:
    """Published numbers: the first column has the lines' names, and lines that begin with ``#`` are comments.

    Raises:
        UserError: The file cannot be read, or is not such a table.
    """
    try:
        return pd.read_csv(path, index_col=0, comment="#").astype(float)
    except (OSError, ValueError) as error:
        expected = "a header, and lines of a name and as many numbers as the header has"
        raise UserError(f"{path}: expected {expected} ({in_one_line(error)})") from error
