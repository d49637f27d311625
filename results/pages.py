"""Make the pages of results from the run files beside this script: python results/pages.py

Each suite's report is written to ``results/SUITE/``. Then ``results.md.j2`` becomes ``docs/results.md``, and
``readme.md.j2`` the part of README.md between its two markers. In these templates every number of a result is an
expression; the functions of ``NAMES`` give them as text.
"""

import re
import sys
from functools import cache
from pathlib import Path

RESULTS = Path(__file__).resolve().parent
sys.path.insert(0, str(RESULTS.parent))

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from utils.files import write_whole
from utils.report.report import Report
from utils.report.results import Result, of_suite
from utils.report.tables import compare, interval, mean_and_std, percent, provenance, run_lines
from utils.suite.file import read_plan

SUITES = sorted({path.parents[3].name for path in RESULTS.glob("*/*/*/s*/run.json")})
PART = re.compile(r"(<!-- results -->\n).*(<!-- end of results -->)", re.DOTALL)


@cache
def report_of(suite: str) -> Report:
    """The report of a suite's recorded runs. Raises UserError."""
    plan = read_plan(RESULTS.parent / f"config/suite/{suite}.yaml", RESULTS / suite)
    # As from the project's folder.
    command = f"python -m utils.suite config/suite/{suite}.yaml --suite_dir results/{suite}"
    results, remarks = of_suite(plan._replace(command=command))
    return Report(results, plan.suite, remarks, all_pairs=True)


def result_of(suite: str, benchmark: str, method: str) -> Result:
    """One method on one benchmark."""
    (result,) = (it for it in report_of(suite).results if (it.benchmark, it.method) == (benchmark, method))
    return result


def line_of(suite: str, benchmark: str, method: str, metric: str = "average_accuracy") -> pd.Series:
    """The line of ``report.csv`` for a method, a benchmark and a metric."""
    lines = report_of(suite).lines.set_index(["benchmark", "method", "metric"])
    return lines.loc[(benchmark, method, metric)]


def accuracy(*names: str) -> str:
    """A mean in percent: suite, benchmark, method and, if it is not the average accuracy, the metric."""
    return percent(line_of(*names)["mean"])


def accuracy_and_std(*names: str) -> str:
    """A mean with its spread and the number of seeds."""
    return mean_and_std(line_of(*names), with_n=True)


def published(*names: str) -> str:
    """The published number in percent."""
    return percent(line_of(*names)["published"])


def gain(suite: str, benchmark: str, method: str, against: str) -> dict[str, str]:
    """What a method gains over another: points, the interval and what it is for, the part of the error removed.

    ``times`` are the images trained on, over those of the other.
    """
    ours, other = result_of(suite, benchmark, method), result_of(suite, benchmark, against)
    row = pd.Series(compare(ours, other))
    images = [run_lines([it])["images_trained"].mean() for it in (ours, other)]
    return {
        "points": percent(row["mean"], signed=True),
        "interval": interval(row, signed=True),
        "removed": percent(row["removed"], decimals=1),
        "first_learner": percent(row.get("first_learner"), signed=True),
        "times": f"{images[0] / images[1]:.1f}",
    }


def made(*suites: str) -> str:
    """How the runs of some suites were made."""
    return provenance(run_lines([result for suite in suites for result in report_of(suite).results]))


def words(suite: str, beginning: str) -> str:
    """The line below a report's tables that begins so."""
    return next(line for line in report_of(suite).below if line.startswith(beginning))


NAMES = (accuracy, accuracy_and_std, published, gain, made, words)


def render(template: str) -> str:
    """A page from its template. Raises jinja2's errors, or UserError for a run file that is damaged."""
    environment = Environment(loader=FileSystemLoader(RESULTS), undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals |= {function.__name__: function for function in NAMES}
    return environment.get_template(template).render()


def pages() -> dict[Path, str]:
    """The text of every page by its path."""
    readme = RESULTS.parent / "README.md"
    part = PART.sub(lambda place: place[1] + render("readme.md.j2") + place[2], readme.read_text(encoding="utf-8"))
    return {RESULTS.parent / "docs/results.md": render("results.md.j2"), readme: part}


if __name__ == "__main__":
    for suite in SUITES:
        report_of(suite).write(RESULTS / suite)
    for path, text in pages().items():
        write_whole(path, text.encode())
