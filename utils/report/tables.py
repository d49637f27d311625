"""A report's tables: a line for each method, benchmark and metric; methods compared task by task."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from utils.metrics import METRIC_NAMES
from utils.report.records import Result
from utils.report.statistics import Comparison, Estimate, estimate, holm, paired_by_task
from utils.suite.file import Suite

OF_LINES = "benchmark method metric mean std low high n published difference source mean_elapsed_sec".split()
OF_PAIRINGS = "benchmark method against mean std low high n num_zeros wilcoxon_p holm_p seeds".split()


class Table(NamedTuple):
    """Cells of text under a header; the first ``num_names`` columns are words, and ``notes`` stand below."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_names: int
    notes: Sequence[str] = ()

    def text(self, style: str = "simple", heading: str = "", bullet: str = "") -> str:
        """The table for a screen; other styles of ``tabulate``, headings and bullets are for a page."""
        rows = [[cell.replace("|", "\\|") for cell in row] for row in self.rows] if style == "github" else self.rows
        sides = ["left" if place < self.num_names else "right" for place in range(len(self.header))]
        table = tabulate(rows, self.header, style, disable_numparse=True, colalign=sides, preserve_whitespace=True)
        return "\n".join([heading + self.title, "", table, "", *(bullet + note for note in self.notes)]).rstrip()


class Line(NamedTuple):
    """A method's metric on a benchmark, a fraction; ``published`` with its source if there is one."""

    benchmark: str
    method: str
    metric: str
    ours: Estimate | None
    published: float | None
    source: str
    difference: float | None
    mean_elapsed_sec: float | None


def make_lines(results: Sequence[Result], suite: Suite) -> list[Line]:
    """A line for each method, benchmark and metric, without the metrics that a method does not have."""
    lines = []
    for result in results:
        elapsed = [run.summary.elapsed_sec for run in result.runs.values()]
        mean_elapsed_sec = float(np.mean(elapsed)) if elapsed else None
        for metric in dict.fromkeys(("average_accuracy", *suite.metrics)):
            if metric != "average_accuracy" and not result.settings.continual:
                continue
            values = result.values(metric)
            ours = estimate(values) if values else None
            published, source = suite.number(result.row, result.column, metric)
            difference = ours.mean - published if ours and published is not None else None
            place = (result.column, result.row, metric)
            lines.append(Line(*place, ours, published, source, difference, mean_elapsed_sec))
    return lines


class Pairing(NamedTuple):
    """A method against another on a benchmark; None if they cannot be compared.

    ``holm_p`` is the p-value, corrected for all comparisons of the table.
    """

    benchmark: str
    method: str
    against: str
    comparison: Comparison | None
    holm_p: float | None = None


def make_pairings(results: Sequence[Result], against: str | None) -> list[Pairing]:
    """Each method of a column against one of them: the one named, or the column's first that was run."""
    pairings = []
    for column in dict.fromkeys(result.column for result in results):
        methods = [result for result in results if result.column == column]
        bases = [result for result in methods if (result.row == against if against else result.runs)]
        for other in methods:
            if bases and other is not bases[0] and other.runs:
                comparison = paired_by_task(other.final_accuracy(), bases[0].final_accuracy())
                pairings.append(Pairing(column, other.row, bases[0].row, comparison))
    p_values = iter(holm([pairing.comparison.wilcoxon_p for pairing in pairings if pairing.comparison]))
    return [pairing._replace(holm_p=next(p_values)) if pairing.comparison else pairing for pairing in pairings]


def duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def percent(value: float | None, *, signed: bool = False) -> str:
    """A fraction as a percentage with two decimals."""
    return "" if value is None else f"{100 * value:{'+' if signed else ''}.2f}"


def mean_and_std(ours: Estimate | None, *, with_n: bool = False) -> str:
    """The mean with its spread in percent, and with the number of seeds."""
    if ours is None:
        return "not run"
    spread = "" if ours.std is None else f" ± {percent(ours.std)}"
    return percent(ours.mean) + spread + (f" ({ours.n})" if with_n else "")


def interval(ours: Estimate | None, *, signed: bool = False) -> str:
    """The interval in percent; nothing if there is a single value."""
    if ours is None or ours.low is None:
        return ""
    return f"{percent(ours.low, signed=signed)} to {percent(ours.high, signed=signed)}"


def overview_table(lines: Sequence[Line]) -> Table:
    """Average accuracies as papers show them: a method a row, a benchmark a column."""
    average = {(line.method, line.benchmark): line for line in lines if line.metric == "average_accuracy"}
    columns = list(dict.fromkeys(benchmark for _, benchmark in average))
    rows = []
    for method in dict.fromkeys(method for method, _ in average):
        found = [average.get((method, column)) for column in columns]
        rows.append([method, *(mean_and_std(line.ours, with_n=True) if line else "-" for line in found)])
        if any(line and line.published is not None for line in found):
            rows.append(["  published", *(percent(line.published) if line else "" for line in found)])
    return Table("Average accuracy, %: mean ± standard deviation over seeds (n)", ["method", *columns], rows, 1)


def details_table(lines: Sequence[Line]) -> Table:
    """Every line with its interval, n, the published number and its source."""
    sources = list(dict.fromkeys(line.source for line in lines if line.source))
    rows = [
        [
            line.benchmark,
            line.method,
            METRIC_NAMES[line.metric],
            mean_and_std(line.ours),
            interval(line.ours),
            str(line.ours.n if line.ours else 0),
            f"{percent(line.published)} [{sources.index(line.source) + 1}]" if line.source else "",
            percent(line.difference, signed=True),
            duration(line.mean_elapsed_sec) if line.mean_elapsed_sec is not None else "",
        ]
        for line in lines
    ]
    header = ["benchmark", "method", "metric, %", "ours", "95 % interval", "n", "published", "difference", "a run"]
    notes = [f"[{number}] {source}" for number, source in enumerate(sources, start=1)]
    return Table("Ours and the published", header, rows, 3, notes)


def pairings_table(pairings: Sequence[Pairing]) -> Table:
    """Methods compared task by task."""
    header = ["benchmark", "method", "against", "difference, points", "95 % interval"]
    num_compared = sum(pairing.holm_p is not None for pairing in pairings)
    return Table(
        "Difference of two methods, paired by task, each task averaged over seeds",
        [*header, "tasks", "Wilcoxon p", "Holm's p", "seeds"],
        [[*pairing[:3], *_comparison_cells(pairing)] for pairing in pairings],
        3,
        [
            "The interval and the test are over tasks: with five tasks no p is below 0.06. Wilcoxon's p is exact.",
            f"Holm's p is Wilcoxon's, corrected for the number of comparisons in this table ({num_compared}).",
        ],
    )


def _comparison_cells(pairing: Pairing) -> list[str]:
    if pairing.comparison is None:
        return ["no seed in common, or other tasks", "", "", "", "", ""]
    difference, num_zeros, p_value, seeds = pairing.comparison
    zeros = f" ({num_zeros} zero{'s' if num_zeros > 1 else ''})" if num_zeros else ""
    return [
        percent(difference.mean, signed=True),
        interval(difference, signed=True),
        f"{difference.n}{zeros}",
        f"{p_value:.2g}",
        f"{pairing.holm_p:.2g}",
        " ".join(map(str, seeds)),
    ]


def details_csv(lines: Iterable[Line]) -> str:
    """The lines as csv, fractions in full precision."""
    return csv_text(OF_LINES, [line._asdict() | (line.ours._asdict() if line.ours else {"n": 0}) for line in lines])


def pairings_csv(pairings: Iterable[Pairing]) -> str:
    """The comparisons that could be made as csv, fractions in full precision."""
    rows = [
        pairing._asdict() | found.difference._asdict() | found._asdict() | {"seeds": " ".join(map(str, found.seeds))}
        for pairing in pairings
        if (found := pairing.comparison)
    ]
    return csv_text(OF_PAIRINGS, rows)


def csv_text(header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as csv; what is None or missing is an empty cell, and what the header does not have is left out."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, header, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
