"""Methods on benchmarks with their finished runs: from a suite's folder, from run folders, from a csv file of others.

A task is its classes: R has a column for each ``TaskKey``, whatever the order in which a run has its tasks.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from utils.config import Frozen, Name, Seed, Settings, TaskKey, validate
from utils.errors import UserError, in_one_line
from utils.finished_run import FinishedRun, Fraction
from utils.run_folder import is_complete, read_finished_run
from utils.suite.file import Plan

NO_SEED = -1  # of a run from elsewhere whose seed is not known


@dataclass(frozen=True)
class Result:
    """A method on a benchmark.

    Attributes:
        settings: The settings of its runs, which differ in the seed alone; None for a method from elsewhere.
        accuracy: By seed: R, fractions, a row a round, a column a task, NaN where a task has not arrived.
        runs: The finished runs by seed; none for a method from elsewhere.
        guessed: The tasks that were never learned in some run, although they are in its average.
    """

    benchmark: str
    method: str
    settings: Settings | None
    accuracy: dict[int, pd.DataFrame]
    runs: dict[int, FinishedRun] = field(default_factory=dict)
    guessed: frozenset[TaskKey] = frozenset()

    @property
    def continual(self) -> bool:
        """Whether tasks arrive one at a time."""
        if self.settings:
            return self.settings.continual
        matrices = [r.to_numpy() for r in self.accuracy.values()]
        return all(r.shape[0] == r.shape[1] and np.isnan(r[np.triu_indices(len(r), 1)]).all() for r in matrices)

    @cached_property
    def final(self) -> pd.DataFrame:
        """The accuracy of each task that all runs have seen at the end: a row for each seed, a column for each task."""
        ends = {seed: r.iloc[-1] for seed, r in self.accuracy.items()}
        return pd.concat(ends, axis="columns", sort=False).T.dropna(axis="columns")

    @property
    def tasks(self) -> Sequence[TaskKey]:
        """The tasks of the benchmark, or those of a method from elsewhere."""
        return self.settings.benchmark.keys if self.settings else list(self.final)

    @property
    def learned(self) -> set[TaskKey]:
        """The tasks that every run has learned at the end."""
        return {*self.final} - self.guessed

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
        """Whether this is Isolated on the same tasks, with the same recipe, epochs and images as the other."""
        return self.is_isolated and {*self.tasks} == {*other.tasks} and self.how_trained == other.how_trained

    @property
    def how_trained(self) -> dict[str, Any]:
        """The settings that say how a task is learned by any method; none of a method from elsewhere."""
        return {key: getattr(self.settings, key, None) for key in ("recipe", "epochs", "samples", "validation")}


def gather(runs: Iterable[tuple[str, str, FinishedRun]]) -> list[Result]:
    """The results of finished runs, each given with the names of its benchmark and its method."""
    found: dict[tuple[str, str], dict[int, FinishedRun]] = {}
    for benchmark, method, run in runs:
        found.setdefault((benchmark, method), {})[run.settings.seed] = run
    results = []
    for name, by_seed in found.items():
        keys = {seed: run.settings.benchmark.keys for seed, run in by_seed.items()}
        accuracy = {seed: pd.DataFrame(run.matrix, columns=keys[seed]) for seed, run in by_seed.items()}
        guessed = [keys[seed][t] for seed, run in by_seed.items() for t in run.seen if t not in run.first_round]
        settings = next(iter(by_seed.values())).settings
        results.append(Result(*name, settings, accuracy, by_seed, frozenset(guessed)))
    return results


def of_suite(plan: Plan) -> tuple[list[Result], list[str]]:
    """The results of a suite's cells that have a run, and remarks: on runs that were not made or are left out.

    Raises:
        UserError: A file is damaged, or runs of one benchmark have different data.
    """
    runs, remarks = [], []
    data: dict[tuple[str, TaskKey], str] = {}
    for cell in plan.cells:
        for seed in sorted(int(path.name[1:]) for path in cell.folder.glob("s*") if path.name[1:].isdecimal()):
            planned = cell.run(seed)
            if not is_complete(planned.run_dir):
                remarks.append(f"left out: {planned.run_dir} is not complete")
                continue
            run = read_finished_run(planned.run_dir)
            if differing := planned.settings.differences(run.settings):
                remarks.append(f"left out: {planned.run_dir}: other settings, which differ in {', '.join(differing)}")
                continue
            if any(data.setdefault((cell.benchmark, key), digest) != digest for key, digest in run.data_of_tasks):
                problem = (
                    "its images or labels are not those of runs before it; give run folders one by one to see both"
                )
                raise UserError(f"{planned}: {problem}")
            runs.append((cell.benchmark, cell.method, run))
    made = [(benchmark, method, run.settings.seed) for benchmark, method, run in runs]
    all_planned = [(cell.benchmark, cell.method, seed) for cell in plan.cells for seed in plan.suite.seeds]
    if missing := [name for name in all_planned if name not in made]:
        cells = list(dict.fromkeys(f"{method} / {benchmark}" for benchmark, method, _ in missing))
        which = "; ".join(cells[:6]) + f"; and {len(cells) - 6} more" * (len(cells) > 6)
        count = f"{len(missing)} of {len(all_planned)} planned runs"
        remarks.insert(0, f"Not run: {count} ({which}). To make them: {plan.command}")
    return gather(runs), remarks


def of_folders(run_dirs: Sequence[Path]) -> tuple[list[Result], list[str]]:
    """The results of run folders given one by one, and remarks.

    Runs on the same tasks and data are of one benchmark, whatever the order of the tasks; those that differ in the seed
    alone are of one method. Where a name stands for something else already, a number is added to it.

    Raises:
        UserError: A folder holds no run, or two folders hold the same one.
    """
    runs: dict[tuple[str, str, int], FinishedRun] = {}
    remarks = []
    benchmarks: dict[Hashable, str] = {}
    methods: defaultdict[str, dict[Hashable, str]] = defaultdict(dict)
    for run_dir in run_dirs:
        if not is_complete(run_dir):
            if not (run_dir / "config.yaml").exists():
                raise UserError(f"{run_dir}: not a run folder")
            remarks.append(f"left out: {run_dir} is not complete")
            continue
        run = read_finished_run(run_dir)
        settings, files = run.settings, f"{run.settings.benchmark_name}-{run.settings.recipe_name}"
        stem = re.sub(r"-t(\d+tasks|\d+(_\d+)*)$", "", settings.benchmark_name)  # without --task_ids
        tasks_and_data = (stem, settings.recipe_name, frozenset(run.data_of_tasks))
        benchmark = _name(benchmarks, tasks_and_data, files)
        in_short = settings.run_name.removeprefix(f"{files}-").removesuffix(f"-s{settings.seed}")
        but_seed = repr(settings.model_copy(update={"seed": 0}).compared())
        name = (benchmark, _name(methods[benchmark], but_seed, in_short), settings.seed)
        if name in runs:
            raise UserError(f"{run_dir}: the same settings and seed as another of the folders")
        runs[name] = run
    return gather((*name[:2], run) for name, run in runs.items()), remarks


def _name(names: dict[Hashable, str], identity: Hashable, wanted: str) -> str:
    """The name of what has this identity: the one that is wanted, with a number if it is taken."""
    numbered = (wanted, *(f"{wanted} ({number})" for number in range(2, len(names) + 2)))
    return names.setdefault(identity, next(free for free in numbered if free not in names.values()))


class _Line(Frozen):
    """A line of a csv file of methods from elsewhere; ``task`` is a task's name, or its number in the benchmark."""

    benchmark: Name
    method: Name
    seed: Seed | None = None
    round: int = 0
    task: Name
    accuracy: Fraction


def of_elsewhere(path: Path, ours: Sequence[Result]) -> tuple[list[Result], list[str]]:
    """The methods in a csv file with the columns of ``_Line``, and a remark on each benchmark that no run has.

    Raises:
        UserError: The file cannot be read, or has a mistake; the message has the number of the line.
    """
    lines = _read_lines(path)
    tasks: dict[str, dict[str, TaskKey]] = {}
    for result in ours:
        numbers = {str(number): key for number, key in enumerate(result.tasks)}
        tasks.setdefault(result.benchmark, numbers | {key.name: key for key in result.tasks})
    names = lines[["benchmark", "method"]].itertuples(index=False, name=None)
    is_ours = pd.Series([name in {(result.benchmark, result.method) for result in ours} for name in names])
    asked = lines[["benchmark", "task"]].itertuples(index=False)
    lines["key"] = [tasks.get(it.benchmark, {it.task: TaskKey("", (), it.task)}).get(it.task) for it in asked]
    _refuse(lines, is_ours, "expected a method that no run has")
    _refuse(lines, lines["key"].isna(), "task: expected the name of a task of the benchmark, or its number there")
    _refuse(lines, lines.duplicated(["benchmark", "method", "seed", "round", "key"]), "got this accuracy twice")
    results = []
    for name, of_method in lines.sort_values("round", kind="stable").groupby(["benchmark", "method"], sort=False):
        keys = list(of_method["key"].unique())
        accuracy = {}
        for seed, of_seed in of_method.groupby("seed", sort=False):
            table = of_seed.assign(task=of_seed["key"].map(keys.index)).pivot(index="round", columns="task")
            known = table["accuracy"].reindex(columns=range(len(keys))).notna()
            expected = known.cummax()
            expected.iloc[-1] = True
            is_lacking = of_seed["round"].map((expected & ~known).any(axis="columns"))
            _refuse(
                of_seed, is_lacking, "the round lacks a task that a round before it has, or at the end another seed"
            )
            accuracy[int(seed)] = table["accuracy"].rename(columns=dict(enumerate(keys)))
        results.append(Result(name[0], name[1], None, accuracy))
    unknown = [name for name in lines["benchmark"].unique() if name not in tasks]
    return results, [f"{path}: no run is on the benchmark {name!r}" for name in unknown]


def _refuse(lines: pd.DataFrame, is_wrong: pd.Series, problem: str) -> None:
    """Raise UserError for the first line that is wrong."""
    for line in lines[is_wrong].itertuples():
        raise UserError(f"{line.where}: {problem}, got {line.method} / {line.benchmark}, task {line.task}")


def _read_lines(path: Path) -> pd.DataFrame:
    """The lines of a csv file, each with its place for messages in ``where``. Raises UserError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [(f"{path}, line {reader.line_num}", row) for row in reader]
        if not rows:
            raise ValueError("it has no line of accuracies")
    except (OSError, ValueError, csv.Error) as error:  # ValueError: not UTF-8, as a compressed file
        raise UserError(f"{path}: expected accuracies as csv ({in_one_line(error)})") from error
    lines = []
    for where, row in rows:
        values = {key.strip(): value for key, value in row.items() if key and value is not None}
        line = validate(_Line, {key: values[key] for key in _Line.model_fields if key in values}, where)
        lines.append({"where": where} | line.model_dump())
    return pd.DataFrame(lines, columns=["where", *_Line.model_fields]).fillna({"seed": NO_SEED})
