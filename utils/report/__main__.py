"""The table of many runs: mean and spread over seeds, the published number, methods compared task by task, figures.

    python -m utils.report --suite config/suite/demo.yaml
    python -m utils.report runs/one runs/another --out report

What was not run is said, and is no mistake. Exit status: 0, or 2 for a mistake in the command or its files.
"""

import argparse
import csv
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from utils.checkpoint import RunFolderError, write_whole
from utils.config import ConfigError
from utils.logger import METRIC_NAMES
from utils.report.competition import Matrices, matrices
from utils.report.records import Result, of_folders, of_suite
from utils.report.statistics import Comparison, Correlation, Estimate, estimate, paired_by_task, rank_correlation
from utils.report.table import Table
from utils.suite.file import Suite, read_cells, read_suite, suite_folder
from utils.suite.progress import duration

NOT_RUN = "not run"


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


def provenance(results: Sequence[Result]) -> list[str]:
    """With what the runs were made, and how long they took."""
    runs = [run for result in results for run in result.runs.values()]
    if not runs:
        return ["No run is complete."]
    commits, devices = (
        ", ".join(dict.fromkeys(str(run.env.get(key) or "not known") for run in runs)) for key in ("commit", "device")
    )
    total = sum(run.summary["elapsed_sec"] for run in runs)
    return [f"{len(runs)} runs, {duration(total)} in all; commit {commits}; device {devices}"]


def details_csv(lines: Iterable[Line]) -> str:
    """The lines as csv, fractions in full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = ("benchmark", "method", "metric", "mean", "std", "low", "high", "n", "published", "difference", "source")
    writer.writerow((*names, "mean_elapsed_sec"))
    for line in lines:
        difference = line.ours.mean - line.published if line.ours and line.published is not None else None
        ours = line.ours or (None, None, None, None, 0)
        writer.writerow((*line[:3], *ours, line.published, difference, line.source, line.mean_elapsed_sec))
    return buffer.getvalue()


def pairings_csv(pairings: Iterable[Pairing]) -> str:
    """The comparisons that could be made as csv, fractions in full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("benchmark", "method", "against", "mean", "std", "low", "high", "n", "wilcoxon_p", "seeds"))
    for column, row, other, comparison in pairings:
        if not isinstance(comparison, str):
            difference, p_value, seeds = comparison
            writer.writerow((column, row, other, *difference, p_value, " ".join(map(str, seeds))))
    return buffer.getvalue()


def competition_lines(found: Matrices, correlation: Correlation | None, source: str) -> list[str]:
    """The comparison of the two matrices in words."""
    apart = ~np.eye(len(found.names), dtype=bool)
    known = apart & np.isfinite(found.ours)
    ours, published = (100 * np.nanmean(matrix[known]) for matrix in (found.ours, found.published))
    defined = "not defined, all entries known are equal"
    if correlation:
        defined = (
            f"{correlation.rho:+.3f} over {correlation.n} entries "
            f"(p {correlation.p_value:.2g}, as if entries were independent)"
        )
    missing = f", {(apart.sum() - known.sum()) // 2} pairs not run" if known.sum() < apart.sum() else ""
    return [
        f"Task competition, {len(found.names)} tasks, {found.num_seeds} seeds{missing}: mean gain by a second task "
        f"{ours:+.2f} points (published {published:+.2f}).",
        f"Spearman's rank correlation with the published matrix: {defined}. Published: {source}.",
    ]


def matrix_csv(names: Sequence[str], matrix: np.ndarray) -> str:
    """A matrix with its tasks' names, in fractions; empty where not known."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("task", *names))
    for name, row in zip(names, matrix, strict=True):
        writer.writerow((name, *("" if np.isnan(value) else f"{value:.6g}" for value in row)))
    return buffer.getvalue()


def make_report(
    results: Sequence[Result], remarks: Sequence[str], suite: Suite | None, *, against: str | None, draw: bool
) -> tuple[str, dict[str, bytes]]:
    """The report as text, and the files of the full one by name, with figures if wanted. Raises ConfigError."""
    rows = list(dict.fromkeys(result.row for result in results))
    if against and against not in rows:
        raise ConfigError(f"--against: expected one of {', '.join(rows)}, got {against!r}")
    from utils.report.figures import make_figures  # here, since matplotlib takes half a second to import

    pairs = suite.competition.together if suite and suite.competition else None  # shown by its figure
    shown = [result for result in results if result.group != pairs]
    lines, pairings = make_lines(shown, suite), make_pairings(shown, against)
    tables = [overview_table(lines), details_table(lines), *([pairings_table(pairings)] if pairings else [])]
    below = provenance(results)
    files = {"report.csv": details_csv(lines).encode()}
    if pairings:
        files["comparisons.csv"] = pairings_csv(pairings).encode()
    found = matrices(suite.competition, results) if suite and suite.competition else None
    correlation = None
    if suite and suite.competition and found:
        correlation = rank_correlation(found.ours, found.published)
        below += competition_lines(found, correlation, suite.competition.source)
        files["competition.csv"] = matrix_csv(found.names, found.ours).encode()
    figures = make_figures(shown, suite, found, correlation) if draw else {}
    title = suite.title if suite else "Runs"
    parts = [title, *(table.text() for table in tables), *below, *remarks]
    page = [f"# {title}", *(table.markdown() for table in tables), *below, *remarks]
    page += [f"![{name}]({name}.png)" for name in figures]
    files["report.md"] = ("\n\n".join(page) + "\n").encode()
    return "\n\n".join(parts), files | {f"{name}.png": figure for name, figure in figures.items()}


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a report's files. Raises RunFolderError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder}: expected a folder that can be written ({error.strerror})") from error
    for name, content in files.items():
        write_whole(folder / name, content)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (--help lists the flags)")


def read_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked. Raises ConfigError."""
    parser = _Parser(prog="utils.report", description="The table of many runs, and their figures.", allow_abbrev=False)
    parser.add_argument("run_dirs", type=Path, nargs="*", metavar="RUN_DIR", help="run folders")
    parser.add_argument("--suite", type=Path, metavar="SUITE.yaml", help="in place of them: a suite's runs")
    parser.add_argument("--suite_dir", type=Path, metavar="DIR", help="where they lie (runs/<name of the suite file>)")
    parser.add_argument(
        "--against", metavar="METHOD", help="what the others are compared with (the first of each benchmark)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where report.md, csv files and figures go (<suite_dir>/report)"
    )
    flags = parser.parse_args(argv)
    if bool(flags.run_dirs) == bool(flags.suite):
        raise ConfigError("expected run folders or --suite SUITE.yaml, got " + ("both" if flags.suite else "neither"))
    if flags.suite_dir and not flags.suite:
        raise ConfigError("--suite_dir: expected beside --suite, got run folders")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit status."""
    try:
        flags = read_flags(argv)
        suite, out = None, flags.out
        if flags.suite:
            suite = read_suite(flags.suite)
            folder = suite_folder(flags.suite, flags.suite_dir)
            out = out or folder / "report"
            results, remarks = of_suite(read_cells(suite, flags.suite, folder))
        else:
            results, remarks = of_folders(flags.run_dirs)
        text, files = make_report(results, remarks, suite, against=flags.against, draw=bool(out))
        if out:
            write_files(out, files)
            text += f"\n\nwritten to {out}: {', '.join(files)}"
        print(text)
    except (ConfigError, RunFolderError) as mistake:
        print(f"utils.report: {mistake}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
