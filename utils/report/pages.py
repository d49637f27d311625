"""Pages of results: the words are written by hand, the tables and figures are made from the records in ``results/``.

- Between ``<!-- report SUITE NAME ... -->`` and ``<!-- end -->`` stand tables of the suite's report by their names; the
  name ``runs`` is for how the runs were made. ``--all_pairs`` and ``--bold_best`` may stand there too.
- ``<!-- summary ... -->`` has methods of several suites, one a line: ``demo / Split-Digits / Model Zoo``.
- ``<!-- gains ... -->`` has two methods, ``Model Zoo / Isolated``, and below them a suite a line: what the first method
  gains over the second.
- An image ``results/SUITE/NAME.png`` is a figure of the suite's report; ``results/model_zoo_isolated.png`` shows gains.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import pandas as pd
from matplotlib.figure import Figure

from utils.errors import UserError, in_one_line
from utils.report.gains import Gains, draw_gains, find_gains, gains_table
from utils.report.records import Result
from utils.report.report import Report, provenance
from utils.report.statistics import Estimate, estimate, paired_by_task
from utils.report.tables import summary_table
from utils.suite.file import slug

# Marker, kind and names, then anything but another marker, then the end.
PLACE = re.compile(r"(<!-- (report|summary|gains)\s+(\S(?:(?!-->).)*?)\s*-->\n)(?:(?!<!--).)*(<!-- end -->)", re.DOTALL)
FLAGS = ("--all_pairs", "--bold_best")  # of utils.report, in a marker
IMAGE = re.compile(r"\]\((?:\.\./)?results/([^()]+)\.png\)")

ReportOf = Callable[..., Report]  # makes the report of a suite from its records, by the suite's name and flags
Part = TypeVar("Part")


def read_page(path: Path) -> str:
    """The text of a page. Raises UserError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a page of results ({in_one_line(error)})") from error


def make_text(page: str, report_of: ReportOf) -> str:
    """The page with its tables made anew. Raises UserError if it names what is not there."""

    def made(place: re.Match[str]) -> str:
        begin, kind, names, end = place.groups()
        make = {"report": _sections, "summary": _summary, "gains": _gains}[kind]
        return f"{begin}\n{make(names, report_of)}\n\n{end}"

    if stray := re.search("<!--.*", PLACE.sub("", page)):
        expected = "<!-- report, summary or gains, then names -->, and at the end <!-- end -->"
        raise UserError(f"expected {expected}, got {stray.group()!r}")
    return PLACE.sub(made, page)


def make_figures(page: str, report_of: ReportOf) -> dict[str, Callable[[], Figure]]:
    """The figures that the page shows, by their names in ``results/``. Raises UserError if one is not there."""
    gains = {slug(names.splitlines()[0]): names for _, kind, names, _ in PLACE.findall(page) if kind == "gains"}
    figures: dict[str, Callable[[], Figure]] = {}
    for name in dict.fromkeys(IMAGE.findall(page)):
        suite, _, figure = name.rpartition("/")
        if suite:
            figures[name] = _find(report_of(suite).figures, figure, suite)
        else:
            figures[name] = partial(draw_gains, _find_gains(_find(gains, name, "gains"), report_of))
    return figures


def _find_gains(names: str, report_of: ReportOf) -> Gains:
    methods, *suites = names.splitlines()
    method, _, other = methods.partition(" / ")
    if not other or not suites:
        raise UserError(f"gains: expected METHOD / OTHER, and below it a suite a line, got {names!r}")
    reports = [report_of(suite) for suite in suites]
    return find_gains(reports, method, other, _scored_in_all(reports))


def _scored_in_all(reports: Sequence[Report]) -> str:
    if len(scored := {report.scored for report in reports}) > 1:
        raise UserError("expected suites scored on the same images, got test and validation")
    return scored.pop()


def _gains(names: str, report_of: ReportOf) -> str:
    return gains_table(_find_gains(names, report_of)).text("github", "### ", "- ")


def _sections(names: str, report_of: ReportOf) -> str:
    suite, *words = names.split()
    flags = [word for word in words if word in FLAGS]
    report = report_of(suite, *flags)
    sections = {name: table.text("github", "### ", "- ") for name, table in report.tables.items()}
    sections["runs"] = "\n\n".join(report.below)
    return "\n\n".join(_find(sections, part, suite) for part in words or [""] if part not in flags)


def _summary(names: str, report_of: ReportOf) -> str:
    reports, lines, runs = [], [], []
    for name in names.splitlines():
        suite, _, words = name.strip().partition(" / ")
        report = report_of(suite)
        result = _find({f"{each.benchmark} / {each.method}": each for each in report.results}, words, suite)
        key = result.benchmark, result.method, "average_accuracy"
        line = report.lines.set_index(["benchmark", "method", "metric"]).loc[[key]].reset_index()
        gain = _gain_over_isolated(result, report)._asdict()
        lines.append(line.assign(experiment=report.title, **{f"{name}_gained": gain[name] for name in gain}))
        runs.append(report.runs.merge(line[["benchmark", "method"]]))
        reports.append(report)
    table = summary_table(pd.concat(lines), _scored_in_all(reports))
    return f"{table.text('github').strip()}\n\n{provenance(pd.concat(runs))}"


def _gain_over_isolated(result: Result, report: Report) -> Estimate:
    """NaN if Isolated with the same benchmark, recipe and epochs was not run, or is the method itself."""
    isolated = [other for other in report.results if other.benchmark == result.benchmark and other.is_isolated]
    found = [paired_by_task(result.final, other.final) for other in isolated if other.is_isolated_of(result)]
    return found[0].difference if found and found[0] and not result.is_isolated else estimate([])


def _find(parts: Mapping[str, Part], name: str, suite: str) -> Part:
    if name not in parts:
        raise UserError(f"{suite}: expected one of {', '.join(parts)}, got {name!r}")
    return parts[name]
