"""The two tables that a report is made of: one with a line for each run, round and task, one with a line for each run.

Both are written beside the report, as ``records.csv`` and ``runs.csv``, and are all that is needed to make it again.
"""

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import ValidationError

from utils.config import Settings
from utils.errors import UserError, in_one_line
from utils.records import Cost
from utils.run_folder import is_complete, read_accuracy, read_env, read_summary, read_zoo, settings_of
from utils.suite.file import Cell, RunName

RUN = list(RunName._fields)
RECORD = [*RUN, "round", "task", "accuracy"]
HOW_MADE = ["commit", "torch", "device", "threads", "precision"]  # each value of a run's invocations, once
OF_RUNS = [*RUN, *HOW_MADE, "elapsed_sec", "peak_mem_gb", "scored_on", *Cost.model_fields, "settings", "data"]
TYPES = dict.fromkeys([*RUN[:2], *HOW_MADE, "settings", "data"], "str") | dict.fromkeys(RECORD[2:5], "int64")
NO_SEED = -1  # of a run from elsewhere whose seed is not known
HOW_TRAINED = ("recipe", "epochs", "samples", "validation")  # settings that say how a task is learned by any method


class Tables(NamedTuple):
    """Complete runs.

    Attributes:
        records: A line for each run, round and task, with the columns ``RECORD``; the accuracy is a fraction.
        runs: A line for each run of ours: how it was made, what it cost, its settings as JSON, and its data as the
            fingerprints of its tasks; no data if the run's zoo was deleted.
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
        matrices = self.accuracy.values()
        return all(r.shape[0] == r.shape[1] and np.isnan(r[np.triu_indices(len(r), 1)]).all() for r in matrices)

    @property
    def tasks(self) -> dict[str, tuple[int | str, ...]]:
        """The classes of each task, by its name; not for a method from elsewhere."""
        assert self.settings, "a method from elsewhere has no tasks"
        return dict(zip(self.settings.benchmark.names, self.settings.benchmark.tasks, strict=True))

    @property
    def final(self) -> pd.DataFrame:
        """The accuracy of each task seen at the end: a row for each seed, a column for each task."""
        return pd.DataFrame({seed: r[-1] for seed, r in self.accuracy.items()}).T.dropna(axis="columns")

    @property
    def flat(self) -> dict[str, Any]:
        """The settings by name, the recipe's keys among them; not for a method from elsewhere."""
        assert self.settings, "a method from elsewhere has no settings"
        return {key.removeprefix("recipe."): value for key, value in self.settings.compared().items()}

    @property
    def is_isolated(self) -> bool:
        """Whether each task has a learner of its own."""
        settings = self.settings
        return bool(settings and settings.continual and (settings.max_per_round == 1 or settings.replay_frac == 0))

    @property
    def is_pair(self) -> bool:
        """Whether one learner has two tasks; only the matrix of a task competition shows such results."""
        settings = self.settings
        one_learner = settings and not settings.continual and settings.total_rounds == 1 and settings.max_per_round > 1
        return bool(one_learner) and len(self.tasks) == 2

    def is_isolated_of(self, other: "Result") -> bool:
        """Whether this is Isolated with the same benchmark, recipe, epochs, samples and validation as the other."""
        return self.is_isolated and not self.differing(other, "benchmark", *HOW_TRAINED)

    def differing(self, other: "Result", *keys: str) -> list[str]:
        """Which of these settings of two results differ; all if one of them is from elsewhere."""
        if self.settings is None or other.settings is None:
            return list(keys)
        return [key for key in self.settings.differences(other.settings) if key.partition(".")[0] in keys]


def of_runs(run_dirs: Mapping[RunName, Path]) -> Tables:
    """Complete runs, by their names here. Raises UserError if one is damaged."""
    records, runs = [], []
    for name, run_dir in run_dirs.items():
        settings, summary, env = settings_of(run_dir), read_summary(run_dir), read_env(run_dir)
        places = np.ndenumerate(read_accuracy(run_dir))
        records += [(*name, *place, accuracy) for place, accuracy in places if not np.isnan(accuracy)]
        run = dict(zip(RUN, name, strict=True)) | summary.model_dump() | summary.cost.model_dump()
        for key in HOW_MADE:
            run[key] = "; ".join(dict.fromkeys(str(entry.get(key) or "not known") for entry in env))
        run |= {"settings": settings.model_dump_json(exclude={"benchmark": {"root"}}), "data": _fingerprints(run_dir)}
        runs.append(run)
    frames = pd.DataFrame(records, columns=RECORD), pd.DataFrame(runs, columns=OF_RUNS)
    # As they come back from csv files, so that a report from files has the same bytes.
    return Tables(*(read_table(io.StringIO(to_csv(frame)), RUN) for frame in frames))


def _fingerprints(run_dir: Path) -> str:
    """The fingerprint of each task's data; none if the run's zoo was deleted, which saves space."""
    return " ".join(task.fingerprint for task in read_zoo(run_dir).tasks) if (run_dir / "zoo").exists() else ""


def _data_of(settings: Settings, data: str) -> dict[Any, Any]:
    """The fingerprints of a run's data, if they are known, by all that they depend on within a benchmark.

    With ``samples`` or ``validation`` the seed decides which images a run has, so that two seeds cannot be compared.
    """
    seed = settings.seed if settings.samples or settings.validation else None
    return {(settings.benchmark.tasks, settings.samples, settings.validation, seed): data} if data else {}


def of_folders(run_dirs: Sequence[Path]) -> tuple[Tables, list[str]]:
    """Run folders given one by one, and remarks; runs that differ by the seed alone are of one method.

    A benchmark of the same name with other tasks or other data has a number.

    Raises:
        UserError: A folder holds no run, or two folders hold the same one.
    """
    complete: dict[RunName, Path] = {}
    remarks = []
    taken: defaultdict[str, dict[str, dict[Any, Any]]] = defaultdict(dict)  # by benchmark; "" has those of benchmarks
    for run_dir in run_dirs:
        settings = settings_of(run_dir)
        if not is_complete(run_dir):
            remarks.append(f"left out: {run_dir} is not complete")
            continue
        files = f"{settings.benchmark_name}-{settings.recipe_name}"
        in_short = settings.run_name.removeprefix(f"{files}-").removesuffix(f"-s{settings.seed}")
        data = settings.benchmark.model_dump(exclude={"root"}) | _data_of(settings, _fingerprints(run_dir))
        benchmark = _numbered(files, data, taken[""])
        rest = settings.model_copy(update={"seed": 0}).compared()
        name = RunName(benchmark, _numbered(in_short, rest, taken[benchmark]), settings.seed)
        if name in complete:
            raise UserError(f"{run_dir}: the same settings and seed as {complete[name]}")
        complete[name] = run_dir
    return of_runs(complete), remarks


def _numbered(name: str, content: dict[Any, Any], taken: dict[str, dict[Any, Any]]) -> str:
    """The name for this content: with a number, if the name stands for another value of one of its keys already."""
    numbered, number = name, 1
    while any(taken.get(numbered, {}).get(key, value) != value for key, value in content.items()):
        number += 1
        numbered = f"{name} ({number})"
    taken.setdefault(numbered, {}).update(content)
    return numbered


def of_suite(cells: Sequence[Cell]) -> tuple[Tables, list[str]]:
    """The complete runs of a suite's cells, and a remark on each folder that was left out."""
    complete, remarks = {}, []
    for cell in cells:
        for seed in sorted(int(path.name[1:]) for path in cell.folder.glob("s*") if path.name[1:].isdecimal()):
            if differing := cell.differing(seed):
                remarks.append(f"left out: {differing}")
            elif not is_complete(cell.run_dir(seed)):
                remarks.append(f"left out: {cell.run_dir(seed)} is not complete")
            else:
                complete[cell.run(seed)] = cell.run_dir(seed)
    return of_runs(complete), remarks


def of_files(folder: Path, cells: Sequence[Cell]) -> tuple[Tables, list[str]]:
    """What a report has written, and remarks; of a suite only the runs that have its settings.

    Raises:
        UserError: A file cannot be read, or a run of ``runs.csv`` does not have all its accuracies in ``records.csv``.
    """
    tables = Tables(read_table(folder / "records.csv", RECORD), read_table(folder / "runs.csv", OF_RUNS))
    _check_lines(folder / "records.csv", tables.records, RECORD[:-1])
    _check_lines(folder / "runs.csv", tables.runs, RUN)
    num_lines = tables.records.groupby(RUN).size()
    wanted = {(cell.column, cell.row): cell for cell in cells}
    others = []
    for run in tables.runs.itertuples():
        try:
            settings = Settings.model_validate_json(run.settings)
        except ValidationError as error:
            expected = "expected the settings of a run of this version"
            raise UserError(f"{folder / 'runs.csv'}: settings: {expected} ({in_one_line(error)})") from error
        name = RunName(run.benchmark, run.method, run.seed)
        num_accuracies = int(num_lines.get(name, 0))
        if num_accuracies != (num_expected := _num_accuracies(settings)):
            raise UserError(
                f"{folder / 'records.csv'}: {name}: expected {num_expected} accuracies, got {num_accuracies}"
            )
        cell = wanted.get((run.benchmark, run.method))
        if cells and (cell is None or cell.settings_of(run.seed).differences(settings)):
            others.append(name)
    remarks = [f"left out: {name}: not a run of the suite" for name in others]
    return Tables(*(frame[~frame.set_index(RUN).index.isin(others)] for frame in tables)), remarks


def _num_accuracies(settings: Settings) -> int:
    """How many accuracies a complete run has: after each round those of the tasks seen."""
    num_tasks = len(settings.benchmark.tasks)
    return sum(round_id + 1 if settings.continual else num_tasks for round_id in range(settings.total_rounds))


def _check_lines(path: Path, frame: pd.DataFrame, names: list[str]) -> None:
    """Raises UserError if a table has two lines with the same names, or an accuracy beyond 0..1."""
    if frame.duplicated(names).any():
        raise UserError(f"{path}: expected one line for each {', '.join(names)}, got one twice")
    if "accuracy" in frame and not frame["accuracy"].between(0, 1).all():
        raise UserError(f"{path}: accuracy: expected fractions in 0..1, got {frame['accuracy'].max()}")


def of_elsewhere(path: Path, ours: Tables) -> Tables:
    """Our runs and those of a csv file with the columns ``RECORD``, of which seed and round may be missing.

    Raises:
        UserError: The file cannot be read, or has a method of ours, the same line twice or an accuracy beyond 0..1.
    """
    found = read_table(path, [key for key in RECORD if key not in ("seed", "round")])
    found = pd.DataFrame({"seed": NO_SEED, "round": 0} | dict(found.items()))[RECORD]
    _check_lines(path, found, RECORD[:-1])
    if len(found.merge(ours.records, on=RUN[:2])):
        raise UserError(f"{path}: expected names of methods that no run has, got one of ours")
    return ours._replace(records=pd.concat([ours.records, found]))


def to_csv(frame: pd.DataFrame) -> str:
    """A table as the content of a csv file, numbers in full precision."""
    return frame.to_csv(index=False, lineterminator="\n")


def read_table(source: Path | IO[str], columns: Sequence[str]) -> pd.DataFrame:
    """A csv file that has at least these columns; only an empty cell is no value. Raises UserError."""
    try:
        frame = pd.read_csv(source, dtype=TYPES | {"accuracy": "float64"}, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: expected a table of runs as csv ({in_one_line(error)})") from error
    if missing := [key for key in columns if key not in frame]:
        raise UserError(f"{source}: expected the columns {', '.join(columns)}, got no {', '.join(missing)}")
    return frame


def make_results(tables: Tables, cells: Sequence[Cell]) -> list[Result]:
    """The runs by benchmark and method: a suite's cells, those without a run too, or all; then those from elsewhere.

    Raises:
        UserError: Runs of one benchmark have different data, or accuracies of a run have no line in ``tables.runs``.
    """
    made = set(tables.runs[RUN].itertuples(index=False, name=None))
    results = {(cell.column, cell.row): Result(cell.column, cell.row, cell.settings, {}) for cell in cells}
    benchmarks: dict[str, dict[Any, Any]] = {}
    for run in tables.runs.fillna({"data": ""}).itertuples():
        settings = Settings.model_validate_json(run.settings)
        if _numbered(run.benchmark, _data_of(settings, run.data), benchmarks) != run.benchmark:
            problem = "its images or labels are not those of runs before it; give run folders one by one to see both"
            raise UserError(f"{RunName(run.benchmark, run.method, run.seed)}: {problem}")
        results.setdefault((run.benchmark, run.method), Result(run.benchmark, run.method, settings, {}))
    for (benchmark, method, seed), lines in tables.records.groupby(RUN, sort=False):
        result = results.setdefault((benchmark, method), Result(benchmark, method, None, {}))
        if result.settings and (name := RunName(benchmark, method, seed)) not in made:
            raise UserError(f"{name}: expected a line in runs.csv, as it has accuracies in records.csv")
        result.accuracy[seed] = lines.pivot(index="round", columns="task", values="accuracy").to_numpy()
    return list(results.values())


def read_labelled_csv(path: Path) -> pd.DataFrame:
    """Published numbers: the first column has the lines' names, and lines that begin with ``#`` are comments.

    Raises:
        UserError: The file cannot be read, or is not such a table.
    """
    try:
        table = pd.read_csv(path, index_col=0, comment="#").astype(float)
        if table.empty or not table.index.is_unique:
            raise ValueError("there are no numbers, or a line's name is there twice")
        return table
    except (OSError, ValueError) as error:
        expected = "published numbers as csv, a header and lines of a name and as many numbers as the header has"
        raise UserError(f"{path}: expected {expected} ({in_one_line(error)})") from error
