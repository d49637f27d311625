"""A suite file: which runs make a table, and the published numbers beside it.

Rows are methods, columns are benchmarks with a recipe. A cell of the table is a row in a column, and a run is a cell
with a seed. Nothing here imports torch, so that a whole suite is checked in an instant.
"""

import hashlib
import re
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, StrictInt, StrictStr, model_validator

from utils.command_line import Grow, read_command
from utils.config import Frozen, Recipe, Settings, find_file, read_settings, validate
from utils.errors import UserError
from utils.metrics import METRICS
from utils.yaml_files import read_yaml

MOST_LETTERS = 200  # of a folder's name: file systems take 255
FIELDS = Settings.model_fields | Recipe.model_fields
SETTINGS = [key for key, field in FIELDS.items() if field.description and key != "seed"]
FLAGS = [f"--{key}" for key in ("task_ids", "hp_config", *SETTINGS)]  # that a suite may have: the seeds are its own


class Column(Frozen):
    """A benchmark with a recipe.

    Attributes:
        flags: Flags of ``modelzoo.py`` beside those of the suite and of the row.
        rows: The rows that are run in this column; all rows, if none is named.
    """

    benchmark: Path
    recipe: Path
    flags: StrictStr = ""
    rows: tuple[StrictStr, ...] = ()


class Published(Frozen):
    """The published numbers of a method from one source, in percent, by column."""

    row: StrictStr
    metric: StrictStr = "average_accuracy"
    percent: dict[StrictStr, float]
    source: StrictStr


class PublishedFile(Frozen):
    """A csv file with published numbers, and their source."""

    file: Annotated[Path, AfterValidator(find_file)]
    source: StrictStr


class Curves(PublishedFile):
    """Published average accuracies of the tasks seen, by round: a line a method, in percent."""

    column: StrictStr


class Competition(PublishedFile):
    """The published matrix of what a task gains by another, in points; ``utils.report.competition`` reads it.

    Attributes:
        names: The name of each task in our benchmark, by its name in the file.
    """

    names: dict[StrictStr, StrictStr]


class Suite(Frozen):
    """The content of a suite file.

    Attributes:
        rows: The flags of each method, by its name.
        flags: Flags of every run.
        sweep: The setting, or key of the recipe, by which the rows differ, if a figure is to show that.
    """

    title: StrictStr
    rows: dict[StrictStr, StrictStr] = Field(min_length=1)
    columns: dict[StrictStr, Column] = Field(min_length=1)
    flags: StrictStr = ""
    seeds: tuple[Annotated[StrictInt, Field(ge=0)], ...] = Field(min_length=1)
    metrics: tuple[StrictStr, ...] = ("average_accuracy",)
    published: tuple[Published, ...] = ()
    curves: Curves | None = None
    sweep: StrictStr | None = None
    competition: Competition | None = None

    @model_validator(mode="after")
    def _check(self) -> "Suite":
        for kind, names in (("rows", self.rows), ("columns", self.columns)):
            slugs = {slug(name) for name in names}
            if "" in slugs or len(slugs) < len(names):
                raise ValueError(f"{kind}: expected names that differ in letters or digits, got {', '.join(names)}")
        places = [(entry.row, entry.metric, name) for entry in self.published for name in entry.percent]
        if len(set(places)) < len(places):
            raise ValueError(f"published: expected a number once, got {places}")
        uses: list[tuple[str, Iterable[str], Collection[str]]] = [
            ("metrics", self.metrics, METRICS),
            *((f"columns.{name}.rows", column.rows, self.rows) for name, column in self.columns.items()),
            ("published.row", (row for row, _, _ in places), self.rows),
            ("published.metric", (metric for _, metric, _ in places), METRICS),
            ("published.percent", (name for _, _, name in places), self.columns),
            ("sweep", [self.sweep] if self.sweep else [], SETTINGS),
            ("curves.column", [self.curves.column] if self.curves else [], self.columns),
        ]
        from utils.report.records import read_labelled_csv  # here, since pandas takes half a second to import

        if self.curves:
            read_labelled_csv(self.curves.file)
        if self.competition:
            table = read_labelled_csv(self.competition.file)
            uses.append(("competition.names", self.competition.names, [name for name in table if name in table.index]))
        for key, used, known in uses:
            for name in used:
                if name not in known:
                    raise ValueError(f"{key}: expected one of {', '.join(known)}, got {name!r}")
        return self

    def number(self, row: str, column: str, metric: str) -> tuple[float | None, str]:
        """The published number, as a fraction, and its source; None if there is none."""
        for entry in self.published:
            if (entry.row, entry.metric) == (row, metric) and column in entry.percent:
                return entry.percent[column] / 100, entry.source
        return None, ""


class RunName(NamedTuple):
    """A run of a suite, by the names of its column and row and by its seed."""

    benchmark: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.method} / {self.benchmark} / seed {self.seed}"


class Cell(NamedTuple):
    """A method on a benchmark; with a seed it is a run.

    Attributes:
        row: The method's name.
        column: The name of the benchmark's column.
        flags: The flags of ``modelzoo.py``, without the seed.
        settings: The settings that they stand for, with the suite's first seed.
        folder: The folder of its runs.
    """

    row: str
    column: str
    flags: tuple[str, ...]
    settings: Settings
    folder: Path

    def run(self, seed: int) -> RunName:
        """The name of a run."""
        return RunName(self.column, self.row, seed)

    def run_dir(self, seed: int) -> Path:
        """The folder of a run."""
        return self.folder / f"s{seed}"

    def argv(self, seed: int) -> list[str]:
        """The words of a run's command line, after ``modelzoo.py``."""
        return [*self.flags, "--seed", str(seed), "--run_dir", str(self.run_dir(seed)), "--resume"]

    def settings_of(self, seed: int) -> Settings:
        """The settings of a run."""
        return self.settings.model_copy(update={"seed": seed})

    def differing(self, seed: int) -> str | None:
        """The settings in which an existing run folder differs, in a sentence; None if there are none, or no folder.

        Raises:
            UserError: Its ``config.yaml`` cannot be read.
        """
        path = self.run_dir(seed) / "config.yaml"
        keys = self.settings_of(seed).differences(read_settings(path)) if path.exists() else {}
        return f"{path}: not the suite's settings, which differ in {', '.join(keys)}" if keys else None


def slug(name: str) -> str:
    """A name as a part of a path: ``Model Zoo, b = 5`` is ``model_zoo_b_5``.

    A digest replaces letters beyond ASCII and the end of long names, so that every file system accepts the result.
    """
    words = re.sub(r"[^a-z0-9.]+", "_", name.lower()).strip("_.")
    if len(words) <= MOST_LETTERS and not re.search(r"[^\W\x00-\x7f]", name):
        return words
    return f"{words[:MOST_LETTERS]}_{hashlib.blake2b(name.lower().encode(), digest_size=4).hexdigest()}".strip("_")


def read_suite(path: Path) -> Suite:
    """A suite file. Raises UserError."""
    return validate(Suite, read_yaml(find_file(path)), path)


def suite_folder(path: Path, suite_dir: Path | None) -> Path:
    """The folder of a suite's runs: the one that was asked for, or ``runs/`` and the suite file's name."""
    return suite_dir or Path("runs") / path.stem


def make_folder(path: Path) -> None:
    """Make a folder that is to be written. Raises UserError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: the folder cannot be written ({error.strerror})") from error


def read_cells(suite: Suite, path: Path, folder: Path) -> list[Cell]:
    """All cells of a suite. Each command line is checked.

    Args:
        suite: The content of the file.
        path: The file, for messages.
        folder: The folder of the suite's runs.

    Raises:
        UserError: There is a mistake; the message names the suite file and the place in it.
    """
    cells = []
    for name, column in suite.columns.items():
        files = ("--data_config", str(column.benchmark), "--hp_config", str(column.recipe))
        for row in dict.fromkeys(column.rows or suite.rows):
            try:
                flags = (*files, *_words(f"{suite.flags} {column.flags} {suite.rows[row]}"))
                command = read_command([*flags, "--seed", str(suite.seeds[0])])
            except UserError as mistake:
                raise UserError(f"{path}: row {row}, column {name}: {mistake}") from mistake
            assert isinstance(command, Grow), "flags for other uses were refused"
            cells.append(Cell(row, name, flags, command.settings, folder / slug(row) / slug(name)))
    return cells


def _words(text: str) -> list[str]:
    """The words of flags that say what is computed. Raises UserError if there are others."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"flags: expected words as on a command line, got {text!r} ({error})") from error
    for word in words:
        if word.startswith("-") and word.partition("=")[0] not in FLAGS:
            raise UserError(f"flags: expected some of {' '.join(FLAGS)}, got {word!r}")
    return words
