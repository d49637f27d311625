"""A report's tables: a line a method, benchmark and metric; methods compared task by task."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from utils.logger import METRIC_NAMES
from utils.report.records import Result
from utils.report.statistics import Comparison, Estimate, estimate, paired_by_task
from utils.suite.file import Suite
from utils.suite.progress import duration

NOT_RUN = "not run"


@dataclass
class Table:
    """Cells of text under a header; ``notes`` stand below."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Aligned columns: words to the left, the rest to the right."""
        widths = [max(len(cell) for cell in column) for column in zip(self.header, *self.rows, strict=True)]
        left = [all(row[place].strip()[:1].isalpha() for row in self.rows) for place in range(len(self.header))]

        def line(cells: tuple[str, ...]) -> str:
            aligned = [
                cell.ljust(width) if is_left else cell.rjust(width)
                for cell, width, is_left in zip(cells, widths, left, strict=True)
            ]
            return "  ".join(aligned).rstrip()

        rule = "  ".join("-" * width for width in widths)
        notes = ["", *self.notes] if self.notes else []
        return "\n".join([self.title, "", line(self.header), rule, *map(line, self.rows), *notes])

    def markdown(self) -> str:
        """For a page."""

        def line(cells: tuple[str, ...]) -> str:
            return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

        head = [f"## {self.title}", "", line(self.header), line(("---",) * len(self.header))]
        return "\n".join([*head, *map(line, self.rows), "", *(f"- {note}" for note in self.notes)])


class Line(NamedTuple):
    """A method's metric on a benchmark, a fraction; ``published`` with its source where there is one."""

    column: str
    row: str
    metric: str
    ours: Estimate | None
    published: float | None
    source: str
    mean_elapsed_sec: float | None


class Pairing(NamedTuple):
    """A method against another on a benchmark; where they cannot be compared, why."""

    column: str
    row: str
    other: str
    comparison: Comparison | str


def make_lines(results: Sequence[Result], suite: Suite | None) -> list[Line]:
    """A line for each method, benchmark and metric; a metric that a method does not have has none."""
    published = {
        (entry.row, column, entry.metric): (percent / 100, entry.source)
        for entry in (suite.published if suite else ())
        for column, percent in entry.percent.items()
    }
    lines = []
    for result in results:
        elapsed = [run.summary["elapsed_sec"] for run in result.runs.values()]
        for metric in dict.fromkeys(("average_accuracy", *(suite.metrics if suite else ()))):
            number, source = published.get((result.row, result.group, metric), (None, ""))
            if metric != "average_accuracy" and not result.settings.continual:
                continue
            values = result.values(metric)
            lines.append(
                Line(
                    column=result.column,
                    row=result.row,
                    metric=metric,
                    ours=estimate(values) if values else None,
                    published=number,
                    source=source,
                    mean_elapsed_sec=float(np.mean(elapsed)) if elapsed else None,
                )
            )
    return lines


def make_pairings(results: Sequence[Result], against: str | None) -> list[Pairing]:
    """Each method of a column against one of them: the one named, or the column's first that was run."""
    pairings = []
    for column in dict.fromkeys(result.column for result in results):
        methods = [result for result in results if result.column == column]
        bases = [result for result in methods if (result.row == against if against else result.runs)]
        for other in methods:
            if bases and other is not bases[0] and other.runs:
                pairings.append(Pairing(column, other.row, bases[0].row, _compared(other, bases[0])))
    return pairings


def _compared(one: Result, other: Result) -> Comparison | str:
    if not other.runs:
        return f"{other.row} was not run"
    return paired_by_task(one.final_accuracy(), other.final_accuracy()) or "not the same tasks, or no seed in common"


def percent(value: float | None, *, signed: bool = False) -> str:
    """A fraction as a percentage, to two places."""
    if value is None:
        return ""
    return f"{100 * value:{'+' if signed else ''}.2f}"


def mean_and_std(ours: Estimate | None) -> str:
    """``73.41 ± 0.52``, in percent."""
    if ours is None:
        return NOT_RUN
    return percent(ours.mean) + (f" ± {percent(ours.std)}" if ours.std is not None else "")


def interval(ours: Estimate | None, *, signed: bool = False) -> str:
    """``72.10 to 74.72``, in percent; empty where a single value gives none."""
    if ours is None or ours.low is None:
        return ""
    return f"{percent(ours.low, signed=signed)} to {percent(ours.high, signed=signed)}"


def overview_table(lines: Sequence[Line]) -> Table:
    """Average accuracies as papers show them: a method a row, a benchmark a column."""
    average = {(line.row, line.column): line for line in lines if line.metric == "average_accuracy"}
    columns = tuple(dict.fromkeys(column for _, column in average))
    table = Table("Average accuracy, %: mean ± standard deviation over seeds (n)", ("method", *columns))
    for row in dict.fromkeys(row for row, _ in average):
        found = [average.get((row, column)) for column in columns]
        cells = [
            "-" if line is None else mean_and_std(line.ours) + (f" ({line.ours.n})" if line.ours else "")
            for line in found
        ]
        table.rows.append((row, *cells))
        if any(line and line.published is not None for line in found):
            table.rows.append(("  published", *(percent(line.published) if line else "" for line in found)))
    return table


def details_table(lines: Sequence[Line]) -> Table:
    """Every line with its interval, n, the published number and its source."""
    sources = list(dict.fromkeys(line.source for line in lines if line.source))
    header = ("benchmark", "method", "metric, %", "ours", "95 % interval", "n", "published", "difference", "a run")
    table = Table("Ours and the published", header)
    for line in lines:
        has_both = line.ours is not None and line.published is not None
        published = f"{percent(line.published)} [{sources.index(line.source) + 1}]" if line.source else ""
        difference = line.ours.mean - line.published if line.ours and line.published is not None else None
        table.rows.append(
            (
                line.column,
                line.row,
                METRIC_NAMES[line.metric],
                mean_and_std(line.ours),
                interval(line.ours),
                str(line.ours.n) if line.ours else "0",
                published,
                percent(difference, signed=True) if has_both else "",
                duration(line.mean_elapsed_sec) if line.mean_elapsed_sec is not None else "",
            )
        )
    table.notes += [f"[{number}] {source}" for number, source in enumerate(sources, start=1)]
    return table


def pairings_table(pairings: Sequence[Pairing]) -> Table:
    """Methods compared task by task."""
    header = ("benchmark", "method", "against", "difference, points", "95 % interval", "tasks", "Wilcoxon p", "seeds")
    table = Table("Difference of two methods, paired by task, each task averaged over seeds", header)
    for column, row, other, comparison in pairings:
        if isinstance(comparison, str):
            table.rows.append((column, row, other, comparison, "", "", "", ""))
            continue
        difference, p_value, seeds = comparison
        table.rows.append(
            (
                column,
                row,
                other,
                percent(difference.mean, signed=True),
                interval(difference, signed=True),
                str(difference.n),
                f"{p_value:.2g}",
                " ".join(map(str, seeds)),
            )
        )
    table.notes.append("The interval and the test are over tasks: with five tasks no p is below 0.06.")
    return table


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A csv file; None is an empty cell."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
    return buffer.getvalue()


def details_csv(lines: Iterable[Line]) -> str:
    """The lines as csv, fractions in full precision."""
    header = ("benchmark", "method", "metric", "mean", "std", "low", "high", "n", "published", "difference", "source")
    rows = []
    for line in lines:
        difference = line.ours.mean - line.published if line.ours and line.published is not None else None
        ours = line.ours or (None, None, None, None, 0)
        rows.append((*line[:3], *ours, line.published, difference, line.source, line.mean_elapsed_sec))
    return csv_text((*header, "mean_elapsed_sec"), rows)


def pairings_csv(pairings: Iterable[Pairing]) -> str:
    """The comparisons that could be made as csv, fractions in full precision."""
    header = ("benchmark", "method", "against", "mean", "std", "low", "high", "n", "wilcoxon_p", "seeds")
    rows = []
    for column, row, other, comparison in pairings:
        if not isinstance(comparison, str):
            difference, p_value, seeds = comparison
            rows.append((column, row, other, *difference, p_value, " ".join(map(str, seeds))))
    return csv_text(header, rows)
