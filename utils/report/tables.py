"""A report's tables: each metric as papers show it, methods compared task by task, and what a run costs."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from utils.config import Settings
from utils.metrics import METRICS
from utils.report.results import Result
from utils.report.statistics import OVER_BOTH, difference, estimate
from utils.suite.file import Published

OF_LINES = "benchmark method metric mean std low high n tasks published difference source".split()
OF_PAIRINGS = "benchmark method against mean low high over num_tasks seeds removed first_learner reason".split()
OF_WORDS = ("benchmark", "method", "against", "")  # columns of a table that are set to the left
MADE = ["commit", "torch", "device", "threads", "precision"]  # of a run's invocations, for runs.csv
COST = {  # by name in runs.csv: a column's title and the format of its numbers
    "learners": ("learners", "{:,.0f}"),
    "parameters": ("parameters", "{:,.0f}"),
    "mean_learners": ("learners a task", "{:,.1f}"),
    "images_trained": ("images trained on", "{:,.0f}"),
    "images_stored": ("images stored", "{:,.0f}"),
    "peak_mem_gb": ("memory, GB", "{:,.2f}"),
}


class Table(NamedTuple):
    """Cells of text, of which those with ``**`` around them are bold; ``notes`` stand below."""

    title: str
    cells: pd.DataFrame
    notes: Sequence[str] = ()

    def text(self, style: str = "simple", heading: str = "", bullet: str = "") -> str:
        """The table for a screen; other styles of ``tabulate``, headings and bullets are for a page."""
        bar = "\\|" if style == "github" else "|"
        cells = self.cells.rename(columns=lambda cell: cell.replace("|", bar)).map(lambda cell: cell.replace("|", bar))
        sides = ["left" if title in OF_WORDS else "right" for title in self.cells]
        options = {"disable_numparse": True, "colalign": sides, "preserve_whitespace": True}
        table = cells.to_markdown(index=False, tablefmt=style, **options)
        return "\n".join([heading + self.title, "", table, "", *(bullet + note for note in self.notes)]).rstrip()

    def without_constants(self, *kept: str) -> "Table":
        """The table without columns that are empty or, in several rows, have one value, which a note names."""
        first = self.cells.iloc[0]
        is_constant = (self.cells == first).all() & ((first == "") | (len(self.cells) > 1)) & ~first.index.isin(kept)
        in_every_row = [f"{title} {cell}" for title, cell in first[is_constant].items() if cell]
        notes = [f"In every row: {'; '.join(in_every_row)}."] * bool(in_every_row)
        return Table(self.title, self.cells.loc[:, ~is_constant], [*notes, *self.notes])


def record_lines(results: Sequence[Result]) -> pd.DataFrame:
    """A line for each run, round and task: the accuracy, a fraction."""
    lines = [
        (result.benchmark, result.method, seed, round_id, key.name, value)
        for result in results
        for seed, r in result.accuracy.items()
        for (round_id, key), value in r.stack().dropna().items()
    ]
    return pd.DataFrame(lines, columns=["benchmark", "method", "seed", "round", "task", "accuracy"])


def run_lines(results: Sequence[Result]) -> pd.DataFrame:
    """A line for each finished run: how it was made, what it cost, its settings as JSON, its data's fingerprints."""
    lines = []
    for result in results:
        for seed, run in result.runs.items():
            made = {key: [str(entry.get(key) or "not known") for entry in run.invocations] for key in MADE}
            line = {"benchmark": result.benchmark, "method": result.method, "seed": seed}
            line |= {key: "; ".join(dict.fromkeys(values)) for key, values in made.items()}
            line |= run.model_dump(include={"elapsed_sec", "peak_mem_gb", "scored_on"}) | run.cost.model_dump()
            settings = run.settings.model_dump_json(exclude={"benchmark": {"root"}})
            lines.append(line | {"settings": settings, "data": " ".join(run.data)})
    return pd.DataFrame(lines)


def provenance(runs: pd.DataFrame) -> str:
    """How many runs there are, how long they took, and their commits, devices and threads."""
    num_runs = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
    made = {key: runs[key].str.split("; ").explode().unique() for key in ("commit", "device", "threads")}
    how = "; ".join(f"{key} {', '.join(values)}" for key, values in made.items())
    return f"{num_runs}, {duration(runs['elapsed_sec'].sum())} in all; {how}"


def make_lines(results: Sequence[Result], published: Sequence[Published], metrics: Sequence[str]) -> pd.DataFrame:
    """A line for each benchmark, method and metric that has a meaning, with the columns ``OF_LINES``, fractions.

    ``tasks`` says over how many tasks an average is, if these are not all of its benchmark. A difference from a
    published number needs all tasks, the same network and the same length.
    """
    lines = []
    entries = {(name, entry.row, entry.metric): entry for entry in published for name in entry.percent}
    for result in results:
        all_tasks = {task for other in results if other.benchmark == result.benchmark for task in other.tasks}
        num_learned, values = len(result.learned), result.metrics
        fewer = f"{num_learned} of {len(all_tasks)} tasks" + " learned" * (num_learned < len(result.final.columns))
        tasks = fewer if num_learned < len(all_tasks) else ""
        for metric in metrics:
            if METRICS[metric].needs_arrival and not result.continual:
                continue
            name = (result.benchmark, result.method, metric)
            found = estimate(values.get(metric, ()), least=METRICS[metric].least)
            entry = entries.get(name)
            number = entry.percent[result.benchmark] / 100 if entry else float("nan")
            comparable = entry and not tasks and is_comparable(entry, result.settings)
            apart = found.mean - number if comparable else float("nan")
            lines.append((*name, *found, tasks, number, apart, entry.source if entry else ""))
    return pd.DataFrame(lines, columns=OF_LINES)


def is_comparable(published: Published, settings: Settings | None) -> bool:
    """Whether runs with these settings have the network and the length of a published number."""
    if settings is None or published.model not in (None, settings.recipe.model):
        return False
    return not published.epochs or settings.epochs in published.epochs


def make_pairings(results: Sequence[Result], against: str | None, *, all_pairs: bool = False) -> pd.DataFrame:
    """Methods compared task by task, with the columns ``OF_PAIRINGS``, fractions; a reason where they cannot be.

    Each method of a benchmark is compared with one of them: the one named, or the first; or all pairs.
    """
    rows = []
    for benchmark in dict.fromkeys(result.benchmark for result in results):
        methods = [result for result in results if result.benchmark == benchmark]
        bases = [result for result in methods if against in (None, result.method)][:1]
        pairs = [(base, other) for base in bases for other in methods if other is not base]
        for base, other in itertools.combinations(methods, 2) if all_pairs else pairs:
            names = {"benchmark": benchmark, "method": other.method, "against": base.method}
            rows.append({**names, "over": "", "seeds": "", "reason": "", **compare(other, base)})
    return pd.DataFrame(rows, columns=OF_PAIRINGS)


def compare(ours: Result, other: Result) -> dict[str, object]:
    """The difference of two results, as in a row of ``make_pairings``.

    ``first_learner`` is the part of a gain over Isolated that the first learner of each task has: the learning
    accuracy less Isolated's.
    """
    if not ours.learned == other.learned == {*ours.final} == {*other.final}:  # else some were guessed
        return {"reason": "other tasks"}
    found = difference(ours.final, other.final)
    if found is None:
        return {"reason": "no seed in common"}
    row = found._asdict() | {"seeds": " ".join(map(str, found.seeds))}
    if other.is_isolated_of(ours) and ours.continual:
        learned, alone = (result.loc[list(found.seeds)] for result in (ours.metrics["learning_accuracy"], other.final))
        row["first_learner"] = learned.mean() - alone.mean().mean()
    return row


def duration(seconds: float) -> str:
    """A time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def percent(value: float, *, signed: bool = False, decimals: int = 2) -> str:
    """A fraction as a percentage; nothing if it is not known."""
    return "" if pd.isna(value) else f"{100 * value:{'+' if signed else ''}z.{decimals}f}"  # z: no -0.00


def mean_and_std(line: pd.Series, *, with_n: bool = False) -> str:
    """The mean with its spread in percent, the number of seeds, and the number of tasks if these are not all."""
    spread = "" if pd.isna(line["std"]) else f" ± {percent(line['std'])}"
    tasks = f", {line['tasks']}" if line["tasks"] else ""
    return percent(line["mean"]) + spread + (f" ({line['n']})" if with_n else "") + tasks


def interval(line: pd.Series, *, signed: bool = False) -> str:
    """The interval in percent and, if it is not for new seeds, what it is for; nothing if it is not known."""
    low, high = percent(line["low"], signed=signed), percent(line["high"], signed=signed)
    over = line.get("over", OVER_BOTH)
    return f"{low} to {high}{'' if over == OVER_BOTH else f'; {over}'}" if low else ""


def metric_table(lines: pd.DataFrame, metric: str, scored: str, *, bold_best: bool = False) -> Table:
    """A metric as papers show it: a method a row, a benchmark a column; "-" where there is no run.

    Below a method stand its interval, the published number and the difference from it, where they are known.

    Args:
        lines: The report's lines.
        metric: The metric's name.
        scored: Which images were scored, test or validation.
        bold_best: Whether the best mean of each benchmark over all its tasks is bold.
    """
    lines = lines[lines["metric"] == metric].set_index(["method", "benchmark"])
    counts, sources = lines["n"].unique(), [source for source in lines["source"].unique() if source]
    cells = lines.apply(mean_and_std, axis="columns", with_n=len(counts) > 1).astype(object)
    notes = [f"Published: {'; '.join(sources)}."] * bool(sources)
    if bold_best:  # as it is printed: equal ones too
        whole = lines["mean"].where(lines["tasks"] == "")
        is_best = whole.map(percent) == whole.groupby("benchmark").transform("max").map(percent)
        cells = cells.mask(is_best & whole.notna(), "**" + cells + "**")
        notes.insert(0, "Bold: the best mean of each benchmark, equal ones too; published numbers do not count.")
    if (lines["published"].notna() & lines["difference"].isna()).any():
        notes.append("No difference is shown from a number of another network, another length or other tasks.")
    parts = {
        "{}": cells.unstack(fill_value="-", sort=False),
        "  95 % interval": lines.apply(interval, axis="columns").unstack(fill_value="", sort=False),
        "  published": lines["published"].map(percent).unstack(fill_value="", sort=False),
        "  difference": lines["difference"].map(percent, signed=True).unstack(fill_value="", sort=False),
    }
    methods = parts["{}"].index
    rows = [[name.format(it), *part.loc[it]] for it in methods for name, part in parts.items() if part.loc[it].any()]
    n = f", n = {counts[0]}" if len(counts) == 1 else " (n)"
    label = METRICS[metric].label
    title = f"{label[:1].upper() + label[1:]}, {scored} images, %: mean ± standard deviation over seeds{n}"
    return Table(title, pd.DataFrame(rows, columns=["method", *parts["{}"]]), notes)


def pairings_table(pairings: pd.DataFrame, scored: str) -> Table:
    """Methods compared task by task."""
    cells = pairings[["benchmark", "method", "against"]].copy()
    cells["difference, points"] = pairings["mean"].map(percent, signed=True) + pairings["reason"]
    cells["95 % interval"] = pairings.apply(interval, axis="columns", signed=True)
    cells["error removed, %"] = pairings["removed"].map(percent, decimals=1)
    cells["first learner, points"] = pairings["first_learner"].map(percent, signed=True)
    cells["tasks"] = pairings["num_tasks"].map("{:.0f}".format).where(pairings["reason"] == "", "")
    cells["seeds"] = pairings["seeds"]
    over = "The interval is for new seeds and new tasks; with fewer than three seeds for new tasks alone, as it says."
    first = "First learner: the part of the gain over Isolated that a task's first learner has by itself."
    notes = [over, first] if pairings["first_learner"].notna().any() else [over]
    title = f"Difference of two methods in {scored} accuracy, paired by task and seed"
    return Table(title, cells, notes).without_constants("method", "against", "difference, points")


def cost_table(runs: pd.DataFrame) -> Table:
    """What a run of each method costs: networks at test time, images in training, time; means over the runs."""
    groups = runs.groupby(["benchmark", "method"], sort=False)
    cells = pd.DataFrame({title: groups[key].mean().map(style.format) for key, (title, style) in COST.items()})
    cells["time"] = groups["elapsed_sec"].mean().map(duration)
    title = "What a run costs: learners and parameters at test time, images in training"
    return Table(title, cells.reset_index()).without_constants("method")
