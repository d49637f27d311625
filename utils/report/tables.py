"""A report's tables: a line for each method, benchmark and metric; methods compared task by task."""

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from utils.metrics import METRICS
from utils.report.records import Result
from utils.report.statistics import Comparison, Estimate, estimate, holm, paired_by_task
from utils.suite.file import Suite

OF_LINES = "benchmark method metric mean std low high n published difference source mean_elapsed_sec".split()
OF_PAIRINGS = "benchmark method against mean std low high n num_zeros wilcoxon_p holm_p seeds".split()
OF_PAPER = ("benchmark", "method", "against", "difference, points", "tasks", "Holm's p")  # as wide as a page


class Bold(str):
    """A number that stands out."""


class Table(NamedTuple):
    """Cells of text under a header; the first ``num_names`` columns are words, and ``notes`` stand below."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_names: int
    notes: Sequence[str] = ()

    def only(self, *names: str) -> "Table":
        """The table with these columns."""
        header, *rows = [[row[self.header.index(name)] for name in names] for row in (self.header, *self.rows)]
        return self._replace(header=header, rows=rows)

    def text(self, style: str = "simple", heading: str = "", bullet: str = "") -> str:
        """The table for a screen; other styles of ``tabulate``, headings and bullets are for a page."""
        header, *rows = [[_marked(cell, style) for cell in row] for row in (self.header, *self.rows)]
        sides = ["left" if place < self.num_names else "right" for place in range(len(self.header))]
        table = tabulate(rows, header, style, disable_numparse=True, colalign=sides, preserve_whitespace=True)
        return "\n".join([heading + self.title, "", table, "", *(bullet + note for note in self.notes)]).rstrip()


def _marked(cell: str, style: str) -> str:
    return f"**{cell}**" if isinstance(cell, Bold) else cell.replace("|", "\\|") if style == "github" else cell


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
        others = suite.metrics if result.settings.continual else ()
        for metric in dict.fromkeys(("average_accuracy", *others)):
            values = result.values(metric)
            ours = estimate(values) if values else None
            published, source = suite.number(result.row, result.column, metric)
            difference = ours.mean - published if ours and published is not None else None
            lines.append(Line(result.column, result.row, metric, ours, published, source, difference, mean_elapsed_sec))
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


def make_pairings(results: Sequence[Result], against: str | None, *, all_pairs: bool = False) -> list[Pairing]:
    """Each method of a column against one of them: the one named, or the column's first that was run; or all pairs."""
    pairings = []
    for column in dict.fromkeys(result.column for result in results):
        methods = [result for result in results if result.column == column]
        ran = [result for result in methods if result.runs]
        bases = [result for result in methods if result.row == against] if against else ran
        pairs = [(base, other) for base in bases[:1] for other in ran if other is not base]
        for base, other in itertools.combinations(ran, 2) if all_pairs else pairs:
            comparison = paired_by_task(other.final_accuracy(), base.final_accuracy())
            pairings.append(Pairing(column, other.row, base.row, comparison))
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


def overview_table(lines: Sequence[Line], scored: str, *, bold_best: bool = False, for_paper: bool = False) -> Table:
    """Average accuracies as papers show them: a method a row, a benchmark a column.

    Args:
        lines: The report's lines; those of average accuracies are shown.
        scored: Which images were scored, test or validation.
        bold_best: Whether the best mean of each benchmark is bold.
        for_paper: Whether n stands in the title, if all have the same, and the published numbers' sources in the notes.
    """
    average = {(line.method, line.benchmark): line for line in lines if line.metric == "average_accuracy"}
    columns = list(dict.fromkeys(benchmark for _, benchmark in average))
    counts = {line.ours.n for line in average.values() if line.ours}
    same_n = for_paper and len(counts) == 1
    best = _best(average.values()) if bold_best else []
    rows = []
    for method in dict.fromkeys(method for method, _ in average):
        found = [average.get((method, column)) for column in columns]
        cells = [mean_and_std(line.ours, with_n=not same_n) if line else "-" for line in found]
        rows.append([method, *(Bold(cell) if line in best else cell for line, cell in zip(found, cells, strict=True))])
        if any(line and line.published is not None for line in found):
            rows.append(["  published", *(percent(line.published) if line else "" for line in found)])
    n = f", n = {counts.pop()}" if same_n else " (n)"
    notes = ["Bold: the best mean of each benchmark, equal ones too; published numbers do not count."] if best else []
    sources = dict.fromkeys(line.source for line in average.values() if line.source)
    if sources and for_paper:
        notes.append(f"Published: {'; '.join(sources)}.")
    title = f"Average {scored} accuracy, %: mean ± standard deviation over seeds{n}"
    return Table(title, ["method", *columns], rows, 1, notes)


def _best(lines: Iterable[Line]) -> list[Line]:
    """The lines whose mean, as it is printed, is the best of their benchmark."""
    known = sorted([(line.ours.mean, line) for line in lines if line.ours], key=lambda pair: pair[0])
    best = {line.benchmark: percent(mean) for mean, line in known}
    return [line for mean, line in known if percent(mean) == best[line.benchmark]]


def details_table(lines: Sequence[Line], scored: str) -> Table:
    """Every line with its interval, n, the published number and its source."""
    sources = list(dict.fromkeys(line.source for line in lines if line.source))
    rows = []
    for line in lines:
        names = [line.benchmark, line.method, METRICS[line.metric].label]
        ours = [mean_and_std(line.ours), interval(line.ours), str(line.ours.n if line.ours else 0)]
        published = f"{percent(line.published)} [{sources.index(line.source) + 1}]" if line.source else ""
        elapsed = duration(line.mean_elapsed_sec) if line.mean_elapsed_sec is not None else ""
        rows.append([*names, *ours, published, percent(line.difference, signed=True), elapsed])
    header = ["benchmark", "method", "metric, %", "ours", "95 % interval", "n", "published", "difference", "a run"]
    notes = [f"[{number}] {source}" for number, source in enumerate(sources, start=1)]
    return Table(f"Ours and the published: {scored} accuracy", header, rows, 3, notes)


def pairings_table(pairings: Sequence[Pairing], scored: str, *, for_paper: bool = False) -> Table:
    """Methods compared task by task; for a paper without the intervals, Wilcoxon's p and the seeds."""
    title = f"Difference of two methods in {scored} accuracy, paired by task, each task averaged over seeds"
    header = ["benchmark", "method", "against", "difference, points", "95 % interval"]
    rows = [[*pairing[:3], *_comparison_cells(pairing)] for pairing in pairings]
    num_compared = sum(pairing.holm_p is not None for pairing in pairings)
    notes = [
        "Each task is one pair of the test, so with only five tasks p cannot fall below 0.06.",
        f"Holm's p is Wilcoxon's exact p, corrected for the number of comparisons in this table ({num_compared}).",
    ]
    table = Table(title, [*header, "tasks", "Wilcoxon p", "Holm's p", "seeds"], rows, 3, notes)
    return table.only(*OF_PAPER) if for_paper else table._replace(notes=["Intervals are over tasks.", *notes])


def _comparison_cells(pairing: Pairing) -> list[str]:
    if pairing.comparison is None:
        return ["no seed in common, or other tasks", "", "", "", "", ""]
    difference, num_zeros, p_value, seeds = pairing.comparison
    zeros = f" ({num_zeros} zero{'s' if num_zeros > 1 else ''})" if num_zeros else ""
    found = [percent(difference.mean, signed=True), interval(difference, signed=True), f"{difference.n}{zeros}"]
    return [*found, f"{p_value:.2g}", f"{pairing.holm_p:.2g}", " ".join(map(str, seeds))]


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
