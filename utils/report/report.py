"""A report: the tables and figures of some results, and the files that it is written to."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from utils.errors import UserError, in_one_line
from utils.files import make_folder, slug, write_whole
from utils.logger import write_line
from utils.plot import to_image
from utils.report import competition, latex, tables
from utils.report.figures import choose_figures
from utils.report.results import Result
from utils.suite.file import Suite

NO_RUN = "No run is complete."


@dataclass
class Report:
    """The tables and figures of some results. The pairs of a task competition are shown by its matrix alone.

    Whatever is asked for may raise UserError: if runs were scored on different images, if no method has the name
    ``against``, or if a file of published numbers does not fit.

    Attributes:
        results: Methods on benchmarks.
        suite: Their suite: its title, published numbers and figures.
        remarks: Lines that stand below the tables.
        metrics: What is shown beside the average accuracy; the suite's, if none are named.
        against: The method that the others of a benchmark are compared with; the first, if none is named.
        all_pairs: Whether every two methods of a benchmark are compared.
        bold_best: Whether the best mean of each benchmark is bold.
    """

    results: Sequence[Result]
    suite: Suite
    remarks: Sequence[str] = ()
    metrics: Sequence[str] | None = None
    against: str | None = None
    all_pairs: bool = False
    bold_best: bool = False

    @cached_property
    def scored(self) -> str:
        """Which images were scored in all runs: "validation" or "test"."""
        scored = {result.settings.scored_on: result for result in self.results if result.settings}
        if len(scored) > 1:
            where = [f"{kind} in {it.method} / {it.benchmark}" for kind, it in sorted(scored.items())]
            raise UserError(f"expected runs scored on the same images, got {' and '.join(where)}")
        return next(iter(scored), "test")

    @property
    def shown(self) -> list[Result]:
        """The results that are in tables and figures of their own."""
        return [result for result in self.results if not (self.suite.competition and result.is_pair)]

    @cached_property
    def lines(self) -> pd.DataFrame:
        """A line for each benchmark, method and metric, as in ``report.csv``."""
        metrics = list(dict.fromkeys(("average_accuracy", *(self.metrics or self.suite.metrics))))
        published = self.suite.published if self.scored == "test" else ()
        return tables.make_lines(self.shown, published, metrics)

    @cached_property
    def pairings(self) -> pd.DataFrame:
        """Methods compared task by task, as in ``comparisons.csv``."""
        methods = dict.fromkeys([*self.suite.rows, *(result.method for result in self.results)])
        if self.against and self.against not in methods:
            raise UserError(f"--against: expected one of {', '.join(methods)}, got {self.against!r}")
        return tables.make_pairings(self.shown, self.against, all_pairs=self.all_pairs)

    @cached_property
    def gains(self) -> pd.DataFrame | None:
        """What a task gains by another, if the suite is a task competition."""
        return competition.find_gains(self.suite.competition, self.results) if self.suite.competition else None

    @cached_property
    def tables(self) -> list[tables.Table]:
        """What the screen and ``report.md`` show."""
        scored, runs = self.scored, tables.run_lines(self.shown)
        metrics = self.lines["metric"].unique()
        made = [tables.metric_table(self.lines, metric, scored, bold_best=self.bold_best) for metric in metrics]
        if len(self.pairings):
            made.append(tables.pairings_table(self.pairings, scored))
        if len(runs):
            made.append(tables.cost_table(runs))
        if self.gains is not None:
            made.append(competition.correlations(self.gains))
        return made

    @cached_property
    def below(self) -> list[str]:
        """Lines below the tables."""
        runs = tables.run_lines(self.results)
        below = [tables.provenance(runs) if len(runs) else NO_RUN, *self.remarks]
        if self.scored == "validation" and (self.suite.published or self.suite.curves):
            below.append("left out: the published numbers, which are of test images")
        return below if self.gains is None else [*below, *competition.in_words(self.gains)]

    def text(self) -> str:
        """What the screen shows."""
        return "\n\n".join([self.suite.title, *(table.text() for table in self.tables), *self.below])

    def page(self) -> str:
        """What ``report.md`` has above its figures."""
        sections = [table.text("github", "## ", "- ") for table in self.tables]
        return "\n\n".join([f"# {self.suite.title}", *sections, *self.below]) + "\n"

    def write(self, folder: Path) -> list[str]:
        """Write the report's files; returns their names. Raises UserError."""
        before = folder / "report.md"
        if not self.results and before.exists() and NO_RUN not in before.read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"{folder}: no complete run was found, so the report that is there was kept")
        make_folder(folder)
        label = slug("_".join(folder.resolve().parts[-2:]))
        frames = {"report": self.lines, "comparisons": self.pairings}
        frames |= {"records": tables.record_lines(self.results), "runs": tables.run_lines(self.results)}
        if self.gains is not None:
            frames["competition"] = competition.as_matrix(competition.mean_of_seeds(self.gains)).reset_index()
        contents = {f"{name}.csv": frame.to_csv(index=False).encode() for name, frame in frames.items()}
        contents["report.tex"] = latex.page(self.tables, self.suite.title, label).encode()
        page = self.page()
        for name, draw in choose_figures(self.results, self.suite, self.scored, self.gains).items():
            try:
                figure = draw()
                contents |= {f"{name}.{kind}": to_image(figure, kind) for kind in ("png", "pdf")}
                page += f"\n![{name}]({name}.png)\n"
            except Exception as error:  # drawing runs other people's code on the user's fonts
                write_line(f"warning: {name}: could not be drawn ({in_one_line(error)})", sys.stderr)
        contents["report.md"] = page.encode()
        for name, content in contents.items():
            write_whole(folder / name, content)
        return list(contents)
