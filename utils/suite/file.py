"""A suite file: which runs make a table, and the published numbers beside it.

Rows are methods, columns are benchmarks with a recipe. A cell of the table is a row in a column, and a run is a cell
with a seed. Nothing here imports torch, so that a whole suite is checked in an instant.
"""

import shlex
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import AfterValidator, Field, StrictInt, StrictStr, model_validator

from utils.command_line import Grow, command_line, read_command
from utils.config import Frozen, Name, Recipe, Seed, Settings, distinct, find_file, read_file
from utils.errors import UserError, in_one_line
from utils.files import slug
from utils.metrics import METRICS

if TYPE_CHECKING:
    import pandas as pd

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
    """The published numbers of a method from one source, in percent, by column.

    Attributes:
        model: The network that they are of, if it is not the one of every run here.
        epochs: How many epochs it was trained for, if not as many as every run here; several if it is not known which.
    """

    row: StrictStr
    metric: StrictStr = "average_accuracy"
    percent: dict[StrictStr, float]
    source: StrictStr
    model: StrictStr | None = None
    epochs: tuple[StrictInt, ...] = ()


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
    rows: dict[Name, StrictStr] = Field(min_length=1)
    columns: dict[Name, Column] = Field(min_length=1)
    flags: StrictStr = ""
    seeds: Annotated[tuple[Annotated[Seed, Field(strict=True)], ...], AfterValidator(distinct)] = Field(min_length=1)
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


class Run(NamedTuple):
    """A run of a suite: a method on a benchmark with a seed.

    Attributes:
        folder: The folder of the runs of this cell.
        settings: The settings that its command line stands for.
        flags: The flags of ``modelzoo.py``, but for the seed and where the run is.
    """

    method: str
    benchmark: str
    folder: Path
    settings: Settings
    flags: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method} / {self.benchmark} / seed {self.settings.seed}"

    def with_seed(self, seed: int) -> "Run":
        """The run of the same cell with another seed."""
        return self._replace(settings=self.settings.model_copy(update={"seed": seed}))

    @property
    def run_dir(self) -> Path:
        """The run folder."""
        return self.folder / f"s{self.settings.seed}"

    @property
    def argv(self) -> tuple[str, ...]:
        """The words after ``modelzoo.py`` on its command line."""
        return (*self.flags, "--seed", str(self.settings.seed), "--run_dir", str(self.run_dir), "--resume")

    @property
    def log(self) -> Path:
        """The file with the output of the run's process; it lies beside the run folder."""
        return self.run_dir.with_name(f"{self.run_dir.name}.log")


class Plan(NamedTuple):
    """A suite, the folder of its runs, the first run of each cell, and the command that makes all runs.

    The cells come in the order of the columns, and in each in the order of the rows.
    """

    suite: Suite
    folder: Path
    cells: list[Run]
    command: str


def read_plan(path: Path, suite_dir: Path | None = None) -> Plan:
    """A suite file and all that follows from it. Each command line is checked.

    Args:
        path: The file.
        suite_dir: The folder of the suite's runs; without one ``runs/`` and the file's name.

    Raises:
        UserError: There is a mistake; the message names the suite file and the place in it.
    """
    suite, where = read_file(Suite, path), ["--suite_dir", str(suite_dir)] if suite_dir else []
    plan = Plan(suite, suite_dir or Path("runs") / path.stem, [], command_line([str(path), *where], "utils/suite"))
    for name, column in suite.columns.items():
        files = ("--data_config", str(column.benchmark), "--hp_config", str(column.recipe))
        for row in dict.fromkeys(column.rows or suite.rows):
            try:
                flags = (*files, *_words(f"{suite.flags} {column.flags} {suite.rows[row]}"))
                command = read_command([*flags, "--seed", str(suite.seeds[0])])
            except UserError as mistake:
                raise UserError(f"{path}: row {row}, column {name}: {mistake}") from mistake
            assert isinstance(command, Grow), "flags for other uses were refused"
            plan.cells.append(Run(row, name, plan.folder / slug(row) / slug(name), command.settings, flags))
    return plan


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


def read_labelled_csv(path: Path) -> "pd.DataFrame":
    """Published numbers: the first column has the lines' names, and lines that begin with ``#`` are comments.

    Raises:
        UserError: The file cannot be read, or is not such a table.
    """
    import pandas as pd  # here: it takes half a second, and most suites have no such file

    try:
        table = pd.read_csv(path, index_col=0, comment="#").astype(float)
        if table.empty or not table.index.is_unique:
            raise ValueError("there are no numbers, or a line's name is there twice")
        return table
    except Exception as error:  # a damaged file, or a compressed one, may fail in any way
        expected = "published numbers as csv, a header and lines of a name and as many numbers as the header has"
        raise UserError(f"{path}: expected {expected} ({in_one_line(error)})") from error
