"""A report: the tables and figures of some runs, and the files that it is written to."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from utils.errors import UserError, in_one_line
from utils.files import write_whole
from utils.logger import write_line
from utils.plot import to_image
from utils.report import competition, latex, records, tables
from utils.report.figures import choose_figures
from utils.suite import file

NO_RUN = "No run is complete."


class Report:
    """The tables and figures of some runs. The pairs of a task competition are shown by its matrix alone.

    Attributes:
        results: The methods on benchmarks that are shown.
        tables: What the screen and ``report.md`` show, by name.
        lines: A line for each benchmark, method and metric, as in ``report.csv``.
        pairings: Methods compared task by task, as in ``comparisons.csv``.
        runs: A line for each run, as in ``runs.csv``.
        scored: Which images were scored, test or validation.
        source: The folder of the records that it was made from, if it was not made from run folders.
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
        self.results = [result for result in results if not (suite.competition and result.is_pair)]
        metrics = list(dict.fromkeys(("average_accuracy", *(flags.metrics or suite.metrics))))
        self.runs, self.scored, self.source = found.runs, scored, flags.records
        self.lines = tables.make_lines(self.results, found.runs, suite, metrics)
        self.pairings = tables.make_pairings(self.results, flags.against, all_pairs=flags.all_pairs)
        overview = partial(tables.overview_table, self.lines, scored, bold_best=flags.bold_best)
        self.title, self.is_empty = suite.title, found.records.empty
        self.tables = {"overview": overview(), "details": tables.details_table(self.lines, scored)}
        self.below = [provenance(found.runs, [cell.run(seed) for cell in cells for seed in suite.seeds])]
        frames = {"report": self.lines, "records": found.records, "runs": found.runs}
        self.figures = choose_figures(self.results, suite, scored)
        for_paper = {"overview": overview(for_paper=True)}
        if len(self.pairings):
            self.tables["comparisons"] = tables.pairings_table(self.pairings, scored)
            for_paper["comparisons"] = tables.pairings_table(self.pairings, scored, for_paper=True)
            frames["comparisons"] = self.pairings.dropna(subset="n")
        if len(found.runs) and not suite.competition:
            self.tables["cost"] = tables.cost_table(found.runs)
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
        sections = [table.text("github", "## ", "- ") for table in self.tables.values()]
        images = [f"![{Path(name).stem}]({name})" for name in drawn if name.endswith(".png")]
        page = "\n\n".join([f"# {self.title}", *sections, *self.below, *images]) + "\n"
        contents = {name: text.encode() for name, text in (self.texts | {"report.md": page}).items()} | drawn
        is_source = self.source and self.source.resolve() == folder.resolve()  # it may have runs that are not shown
        for name, content in contents.items():
            if not (is_source and name in ("records.csv", "runs.csv")):
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


def provenance(runs: pd.DataFrame, planned: Sequence[file.RunName] = ()) -> str:
    """How many runs there are, of those that a suite plans, how long they took, and their commits and devices."""
    if runs.empty:
        return NO_RUN
    texts = runs[["commit", "device", "threads"]].fillna("not known")
    made = "; ".join(f"{key} {', '.join(texts[key].str.split('; ').explode().unique())}" for key in texts)
    num_made = int(runs.set_index(records.RUN).index.isin(planned).sum())
    counts = [f"{num_made} of {len(planned)} planned runs"] if planned else []
    if num_others := len(runs) - num_made:
        counts.append(f"{num_others}{' more' if planned else ''} run{'s' if num_others > 1 else ''}")
    count = " and ".join(counts)
    return f"{count}, {tables.duration(runs['elapsed_sec'].sum())} in all; {made}"
