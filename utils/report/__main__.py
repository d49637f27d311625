"""The table of many runs: mean and spread over seeds, the published number, methods compared task by task, figures.

    python -m utils.report --suite config/suite/demo.yaml
    python -m utils.report runs/one runs/another --out report

What was not run is said, and is no mistake. Exit status: 0, or 2 for a mistake in the command or its files.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from utils.checkpoint import RunFolderError, write_whole
from utils.config import ConfigError
from utils.report.competition import competition_lines, matrices, matrix_csv
from utils.report.records import Result, of_folders, of_suite
from utils.report.tables import (
    details_csv,
    details_table,
    make_lines,
    make_pairings,
    overview_table,
    pairings_csv,
    pairings_table,
)
from utils.suite.file import Suite, read_cells, read_suite, suite_folder
from utils.suite.progress import duration


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
    if found:
        below += competition_lines(found)
        files["competition.csv"] = matrix_csv(found.names, found.ours).encode()
    figures = make_figures(shown, suite, found) if draw else {}
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
