"""A suite file: which runs make a table, and the published numbers beside it.

Rows are methods, columns are benchmarks with a recipe; a cell of the table is a row in a column, a run is a cell with
a seed. Nothing here imports torch: a suite is checked in an instant.
"""

import csv
import itertools
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, StrictInt, StrictStr, model_validator

from utils.config import (
    Benchmark,
    ConfigError,
    Frozen,
    Grow,
    Settings,
    build_parser,
    read_benchmark,
    read_command,
    read_settings,
    read_yaml,
    validate,
)

Metric = Literal["average_accuracy", "learning_accuracy", "forgetting", "forgetting_chaudhry", "backward_transfer"]
TaskIds = Annotated[tuple[StrictInt, ...], Field(min_length=1)]


class Column(Frozen):
    """A benchmark with a recipe.

    Attributes:
        flags: beside those of the suite and the row.
        task_ids: the tasks of the benchmark that are taken, in this order; all, if not given.
        pairs_of: in place of it: a column for each two of these tasks, with these two alone.
        rows: that are run in this column; all, if none is named.
    """

    benchmark: Path
    recipe: Path
    flags: StrictStr = ""
    task_ids: TaskIds | None = None
    pairs_of: TaskIds | None = None
    rows: tuple[StrictStr, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> "Column":
        if self.task_ids and self.pairs_of:
            raise ValueError("task_ids, pairs_of: expected one of them, got both")
        return self


class Published(Frozen):
    """Numbers of a method from one source, in percent, by column."""

    row: StrictStr
    metric: Metric = "average_accuracy"
    percent: dict[StrictStr, float]
    source: StrictStr


def read_labelled_csv(path: Path) -> tuple[list[str], dict[str, list[float]]]:
    """The header without its first word, and each line's numbers by its first word; empty cells are NaN.

    Lines that begin with ``#`` are passed over.

    Raises:
        ConfigError: the file cannot be read, or is not such a table.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(line for line in file if not line.startswith("#"))
        rows = {line[0]: [float(cell) if cell else float("nan") for cell in line[1:]] for line in lines}
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{path}: expected a header and lines of a name and numbers ({error})") from error
    if any(len(row) != len(header) - 1 for row in rows.values()):
        raise ConfigError(f"{path}: expected {len(header) - 1} numbers in each line, as the header has")
    return header[1:], rows


class Curves(Frozen):
    """Published average accuracies of the tasks seen, by round: a csv with a line a method, in percent."""

    column: StrictStr
    file: Path
    source: StrictStr

    def by_method(self) -> dict[str, list[float]]:
        """The curves, in percent. Raises ConfigError."""
        return read_labelled_csv(self.file)[1]


class Competition(Frozen):
    """What a task gains by another: columns of the suite, and the published matrix (a csv, in points).

    Attributes:
        alone: the column in which each task is learned alone.
        together: the column of pairs.
        names: each name in the file -> the task's name in the benchmark.
    """

    alone: StrictStr
    together: StrictStr
    file: Path
    source: StrictStr
    names: dict[StrictStr, StrictStr]

    def published_gains(self, task_names: Sequence[str]) -> list[list[float]]:
        """The published matrix in the order of our tasks, matched by name, as fractions. Raises ConfigError."""
        header, rows = read_labelled_csv(self.file)
        unknown = [name for name in [*header, *rows] if name not in self.names]
        if unknown:
            raise ConfigError(f"competition.names: expected each name in {self.file}, got none for {unknown[0]!r}")
        gains = {
            (self.names[one], self.names[other]): gain / 100
            for one, values in rows.items()
            for other, gain in zip(header, values, strict=True)
        }
        missing = [name for name in task_names if (name, name) not in gains]
        if missing:
            raise ConfigError(f"competition.names: expected each task's name, got none for {missing[0]!r}")
        return [[gains[one, other] for other in task_names] for one in task_names]


class Suite(Frozen):
    """What a suite file says. ``sweep`` is the setting by which its rows differ, where a figure is to show that."""

    title: StrictStr
    rows: dict[StrictStr, StrictStr] = Field(min_length=1)
    columns: dict[StrictStr, Column] = Field(min_length=1)
    flags: StrictStr = ""
    seeds: Annotated[tuple[Annotated[StrictInt, Field(ge=0)], ...], Field(min_length=1)]
    metrics: tuple[Metric, ...] = ("average_accuracy",)
    published: tuple[Published, ...] = ()
    curves: Curves | None = None
    sweep: Literal["replay_frac", "tasks_per_round", "samples"] | None = None
    competition: Competition | None = None

    @model_validator(mode="after")
    def _check(self) -> "Suite":
        for kind, names in (("rows", self.rows), ("columns", self.columns)):
            slugs = [slug(name) for name in names]
            if "" in slugs or len(set(slugs)) < len(slugs):
                raise ValueError(f"{kind}: expected names that differ in letters or digits, got {', '.join(names)}")
        self._once("seeds", self.seeds)
        for column, values in self.columns.items():
            self._known(f"columns.{column}.rows", values.rows, self.rows)
            self._once(f"columns.{column}.rows", values.rows)
        self._once("published", [(p.row, p.metric, column) for p in self.published for column in p.percent])
        for place, published in enumerate(self.published):
            self._known(f"published[{place}].row", [published.row], self.rows)
            self._known(f"published[{place}].percent", published.percent, self.columns)
        if self.curves:
            self._known("curves.column", [self.curves.column], self.columns)
        if self.competition:
            for key in ("alone", "together"):
                self._known(f"competition.{key}", [getattr(self.competition, key)], self.columns)
                if len(self.columns[getattr(self.competition, key)].rows) != 1:
                    raise ValueError(f"competition.{key}: expected a column with one row in its rows")
            alone, together = (self.columns[getattr(self.competition, key)] for key in ("alone", "together"))
            if not together.pairs_of:
                raise ValueError("competition.together: expected a column with pairs_of")
            if alone.pairs_of or (alone.task_ids and not set(together.pairs_of) <= set(alone.task_ids)):
                raise ValueError("competition.alone: expected a column with every task of the pairs")
        return self

    @staticmethod
    def _once(key: str, items: Sequence[Any]) -> None:
        for item in items:
            if items.count(item) > 1:
                raise ValueError(f"{key}: expected each once, got {item!r} twice")

    @staticmethod
    def _known(key: str, names: Any, known: dict[str, Any]) -> None:
        for name in names:
            if name not in known:
                raise ValueError(f"{key}: expected one of {', '.join(known)}, got {name!r}")


@dataclass(frozen=True)
class Cell:
    """A method on a benchmark; with a seed it is a run.

    Attributes:
        row: the method.
        column: the benchmark's name; of a column of pairs, with the two task ids.
        group: the column's key in the suite file.
        flags: of ``modelzoo.py``, the seed apart.
        settings: what they come to, with the suite's first seed.
        folder: where its runs lie.
        reduced: what ``benchmark_path`` is to hold, where only some tasks are taken.
    """

    row: str
    column: str
    group: str
    flags: tuple[str, ...]
    settings: Settings
    folder: Path
    benchmark_path: Path
    reduced: str | None

    def run_dir(self, seed: int) -> Path:
        """The run folder."""
        return self.folder / f"s{seed}"

    def settings_of(self, seed: int) -> Settings:
        """The settings of a run."""
        return self.settings.model_copy(update={"seed": seed})

    def differing(self, seed: int) -> str | None:
        """What the run folder that is there has otherwise; None where it fits, or where there is none.

        Raises:
            ConfigError: it holds a ``config.yaml`` that is not one.
        """
        path = self.run_dir(seed) / "config.yaml"
        if not path.exists():
            return None
        old, new = read_settings(path).computed, self.settings_of(seed).computed
        keys = [key for key in new if old[key] != new[key]]
        return f"{path}: expected the suite's settings, got others for {', '.join(keys)}" if keys else None


def slug(name: str) -> str:
    """A name as a part of a path: ``Model Zoo, b = 5`` is ``model_zoo_b_5``."""
    return re.sub(r"[^a-z0-9.]+", "_", name.lower()).strip("_.")


def read_suite(path: Path) -> Suite:
    """A suite file. Raises ConfigError."""
    return validate(Suite, read_yaml(path), path)


def suite_folder(path: Path, suite_dir: Path | None) -> Path:
    """Where a suite's runs lie: as asked, or ``runs/`` and the suite file's name."""
    return suite_dir or Path("runs") / path.stem


def read_cells(suite: Suite, path: Path, folder: Path) -> list[Cell]:
    """All cells of a suite, each command line checked with its files; writes nothing that stays.

    Args:
        suite: what the file says.
        path: the file, for messages.
        folder: where the suite's runs lie, or are to lie.

    Raises:
        ConfigError: one line that names the suite file and the place of the mistake in it.
    """
    cells = []
    with tempfile.TemporaryDirectory() as scratch:
        for group, column in suite.columns.items():
            _check_tasks(group, column, path)
            for name, task_ids in _spread(group, column):
                for row in column.rows or suite.rows:
                    try:
                        cells.append(_cell(suite, row, name, group, task_ids, folder, Path(scratch)))
                    except ConfigError as mistake:
                        raise ConfigError(f"{path}: row {row}, column {name}: {mistake}") from mistake
    _check_published(suite, path, cells)
    return cells


def _check_published(suite: Suite, path: Path, cells: Sequence[Cell]) -> None:
    """Raise ConfigError where a csv with published numbers cannot be read, or does not fit."""
    try:
        if suite.curves:
            suite.curves.by_method()
        if suite.competition:
            alone = next(cell for cell in cells if cell.group == suite.competition.alone)
            suite.competition.published_gains(alone.settings.benchmark.names)
            for cell in cells:
                if cell.group == suite.competition.together:
                    _check_alike(cell.settings, alone.settings)
    except ConfigError as mistake:
        raise ConfigError(f"{path}: {mistake}") from mistake


def _check_alike(together: Settings, alone: Settings) -> None:
    """Raise ConfigError where a pair of tasks is not learned as each of them is alone."""
    either = {"benchmark", "continual", "tasks_per_round", "num_rounds"}
    keys = [key for key, value in together.computed.items() if key not in either and value != alone.computed[key]]
    if keys:
        raise ConfigError(
            f"competition: expected alone and together with the same settings, got other {', '.join(keys)}"
        )
    known = dict(zip(alone.benchmark.names, alone.benchmark.tasks, strict=True))
    for name, classes in zip(together.benchmark.names, together.benchmark.tasks, strict=True):
        if known.get(name) != classes:
            raise ConfigError(f"competition.together: expected tasks of competition.alone, got {name!r}, none of them")


def _check_tasks(group: str, column: Column, path: Path) -> None:
    """Raise ConfigError where the column takes tasks that its benchmark does not have."""
    try:
        num_tasks = len(read_benchmark(column.benchmark).tasks)
    except ConfigError as mistake:
        raise ConfigError(f"{path}: columns.{group}.benchmark: {mistake}") from mistake
    key = "pairs_of" if column.pairs_of else "task_ids"
    task_ids = column.pairs_of or column.task_ids or ()
    wrong = [task_id for task_id in task_ids if not 0 <= task_id < num_tasks or task_ids.count(task_id) > 1]
    if wrong or (column.pairs_of and len(task_ids) < 2):
        expected = f"expected{' two or more' if column.pairs_of else ''} task ids 0..{num_tasks - 1}, each once"
        raise ConfigError(f"{path}: columns.{group}.{key}: {expected}, got {wrong or list(task_ids)}")


def _spread(group: str, column: Column) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """The name and the tasks of each column that a column of the file stands for."""
    if column.pairs_of is None:
        yield group, column.task_ids
        return
    for one, other in itertools.combinations(column.pairs_of, 2):
        yield f"{group} {one}+{other}", (one, other)


def _cell(
    suite: Suite, row: str, name: str, group: str, task_ids: Sequence[int] | None, folder: Path, scratch: Path
) -> Cell:
    column = suite.columns[group]
    benchmark_path = checked_path = column.benchmark
    reduced = None
    if task_ids is not None:
        benchmark_path, checked_path = folder / "benchmarks" / f"{slug(name)}.yaml", scratch / f"{slug(name)}.yaml"
        reduced = reduced_benchmark(read_benchmark(column.benchmark), task_ids, column.benchmark)
        checked_path.write_text(reduced, encoding="utf-8")
    own = _words(f"{suite.flags} {column.flags} {suite.rows[row]}")
    rest = ("--hp_config", str(column.recipe), *own)
    command = read_command(["--data_config", str(checked_path), *rest, "--seed", str(suite.seeds[0])])
    assert isinstance(command, Grow), "flags for other uses were refused"
    return Cell(
        row=row,
        column=name,
        group=group,
        flags=("--data_config", str(benchmark_path), *rest),
        settings=command.settings,
        folder=folder / slug(row) / slug(name),
        benchmark_path=benchmark_path,
        reduced=reduced,
    )


def _words(flags: str) -> list[str]:
    """The words of a command line, all of them flags that say what is computed. Raises ConfigError."""
    try:
        words = shlex.split(flags)
    except ValueError as error:
        raise ConfigError(f"flags: expected words as on a command line, got {flags!r} ({error})") from error
    if {"-h", "--help"} & set(words):
        raise ConfigError("--help: expected flags that say how a zoo grows")
    given, nothing = (vars(build_parser().parse_args(line)) for line in (words, []))
    elsewhere = {"seed", "config", "data_config", "hp_config"}  # the suite sets these itself
    if given["images"]:
        raise ConfigError(f"flags: expected flags that say how a zoo grows, got the word {str(given['images'][0])!r}")
    for key, value in given.items():
        if key in elsewhere or (key in nothing and value != nothing[key]):
            raise ConfigError(f"--{key}: expected flags that say how a zoo grows, got one that the suite sets itself")
    return words


def reduced_benchmark(benchmark: Benchmark, task_ids: Sequence[int], source: Path) -> str:
    """A benchmark file with some tasks of another, each under its name there."""
    values = benchmark.model_dump(mode="json", exclude_defaults=True) | {
        "tasks": [list(benchmark.tasks[task_id]) for task_id in task_ids],
        "task_names": [benchmark.names[task_id] for task_id in task_ids],
    }
    head = f"# Tasks {', '.join(map(str, task_ids))} of {source}. Written by utils.suite.\n"
    return head + yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def write_benchmarks(cells: Sequence[Cell]) -> None:
    """Write the benchmark files that take some tasks only, each whole or not at all. Raises ConfigError."""
    for path, content in {cell.benchmark_path: cell.reduced for cell in cells if cell.reduced}.items():
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(content or "", encoding="utf-8")
            beside.replace(path)
        except OSError as error:
            raise ConfigError(f"{path}: could not be written ({error.strerror})") from error
