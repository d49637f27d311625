"""Pages of results: the words are written by hand, the tables and figures are made from the records in ``results/``.

- Between ``<!-- report SUITE NAME ... -->`` and ``<!-- end -->`` stand tables of the suite's report by their names; the
  name ``runs`` is for how the runs were made. Flags of ``utils.report``, such as ``--all_pairs``, may stand there too.
- ``<!-- summary ... -->`` has methods of several suites, one a line: ``demo / Split-Digits / Model Zoo``.
- ``<!-- gains ... -->`` has two methods, ``Model Zoo / Isolated``, and below them a suite a line: what the first method
  gains over the second.
- An image ``results/SUITE/NAME.png`` is a figure of the suite's report; ``results/model_zoo_isolated.png`` shows gains.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import pandas as pd
from matplotlib.figure import Figure

from utils.errors import UserError, in_one_line
from utils.report.gains import draw_gains, find_gains, gains_table
from utils.report.report import Report, provenance
from utils.report.tables import summary_table
from utils.suite.file import slug

PLACE = re.compile(r"(<!-- (report|summary|gains)\s+([^>]*?)\s*-->\n).*?(<!-- end -->)", re.DOTALL)
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
            figures[name] = partial(draw_gains, *_find_gains(_find(gains, name, "gains"), report_of))
    return figures


def _find_gains(names: str, report_of: ReportOf) -> tuple[pd.DataFrame, str, str]:
    methods, *suites = names.splitlines()
    method, _, other = methods.partition(" / ")
    return find_gains([report_of(suite) for suite in suites], method, other), method, other


def _gains(names: str, report_of: ReportOf) -> str:
    return gains_table(*_find_gains(names, report_of)).text("github", "### ", "- ")


def _sections(names: str, report_of: ReportOf) -> str:
    suite, *words = names.split()
    report = report_of(suite, *(word for word in words if word.startswith("--")))
    sections = {name: table.text("github", "### ", "- ") for name, table in report.tables.items()}
    sections["runs"] = "\n\n".join(report.below)
    return "\n\n".join(_find(sections, part, suite) for part in words if not part.startswith("--"))


def _summary(names: str, report_of: ReportOf) -> str:
    chosen, runs = [], []
    for name in names.splitlines():
        suite, _, words = name.partition(" / ")
        report = report_of(suite)
        gains = report.pairings[report.pairings["against"].str.startswith("Isolated")]
        lines = report.lines[report.lines["metric"] == "average_accuracy"]
        lines = lines.merge(gains, on=["benchmark", "method"], how="left", suffixes=("", "_gained"))
        by_name = dict(zip(lines["benchmark"] + " / " + lines["method"], lines.index, strict=True))
        line = lines.loc[[_find(by_name, words, suite)]].assign(experiment=report.title)
        chosen.append(line)
        runs.append(report.runs.merge(line[["benchmark", "method"]]))
    return f"{summary_table(pd.concat(chosen)).text('github').strip()}\n\n{provenance(pd.concat(runs))}"


def _find(parts: Mapping[str, Part], name: str, suite: str) -> Part:
    if name not in parts:
        raise UserError(f"{suite}: expected one of {', '.join(parts)}, got {name!r}")
    return parts[name]
