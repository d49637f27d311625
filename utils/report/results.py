"""Methods on benchmarks with their finished runs: from a suite's folder, from run folders, from a csv file of others.

A task is its classes: R has a column for each ``TaskKey``, whatever the order in which a run has its tasks.
"""

import csv
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from utils.config import Frozen, Name, Seed, Settings, TaskKey, validate
from utils.errors import UserError, in_one_line
from utils.finished_run import FinishedRun, Fraction
from utils.metrics import compute_metrics
from utils.run_folder import is_complete, read_finished_run
from utils.suite.file import Plan

NO_SEED = -1  # of a run from elsewhere whose seed is not known


@dataclass(frozen=True)
class Result:
    """A method on a benchmark.

    Attributes:
        accuracy: By seed: R, fractions, a row a round, a column a task, NaN where a task has not arrived.
        runs: The finished runs by seed; none for a method from elsewhere.
    """

    benchmark: str
    method: str
    accuracy: dict[int, pd.DataFrame]
    runs: dict[int, FinishedRun] = field(default_factory=dict)

    @property
    def settings(self) -> Settings | None:
        """The settings of its runs, which differ in the seed alone; None for a method from elsewhere."""
        return next((run.settings for run in self.runs.values()), None)

    @property
    def continual(self) -> bool:
        """Whether tasks arrive one at a time."""
        if self.settings:
            return self.settings.continual
        return all(np.array_equal(r.notna(), np.tri(len(r))) for r in self.accuracy.values())

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
    def metrics(self) -> pd.DataFrame:
        """The metrics that have a meaning, a column for each, with a row for each seed."""
        values = {seed: compute_metrics(r.to_numpy(), continual=self.continual) for seed, r in self.accuracy.items()}
        return pd.DataFrame.from_dict(values, orient="index")

    @property
    def learned(self) -> set[TaskKey]:
        """The tasks that every run has learned at the end; the others in ``final`` were guessed in some run."""
        guessed = [(run, t) for run in self.runs.values() for t in run.seen if t not in run.first_round]
        return {*self.final} - {run.settings.benchmark.keys[t] for run, t in guessed}

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
    def how_trained(self) -> dict[str, object]:
        """The settings that say how a task is learned by any method; none of a method from elsewhere."""
        return {key: getattr(self.settings, key, None) for key in ("recipe", "epochs", "samples", "validation")}


def gather(runs: Mapping[tuple[str, str, int], FinishedRun]) -> list[Result]:
    """The results of finished runs by benchmark, method and seed."""
    found: dict[tuple[str, str], dict[int, FinishedRun]] = {}
    for (benchmark, method, seed), run in runs.items():
        found.setdefault((benchmark, method), {})[seed] = run
    results = []
    for name, by_seed in found.items():
        accuracy = {s: pd.DataFrame(run.matrix, columns=run.settings.benchmark.keys) for s, run in by_seed.items()}
        results.append(Result(*name, accuracy, by_seed))
    return results


def of_suite(plan: Plan) -> tuple[list[Result], list[str]]:
    """The results of a suite's cells that have a run, and remarks: on runs that were not made or are left out.

    Raises:
        UserError: A file is damaged, or runs of one benchmark have different data.
    """
    runs: dict[tuple[str, str, int], FinishedRun] = {}
    data: dict[tuple[str, TaskKey], str] = {}
    remarks = []
    for cell in plan.cells:
        for seed in sorted(int(path.name[1:]) for path in cell.folder.glob("s*") if path.name[1:].isdecimal()):
            planned = cell.with_seed(seed)
            if not is_complete(planned.run_dir):
                remarks.append(f"left out: {planned.run_dir} is not complete")
                continue
            run = read_finished_run(planned.run_dir)
            if differing := planned.settings.differences(run.settings):
                remarks.append(f"left out: {planned.run_dir}: other settings, which differ in {', '.join(differing)}")
                continue
            if any(data.setdefault((cell.benchmark, key), digest) != digest for key, digest in run.data_of_tasks):
                problem = "its images or labels are not those of runs before it"
                raise UserError(f"{planned}: {problem}; give run folders one by one to see both")
            runs[cell.benchmark, cell.method, seed] = run
    wanted = [(cell.benchmark, cell.method, seed) for cell in plan.cells for seed in plan.suite.seeds]
    if missing := [name for name in wanted if name not in runs]:
        cells = list(dict.fromkeys(f"{method} / {benchmark}" for benchmark, method, _ in missing))
        which = "; ".join(cells[:6]) + f"; and {len(cells) - 6} more" * (len(cells) > 6)
        count = f"{len(missing)} of {len(wanted)} planned runs"
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
    methods: dict[str, dict[Hashable, str]] = {}
    for run_dir in run_dirs:
        if not is_complete(run_dir):
            if not (run_dir / "config.yaml").exists():
                raise UserError(f"{run_dir}: not a run folder")
            remarks.append(f"left out: {run_dir} is not complete")
            continue
        run = read_finished_run(run_dir)
        settings, files = run.settings, f"{run.settings.benchmark_name}-{run.settings.recipe_name}"
        stem = re.sub(r"-t(\d+tasks|\d+(_\d+)*)$", "", settings.benchmark_name)  # without --task_ids
        benchmark = _name(benchmarks, (stem, settings.recipe_name, frozenset(run.data_of_tasks)), files)
        in_short = settings.run_name.removeprefix(f"{files}-").removesuffix(f"-s{settings.seed}")
        but_seed = repr(settings.model_copy(update={"seed": 0}).compared())
        name = (benchmark, _name(methods.setdefault(benchmark, {}), but_seed, in_short), settings.seed)
        if name in runs:
            raise UserError(f"{run_dir}: the same settings and seed as another of the folders")
        runs[name] = run
    return gather(runs), remarks


def _name(names: dict[Hashable, str], identity: Hashable, wanted: str) -> str:
    """The name of what has this identity: the one that is wanted, with a number if it is taken."""
    numbered = (wanted, *(f"{wanted} ({number})" for number in range(2, len(names) + 2)))
    return names.setdefault(identity, next(free for free in numbered if free not in names.values()))


class _Line(Frozen, extra="ignore"):
    """A line of a csv file of methods from elsewhere; ``task`` is a task's name, or its number in the benchmark."""

    benchmark: Name
    method: Name
    seed: Seed = NO_SEED
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
    rows = list(lines.itertuples())
    our_names = {(result.benchmark, result.method) for result in ours}
    is_ours = [(it.benchmark, it.method) in our_names for it in rows]
    lines["key"] = [tasks.get(it.benchmark, {it.task: TaskKey("", (), it.task)}).get(it.task) for it in rows]
    _refuse(lines[is_ours], "expected a method that no run has")
    _refuse(lines[lines["key"].isna()], "task: expected the name of a task of the benchmark, or its number there")
    _refuse(lines[lines.duplicated(["benchmark", "method", "seed", "round", "key"])], "got this accuracy twice")
    results = []
    for name, of_method in lines.sort_values("round", kind="stable").groupby(["benchmark", "method"], sort=False):
        keys, accuracy = of_method["key"].unique(), {}
        for seed, of_seed in of_method.groupby("seed", sort=False):
            r = of_seed.pivot(index="round", columns="key", values="accuracy").reindex(columns=keys)
            is_lacking = r.isna() & r.ffill().notna()
            is_lacking.iloc[-1] = r.iloc[-1].isna()
            wrong = of_seed[of_seed["round"].map(is_lacking.any(axis="columns"))]
            _refuse(wrong, "the round lacks a task that a round before it has, or at the end another seed")
            accuracy[seed] = r
        results.append(Result(name[0], name[1], accuracy))
    unknown = [name for name in lines["benchmark"].unique() if name not in tasks]
    return results, [f"{path}: no run is on the benchmark {name!r}" for name in unknown]


def _refuse(wrong: pd.DataFrame, problem: str) -> None:
    """Raise UserError for the first of the lines that are wrong, if there are any."""
    for line in wrong.itertuples():
        raise UserError(f"{line.where}: {problem}, got {line.method} / {line.benchmark}, task {line.task}")


def _read_lines(path: Path) -> pd.DataFrame:
    """The lines of a csv file, each with its place for messages in ``where``. Raises UserError."""
    lines = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                values = {key.strip(): value for key, value in row.items() if key and value is not None}
                lines.append({"where": where} | validate(_Line, values, where).model_dump())
        if not lines:
            raise ValueError("it has no line of accuracies")
    except (OSError, ValueError, csv.Error) as error:  # ValueError: not UTF-8, as a compressed file
        raise UserError(f"{path}: expected accuracies as csv ({in_one_line(error)})") from error
    return pd.DataFrame(lines)
