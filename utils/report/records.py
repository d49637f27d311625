"""Complete runs read back from their folders, gathered by method and benchmark."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from utils.config import Settings
from utils.errors import UserError
from utils.records import Invocation, Summary
from utils.run_folder import is_complete, read_accuracy, read_env, read_summary, settings_of
from utils.suite.file import Cell

OF_THE_METHOD = set(Settings.model_fields) - {"benchmark", "recipe", "epochs", "samples", "validation"}


class RunRecord(NamedTuple):
    """A complete run.

    Attributes:
        accuracy: R, float ``[rounds, T]``, NaN where a task has not arrived.
        summary: The content of ``summary.json``.
        env: The run's invocations, from ``env.json``.
        folder: The run's folder.
    """

    accuracy: np.ndarray
    summary: Summary
    env: list[Invocation]
    folder: Path


@dataclass(frozen=True)
class Result:
    """A method on a benchmark, with its complete runs by seed.

    Attributes:
        row: The method's name.
        column: The benchmark's name.
        settings: The settings of its runs; their seeds differ.
    """

    row: str
    column: str
    settings: Settings
    runs: dict[int, RunRecord] = field(default_factory=dict)

    def values(self, metric: str) -> list[float]:
        """A metric of each run that has it, as a fraction."""
        values = [run.summary.metrics.get(metric) for run in self.runs.values()]
        return [value for value in values if value is not None]

    def final_accuracy(self) -> dict[int, tuple[float, ...]]:
        """The accuracy by task at the end of each run, by seed."""
        return {seed: run.summary.final_accuracy for seed, run in self.runs.items()}

    @property
    def flat(self) -> dict[str, Any]:
        """The settings by name, the recipe's keys among them."""
        return (
            self.settings.model_dump(exclude={"recipe", "recipe_name", "changed"}) | self.settings.recipe.model_dump()
        )

    @property
    def is_isolated(self) -> bool:
        """Whether each task has a learner of its own."""
        return self.settings.continual and (self.settings.tasks_per_round == 1 or self.settings.replay_frac == 0)

    def is_isolated_of(self, other: "Result") -> bool:
        """Whether this is Isolated with the same benchmark, recipe, epochs, samples and validation as the other."""
        return self.is_isolated and not self.differing(other, besides=OF_THE_METHOD)

    def differing(self, other: "Result", *, besides: set[str]) -> list[str]:
        """The settings in which two results differ, besides some."""
        return [key for key in self.settings.differences(other.settings) if key.partition(".")[0] not in besides]


def scored_in_all(results: Sequence[Result]) -> str:
    """Which images were scored in all complete runs: "validation" or "test". Raises UserError if both were."""
    folders = {result.settings.scored_on: run.folder for result in results for run in result.runs.values()}
    if len(folders) > 1:
        expected = "expected runs that were scored on test images, or on validation images"
        raise UserError(f"{expected}, got test in {folders['test']} and validation in {folders['validation']}")
    return next(iter(folders or [result.settings.scored_on for result in results]), "test")


def read_run(run_dir: Path) -> RunRecord:
    """Read a complete run from its folder. Raises UserError if it is damaged."""
    return RunRecord(read_accuracy(run_dir), read_summary(run_dir), read_env(run_dir), run_dir)


def of_suite(cells: Sequence[Cell]) -> tuple[list[Result], list[str]]:
    """A result for each cell of a suite, and a remark on each folder that was left out."""
    results, remarks = [], []
    for cell in cells:
        result = Result(cell.row, cell.column, cell.settings)
        for seed in sorted(int(path.name[1:]) for path in cell.folder.glob("s*") if path.name[1:].isdecimal()):
            if differing := cell.differing(seed):
                remarks.append(f"left out: {differing}")
            elif not is_complete(cell.run_dir(seed)):
                remarks.append(f"left out: {cell.run_dir(seed)} is not complete")
            else:
                result.runs[seed] = read_run(cell.run_dir(seed))
        results.append(result)
    return results, remarks


def of_folders(run_dirs: Sequence[Path]) -> tuple[list[Result], list[str]]:
    """Results of run folders given one by one, and remarks; runs that differ by the seed alone are of one method.

    Raises:
        UserError: A folder holds no run, or two folders hold the same one.
    """
    results: list[Result] = []
    remarks = []
    for run_dir in run_dirs:
        settings = settings_of(run_dir)
        if not is_complete(run_dir):
            remarks.append(f"left out: {run_dir} is not complete")
            continue
        new = _new_result(settings, results)
        result = next((result for result in results if not result.differing(new, besides={"seed"})), new)
        if result is new:
            results.append(new)
        if settings.seed in result.runs:
            raise UserError(f"{run_dir}: expected runs that differ, got one with the settings and seed of another")
        result.runs[settings.seed] = read_run(run_dir)
    return results, remarks


def _new_result(settings: Settings, others: Sequence[Result]) -> Result:
    """A result named by its files and settings; numbered if the name stands for something else already."""
    files = f"{settings.benchmark_name}-{settings.recipe_name}"
    in_short = settings.run_name.removeprefix(f"{files}-").removesuffix(f"-s{settings.seed}")
    column = _name(files, settings.benchmark, {other.column: other.settings.benchmark for other in others})
    rows = {other.row: other.settings.recipe for other in others if other.column == column}
    return Result(_name(in_short, settings.recipe, rows), column, settings)


def _name(short: str, value: Any, taken: Mapping[str, Any]) -> str:
    """The first of ``short``, ``short (2)``, ... that stands for the value, or for nothing yet."""
    names = itertools.chain([short], (f"{short} ({number})" for number in itertools.count(2)))
    return next(name for name in names if taken.get(name, value) == value)
