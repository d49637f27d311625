"""The table of many runs: mean and spread over seeds, the published number, methods compared task by task, figures.

    python -m utils.report --suite config/suite/demo.yaml
    python -m utils.report runs/one runs/another --out report
    python -m utils.report --records report

Missing and incomplete runs are reported, and are no mistake. Exit status: 0; 2 for a mistake in the command or its
files, or if the report cannot be written; the table is printed even then.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from utils.errors import Parser, UserError, in_one_line
from utils.files import write_whole
from utils.logger import open_screens, write_line
from utils.metrics import METRICS
from utils.plot import to_image
from utils.report import competition, latex, records, tables
from utils.report.figures import choose_figures
from utils.suite import file


class Report:
    """The tables and figures of some runs. The pairs of a task competition are shown by its matrix alone."""

    def __init__(self, found: records.Tables, remarks: Sequence[str], suite: file.Suite, cells: Sequence[file.Cell]):
        self.found, self.remarks, self.suite, self.cells = found, list(remarks), suite, cells
        self.results = records.make_results(found, cells)
        self.scored = scored_in_all(found.runs, self.results)
        if self.scored == "validation" and (suite.published or suite.curves):
            self.suite = suite.model_copy(update={"published": (), "curves": None})
            self.remarks.append("left out: the published numbers, which are of test images")

    def make(self, flags: argparse.Namespace, label: str) -> None:
        """Make tables, texts and figures as the flags say; ``label`` begins LaTeX's labels. Raises UserError."""
        methods = list(dict.fromkeys(result.method for result in self.results))
        if flags.against and flags.against not in methods:
            raise UserError(f"--against: expected one of {', '.join(methods)}, got {flags.against!r}")
        published = self.suite.competition
        shown = [result for result in self.results if not (published and competition.is_pair(result))]
        metrics = list(dict.fromkeys(("average_accuracy", *(flags.metrics or self.suite.metrics))))
        lines = tables.make_lines(shown, self.found.runs, self.suite, metrics)
        pairings = tables.make_pairings(shown, flags.against, all_pairs=flags.all_pairs)
        matrices = competition.find_matrices(published, self.results) if published else None
        overview = partial(tables.overview_table, lines, self.scored, bold_best=flags.bold_best)
        self.tables = [overview(), tables.details_table(lines, self.scored)]
        for_paper = {"overview": overview(for_paper=True)}
        self.below = [provenance(self.found.runs), *self.remarks]
        self.texts = {"report.csv": records.to_csv(lines)}
        self.texts |= {"records.csv": records.to_csv(self.found.records), "runs.csv": records.to_csv(self.found.runs)}
        self.figures = choose_figures(shown, self.suite, self.scored)
        if len(pairings):
            self.tables.append(tables.pairings_table(pairings, self.scored))
            for_paper["comparisons"] = tables.pairings_table(pairings, self.scored, for_paper=True)
            self.texts["comparisons.csv"] = records.to_csv(pairings.dropna(subset="n"))
        if len(self.found.runs) and not published:
            self.tables.append(tables.cost_table(self.found.runs))
        if matrices:
            self.below[1:1] = competition.in_words(matrices)
            self.texts["competition.csv"] = competition.matrix_csv(matrices)
            self.figures["competition"] = lambda: competition.draw_competition(matrices)
        self.texts["report.tex"] = latex.page(for_paper, self.suite.title, label)

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
        page = "\n\n".join([f"# {self.suite.title}", *sections, *self.below, *images]) + "\n"
        contents = {name: text.encode() for name, text in (self.texts | {"report.md": page}).items()} | drawn
        for name, content in contents.items():
            write_whole(folder / name, content)
        return list(contents)


def scored_in_all(runs: pd.DataFrame, results: Sequence[records.Result]) -> str:
    """Which images were scored in all complete runs: "validation" or "test". Raises UserError if both were."""
    example = runs.drop_duplicates("scored_on").set_index("scored_on") if len(runs) else runs
    if len(example) > 1:
        names = {kind: " / ".join(map(str, example.loc[kind, records.RUN])) for kind in ("test", "validation")}
        expected = "expected runs that were scored on test images, or on validation images"
        raise UserError(f"{expected}, got test in {names['test']} and validation in {names['validation']}")
    return next(iter([*example.index, *(result.settings.scored_on for result in results if result.settings)]), "test")


def provenance(runs: pd.DataFrame) -> str:
    """With what the runs were made, and how long they took: all commits and devices of their invocations."""
    if runs.empty:
        return "No run is complete."
    commits, devices = (
        ", ".join(runs[key].fillna("not known").str.split("; ").explode().unique()) for key in ("commit", "device")
    )
    return f"{len(runs)} runs, {tables.duration(runs['elapsed_sec'].sum())} in all; commit {commits}; device {devices}"


def read_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked. Raises UserError."""
    about = "The table of many runs, and their figures."
    parser = Parser(prog="python -m utils.report", description=about, allow_abbrev=False)
    add = parser.add_argument
    add("run_dirs", type=Path, nargs="*", metavar="RUN_DIR", help="run folders")
    add("--suite", type=Path, metavar="SUITE.yaml", help="a suite file, whose runs are shown, in place of run folders")
    add("--suite_dir", type=Path, metavar="DIR", help="the folder of the suite's runs (runs/<name of the suite file>)")
    add("--records", type=Path, metavar="DIR", help="read records.csv and runs.csv of a report, and no run folder")
    add("--with", type=Path, action="append", default=[], dest="elsewhere", metavar="FILE.csv", help=ELSEWHERE)
    add("--metrics", nargs="+", choices=METRICS, metavar="NAME", help=f"which of {', '.join(METRICS)} are shown")
    pairs = parser.add_mutually_exclusive_group().add_argument
    pairs("--against", metavar="METHOD", help="what the others are compared with (the first of each benchmark)")
    pairs("--all_pairs", action="store_true", help="compare every two methods of a benchmark")
    add("--bold_best", action="store_true", help="the best mean of each benchmark in bold, in report.md and report.tex")
    add("--out", type=Path, metavar="DIR", help="where the pages, csv files and figures go (<suite_dir>/report)")
    flags = parser.parse_args(argv)
    if (flags.run_dirs and (flags.suite or flags.records)) or not (flags.run_dirs or flags.suite or flags.records):
        given = "both" if flags.run_dirs else "neither"
        raise UserError(f"expected run folders, or --suite SUITE.yaml or --records DIR, got {given}")
    if flags.suite_dir and not flags.suite:
        raise UserError("--suite_dir: expected beside --suite, got none")
    return flags


ELSEWHERE = "methods from elsewhere: benchmark, method, task, accuracy (a fraction); seed and round if known"


def make_report(flags: argparse.Namespace) -> None:
    """Print the tables, then write the report if it has a folder. Raises UserError."""
    suite, cells, out = file.Suite.model_construct(title="Runs", rows={}, columns={}, seeds=()), [], flags.records
    if flags.suite:
        suite, folder = file.read_suite(flags.suite), file.suite_folder(flags.suite, flags.suite_dir)
        cells, out = file.read_cells(suite, flags.suite, folder), flags.records or folder / "report"
    if flags.records:
        found, remarks = records.of_files(flags.records, cells)
    else:
        found, remarks = records.of_suite(cells) if flags.suite else records.of_folders(flags.run_dirs)
    for path in flags.elsewhere:
        found = records.of_elsewhere(path, found)
    out = flags.out or out
    report = Report(found, remarks, suite, cells)
    report.make(flags, file.slug("_".join(out.resolve().parts[-2:])) if out else "")
    write_line("\n\n".join([suite.title, *(table.text() for table in report.tables), *report.below]), sys.stdout)
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
