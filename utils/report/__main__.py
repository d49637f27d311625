"""The table of many runs: mean and spread over seeds, the published number, methods compared task by task, figures.

    python -m utils.report --suite config/suite/demo.yaml
    python -m utils.report runs/one runs/another --out report

A finished run's ``run.json`` is all that is read. Missing and incomplete runs are reported, and are no mistake. Exit
status: 0; 2 for a mistake in the command or its files, or if the report cannot be written, or if it has no run and
another report is there; the table is printed even then.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for python PROJECT/utils/report, from any folder

from utils.command_line import Parser, exit_status
from utils.errors import UserError
from utils.logger import say
from utils.metrics import METRICS
from utils.report import results
from utils.report.report import Report
from utils.suite.file import Suite, read_plan

ABOUT = "The table of many runs, with figures. From another folder: python PROJECT/utils/report, with the same flags"
ELSEWHERE = "methods from elsewhere: benchmark, method, task, accuracy (a fraction); seed and round if known"  # --with
NO_SUITE = Suite.model_construct(title="Runs", rows={}, columns={}, seeds=())


def read_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked. Raises UserError."""
    parser = Parser("python -m utils.report", description=ABOUT, allow_abbrev=False)
    add = parser.add_argument
    add("run_dirs", type=Path, nargs="*", metavar="RUN_DIR", help="run folders")
    add("--suite", type=Path, metavar="SUITE.yaml", help="a suite file, whose runs are shown, in place of run folders")
    add("--suite_dir", type=Path, metavar="DIR", help="the folder of the suite's runs (runs/<name of the suite file>)")
    add("--with", type=Path, action="append", default=[], dest="elsewhere", metavar="FILE.csv", help=ELSEWHERE)
    add("--metrics", nargs="+", choices=METRICS, metavar="NAME", help=f"which of {', '.join(METRICS)} are shown")
    pairs = parser.add_mutually_exclusive_group().add_argument
    pairs("--against", metavar="METHOD", help="what the others are compared with (the first of each benchmark)")
    pairs("--all_pairs", action="store_true", help="compare every two methods of a benchmark")
    add("--bold_best", action="store_true", help="the best mean of each benchmark in bold, in report.md and report.tex")
    add("--out", type=Path, metavar="DIR", help="where the pages, csv files and figures go (<suite_dir>/report)")
    flags = parser.parse_intermixed_args(argv)
    if bool(flags.run_dirs) == bool(flags.suite):
        got = " ".join(str(source) for source in [*flags.run_dirs, flags.suite] if source) or "none of them"
        raise UserError(f"give run folders, or --suite SUITE.yaml, got {got}")
    if flags.suite_dir and not flags.suite:
        raise UserError("--suite_dir needs --suite")
    return flags


def make_report(flags: argparse.Namespace) -> None:
    """Print the tables, then write the report if it has a folder. Raises UserError."""
    suite, folder = NO_SUITE, flags.out
    if flags.suite:
        plan = read_plan(flags.suite, flags.suite_dir)
        suite, folder = plan.suite, flags.out or plan.folder / "report"
        found, remarks = results.of_suite(plan)
    else:
        found, remarks = results.of_folders(flags.run_dirs)
    for path in flags.elsewhere:
        more, further = results.of_elsewhere(path, found)
        found, remarks = [*found, *more], [*remarks, *further]
    report = Report(found, suite, remarks, flags.metrics, flags.against, flags.all_pairs, flags.bold_best)
    say(report.text())
    if folder:
        say(f"\nwritten to {folder}: {', '.join(report.write(folder))}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return exit_status("utils.report", lambda: make_report(read_flags(argv)))


if __name__ == "__main__":
    sys.exit(main())
