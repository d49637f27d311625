"""The table of many runs: mean and spread over seeds, the published number, methods compared task by task, figures.

    python -m utils.report --suite config/suite/demo.yaml
    python -m utils.report runs/one runs/another --out report
    python -m utils.report --records report
    python -m utils.report --pages docs/results.md README.md

Missing and incomplete runs are reported, and are no mistake. Exit status: 0; 2 for a mistake in the command or its
files, or if the report cannot be written, or if it has no run and another report is there; the table is printed even
then.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for python PROJECT/utils/report, from any folder

from utils.command_line import Parser
from utils.errors import UserError
from utils.files import write_whole
from utils.logger import open_screens, write_line
from utils.metrics import METRICS
from utils.plot import to_image
from utils.program import ROOT
from utils.report import pages
from utils.report.report import Report
from utils.suite import file

RESULTS = ROOT / "results"
PAGES = "make the tables and figures of these pages anew from results/, see utils/report/pages.py"
ABOUT = "The table of many runs, with figures. From another folder: python PROJECT/utils/report, with the same flags"
ELSEWHERE = "methods from elsewhere: benchmark, method, task, accuracy (a fraction); seed and round if known"  # --with


def read_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked. Raises UserError."""
    parser = Parser("python -m utils.report", description=ABOUT, allow_abbrev=False)
    add = parser.add_argument
    add("run_dirs", type=Path, nargs="*", metavar="RUN_DIR", help="run folders")
    add("--suite", type=Path, metavar="SUITE.yaml", help="a suite file, whose runs are shown, in place of run folders")
    add("--suite_dir", type=Path, metavar="DIR", help="the folder of the suite's runs (runs/<name of the suite file>)")
    add("--records", type=Path, metavar="DIR", help="read records.csv and runs.csv of a report, and no run folder")
    add("--pages", type=Path, nargs="+", default=[], metavar="PAGE.md", help=PAGES)
    add("--with", type=Path, action="append", default=[], dest="elsewhere", metavar="FILE.csv", help=ELSEWHERE)
    add("--metrics", nargs="+", choices=METRICS, metavar="NAME", help=f"which of {', '.join(METRICS)} are shown")
    pairs = parser.add_mutually_exclusive_group().add_argument
    pairs("--against", metavar="METHOD", help="what the others are compared with (the first of each benchmark)")
    pairs("--all_pairs", action="store_true", help="compare every two methods of a benchmark")
    add("--bold_best", action="store_true", help="the best mean of each benchmark in bold, in report.md and report.tex")
    add("--out", type=Path, metavar="DIR", help="where the pages, csv files and figures go (<suite_dir>/report)")
    flags = parser.parse_intermixed_args(argv)
    sources = [*flags.run_dirs, *flags.pages, flags.suite or flags.records]
    if [bool(flags.run_dirs), bool(flags.pages), bool(flags.suite or flags.records)].count(True) != 1:
        got = " ".join(str(source) for source in sources if source) or "none of them"
        raise UserError(f"give run folders, --pages PAGE.md, or --suite SUITE.yaml or --records DIR, got {got}")
    if flags.suite_dir and not flags.suite:
        raise UserError("--suite_dir needs --suite")
    if flags.pages and any(value for key, value in vars(flags).items() if key != "pages"):
        raise UserError("--pages takes no other flags; --all_pairs and --bold_best may stand in the pages' markers")
    return flags


def make_report(flags: argparse.Namespace) -> None:
    """Print the tables, then write the report if it has a folder. Raises UserError."""
    suite, cells, out = file.Suite.model_construct(title="Runs", rows={}, columns={}, seeds=()), [], flags.records
    if flags.suite:
        suite, folder = file.read_suite(flags.suite), file.suite_folder(flags.suite, flags.suite_dir)
        cells, out = file.read_cells(suite, flags.suite, folder), folder / "report"
    out = flags.out or out
    report = Report(flags, suite, cells, file.slug("_".join(out.resolve().parts[-2:])) if out else "")
    write_line(
        "\n\n".join([suite.title, *(table.text() for table in report.tables.values()), *report.below]), sys.stdout
    )
    if out:
        write_line(f"\nwritten to {out}: {', '.join(report.write(out))}", sys.stdout)


@cache
def recorded_report(suite: str, *options: str) -> Report:
    """The report of a suite in ``config/suite/``, made from its records in ``results/``. Raises UserError."""
    path, folder = ROOT / f"config/suite/{suite}.yaml", RESULTS / suite
    flags, content = read_flags(["--suite", str(path), "--records", str(folder), *options]), file.read_suite(path)
    return Report(flags, content, file.read_cells(content, path, folder), "")


def make_pages(paths: Sequence[Path]) -> None:
    """Make the tables and figures of pages anew; nothing is written if there is a mistake. Raises UserError."""
    contents = {}
    for path in paths:
        page = pages.read_page(path)
        contents[path] = pages.make_text(page, recorded_report).encode()
        for name, draw in pages.make_figures(page, recorded_report).items():
            contents[RESULTS / f"{name}.png"] = to_image(draw())
    for path, content in contents.items():
        write_whole(path, content)
    write_line(f"written: {', '.join(map(str, contents))}", sys.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    open_screens()
    try:
        flags = read_flags(argv)
        make_pages(flags.pages) if flags.pages else make_report(flags)
    except UserError as mistake:
        write_line(f"utils.report: {mistake}", sys.stderr)
        return mistake.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
