"""The table of many runs: mean and spread over seeds, the published number, methods compared task by task, figures.

    python -m utils.report --suite config/suite/demo.yaml
    python -m utils.report runs/one runs/another --out report

Missing and incomplete runs are reported, and are no mistake. Exit status: 0; 2 for a mistake in the command or its
files, or if the report cannot be written; the table is printed even then.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from utils.errors import Parser, UserError, in_one_line
from utils.files import write_whole
from utils.logger import open_screens, write_line
from utils.plot import to_image
from utils.report import competition, latex, tables
from utils.report.figures import choose_figures
from utils.report.records import Result, of_folders, of_suite, scored_in_all
from utils.suite import file


class Choices(NamedTuple):
    """Which methods are compared: all pairs, or each with one; and whether the best mean is bold."""

    against: str | None
    all_pairs: bool
    bold_best: bool


class Report:
    """The tables and figures of some results. The pairs of a task competition are shown by its matrix alone."""

    def __init__(self, results: Sequence[Result], remarks: Sequence[str], suite: file.Suite, choices: Choices):
        rows = list(dict.fromkeys(result.row for result in results))
        if choices.against and choices.against not in rows:
            raise UserError(f"--against: expected one of {', '.join(rows)}, got {choices.against!r}")
        scored, published = scored_in_all(results), suite.competition
        if scored == "validation" and (suite.published or suite.curves):
            suite = suite.model_copy(update={"published": (), "curves": None})
            remarks = [*remarks, "left out: the published numbers, which are of test images"]
        shown = [result for result in results if not (published and competition.is_pair(result))]
        lines = tables.make_lines(shown, suite)
        pairings = tables.make_pairings(shown, choices.against, all_pairs=choices.all_pairs)
        matrices = competition.find_matrices(published, results) if published else None
        self.title = suite.title
        overview = partial(tables.overview_table, lines, scored, bold_best=choices.bold_best)
        self.tables = [overview(), tables.details_table(lines, scored)]
        for_paper = {"overview": overview(for_paper=True)}
        self.below = [provenance(results), *remarks]
        self.texts = {"report.csv": tables.details_csv(lines)}
        self.figures = choose_figures(shown, suite)
        if pairings:
            self.tables.append(tables.pairings_table(pairings, scored))
            for_paper["comparisons"] = tables.pairings_table(pairings, scored, for_paper=True)
            self.texts["comparisons.csv"] = tables.pairings_csv(pairings)
        if matrices:
            self.below[1:1] = competition.in_words(matrices)
            self.texts["competition.csv"] = competition.matrix_csv(matrices)
            self.figures["competition"] = lambda: competition.draw_competition(matrices)
        self.texts["report.tex"] = latex.page(for_paper, suite.title)

    def write(self, folder: Path) -> list[str]:
        """Write the report's files; returns their names. Raises UserError."""
        file.make_folder(folder)
        drawn: dict[str, bytes] = {}
        for name, draw in self.figures.items():
            try:
                figure = draw()
                drawn |= {f"{name}.{kind}": to_image(figure, kind) for kind in ("png", "pdf")}
            except Exception as error:  # drawing runs other people's code on the user's fonts
                write_line(f"warning: {name}: could not be drawn ({in_one_line(error)})", sys.stderr)
        sections = [table.text("github", "## ", "- ") for table in self.tables]
        images = [f"![{Path(name).stem}]({name})" for name in drawn if name.endswith(".png")]
        page = "\n\n".join([f"# {self.title}", *sections, *self.below, *images]) + "\n"
        contents = {name: text.encode() for name, text in (self.texts | {"report.md": page}).items()} | drawn
        for name, content in contents.items():
            write_whole(folder / name, content)
        return list(contents)


def provenance(results: Sequence[Result]) -> str:
    """With what the runs were made, and how long they took: all commits and devices of their invocations."""
    runs = [run for result in results for run in result.runs.values()]
    if not runs:
        return "No run is complete."
    invocations = [entry for run in runs for entry in run.env]
    commits = ", ".join(dict.fromkeys(entry.commit or "not known" for entry in invocations))
    devices = ", ".join(dict.fromkeys(entry.device or "not known" for entry in invocations))
    total = tables.duration(sum(run.summary.elapsed_sec for run in runs))
    return f"{len(runs)} runs, {total} in all; commit {commits}; device {devices}"


def read_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked. Raises UserError."""
    about = "The table of many runs, and their figures."
    parser = Parser(prog="python -m utils.report", description=about, allow_abbrev=False)
    add = parser.add_argument
    add("run_dirs", type=Path, nargs="*", metavar="RUN_DIR", help="run folders")
    add("--suite", type=Path, metavar="SUITE.yaml", help="a suite file, whose runs are shown, in place of run folders")
    add("--suite_dir", type=Path, metavar="DIR", help="the folder of the suite's runs (runs/<name of the suite file>)")
    pairs = parser.add_mutually_exclusive_group().add_argument
    pairs("--against", metavar="METHOD", help="what the others are compared with (the first of each benchmark)")
    pairs("--all_pairs", action="store_true", help="compare every two methods of a benchmark")
    add("--bold_best", action="store_true", help="the best mean of each benchmark in bold, in report.md and report.tex")
    add("--out", type=Path, metavar="DIR", help="where the pages, csv files and figures go (<suite_dir>/report)")
    flags = parser.parse_args(argv)
    if bool(flags.run_dirs) == bool(flags.suite):
        raise UserError("expected run folders or --suite SUITE.yaml, got " + ("both" if flags.suite else "neither"))
    if flags.suite_dir and not flags.suite:
        raise UserError("--suite_dir: expected beside --suite, got run folders")
    return flags


def make_report(flags: argparse.Namespace) -> None:
    """Print the tables, then write the report if it has a folder. Raises UserError."""
    if flags.suite:
        suite, folder = file.read_suite(flags.suite), file.suite_folder(flags.suite, flags.suite_dir)
        out = flags.out or folder / "report"
        results, remarks = of_suite(file.read_cells(suite, flags.suite, folder))
    else:
        suite, out = file.Suite.model_construct(title="Runs", rows={}, columns={}, seeds=()), flags.out
        results, remarks = of_folders(flags.run_dirs)
    report = Report(results, remarks, suite, Choices(flags.against, flags.all_pairs, flags.bold_best))
    write_line("\n\n".join([report.title, *(table.text() for table in report.tables), *report.below]), sys.stdout)
    if out:
        write_line(f"\nwritten to {out}: {', '.join(report.write(out))}", sys.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    open_screens()
    try:
        make_report(read_flags(argv))
    except UserError as mistake:
        write_line(f"utils.report: {mistake}", sys.stderr)
        return mistake.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
