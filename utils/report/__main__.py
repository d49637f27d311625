"""The table of many runs: mean and spread over seeds, the published number, methods compared task by task, figures.

    python -m utils.report --suite config/suite/demo.yaml
    python -m utils.report runs/one runs/another --out report
    python -m utils.report --records report

Missing and incomplete runs are reported, and are no mistake. Exit status: 0; 2 for a mistake in the command or its
files, or if the report cannot be written, or if it has no run and another report is there; the table is printed even
then.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for python PROJECT/utils/report, from any folder

import pandas as pd

from utils.command_line import Parser
from utils.errors import UserError, in_one_line
from utils.files import write_whole
from utils.logger import open_screens, write_line
from utils.metrics import METRICS
from utils.plot import to_image
from utils.report import competition, latex, records, tables
from utils.report.figures import choose_figures
from utils.suite import file

ELSEWHERE = "methods from elsewhere: benchmark, method, task, accuracy (a fraction); seed and round if known"  # --with
NO_RUN = "No run is complete."


class Report:
    """The tables and figures of some runs. The pairs of a task competition are shown by its matrix alone.

    Attributes:
        tables: What the screen and ``report.md`` show.
        below: Lines below the tables.
        texts: The content of other files, by name.
        figures: By name; none is drawn yet.
    """

    def __init__(self, flags: argparse.Namespace, suite: file.Suite, cells: Sequence[file.Cell], label: str):
        """Gather the runs, and make tables and texts; ``label`` begins LaTeX's labels. Raises UserError."""
        found, remarks = find_runs(flags, cells)
        results = records.make_results(found, cells)
        scored = scored_in_all(found.runs, results)
        if scored == "validation" and (suite.published or suite.curves):
            suite = suite.model_copy(update={"published": (), "curves": None})
            remarks.append("left out: the published numbers, which are of test images")
        methods = list(dict.fromkeys(result.method for result in results))
        if flags.against and flags.against not in methods:
            raise UserError(f"--against: expected one of {', '.join(methods)}, got {flags.against!r}")
        shown = [result for result in results if not (suite.competition and result.is_pair)]
        metrics = list(dict.fromkeys(("average_accuracy", *(flags.metrics or suite.metrics))))
        lines = tables.make_lines(shown, found.runs, suite, metrics)
        pairings = tables.make_pairings(shown, flags.against, all_pairs=flags.all_pairs)
        overview = partial(tables.overview_table, lines, scored, bold_best=flags.bold_best)
        self.title, self.is_empty = suite.title, found.records.empty
        self.tables = [overview(), tables.details_table(lines, scored)]
        self.below = [provenance(found.runs)]
        frames = {"report": lines, "records": found.records, "runs": found.runs}
        self.figures = choose_figures(shown, suite, scored)
        for_paper = {"overview": overview(for_paper=True)}
        if len(pairings):
            self.tables.append(tables.pairings_table(pairings, scored))
            for_paper["comparisons"] = tables.pairings_table(pairings, scored, for_paper=True)
            frames["comparisons"] = pairings.dropna(subset="n")
        if len(found.runs) and not suite.competition:
            self.tables.append(tables.cost_table(found.runs))
        if suite.competition and (matrices := competition.find_matrices(suite.competition, results)):
            self.below += competition.in_words(matrices)
            frames["competition"] = matrices.ours.rename_axis("task").reset_index()
            self.figures["competition"] = partial(competition.draw_competition, matrices)
        self.below += remarks
        self.texts = {f"{name}.csv": records.to_csv(frame) for name, frame in frames.items()}
        self.texts["report.tex"] = latex.page(for_paper, suite.title, label)

    def write(self, folder: Path) -> list[str]:
        """Write the report's files; returns their names. Raises UserError."""
        before = [path for name in ("report.md", *self.texts) if (path := folder / name).exists()]
        if self.is_empty and before and NO_RUN not in before[0].read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"{folder}: no complete run was found, so the report that is there was kept")
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


def find_runs(flags: argparse.Namespace, cells: Sequence[file.Cell]) -> tuple[records.Tables, list[str]]:
    """The runs that the flags name, with the methods from elsewhere, and remarks. Raises UserError."""
    if flags.records:
        found, remarks = records.of_files(flags.records, cells)
    elif flags.suite:
        found, remarks = records.of_suite(cells)
    else:
        found, remarks = records.of_folders(flags.run_dirs)
    for path in flags.elsewhere:
        found = records.of_elsewhere(path, found)
    return found, remarks


def scored_in_all(runs: pd.DataFrame, results: Sequence[records.Result]) -> str:
    """Which images were scored in all complete runs: "validation" or "test". Raises UserError if both were."""
    examples = runs.groupby("scored_on")[records.RUN].first()
    if len(examples) > 1:
        test, validation = (" / ".join(map(str, name)) for name in examples.itertuples(index=False))
        raise UserError(f"expected runs scored on the same images, got test in {test} and validation in {validation}")
    return [*examples.index, *(result.settings.scored_on for result in results if result.settings), "test"][0]


def provenance(runs: pd.DataFrame) -> str:
    """With what the runs were made, and how long they took: all commits and devices of their invocations."""
    if runs.empty:
        return NO_RUN
    texts = runs[["commit", "device"]].fillna("not known")
    made = "; ".join(f"{key} {', '.join(texts[key].str.split('; ').explode().unique())}" for key in texts)
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''}, {tables.duration(runs['elapsed_sec'].sum())} in all; {made}"


def read_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line, checked. Raises UserError."""
    about = (
        "The table of many runs, with figures. From another folder: python PROJECT/utils/report, with the same flags"
    )
    parser = Parser("python -m utils.report", description=about, allow_abbrev=False)
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
    flags = parser.parse_intermixed_args(argv)
    if bool(flags.run_dirs) == bool(flags.suite or flags.records):
        got = " ".join(map(str, flags.run_dirs)) or "none of them"
        raise UserError(f"give either run folders, or --suite SUITE.yaml or --records DIR, got {got}")
    if flags.suite_dir and not flags.suite:
        raise UserError("--suite_dir needs --suite")
    return flags


def make_report(flags: argparse.Namespace) -> None:
    """Print the tables, then write the report if it has a folder. Raises UserError."""
    suite, cells, out = file.Suite.model_construct(title="Runs", rows={}, columns={}, seeds=()), [], flags.records
    if flags.suite:
        suite, folder = file.read_suite(flags.suite), file.suite_folder(flags.suite, flags.suite_dir)
        cells, out = file.read_cells(suite, flags.suite, folder), flags.records or folder / "report"
    out = flags.out or out
    report = Report(flags, suite, cells, file.slug("_".join(out.resolve().parts[-2:])) if out else "")
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
