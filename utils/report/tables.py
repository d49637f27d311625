"""A report's tables: a line for each method, benchmark and metric; the cost; methods compared task by task."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from utils.metrics import METRICS, compute_metrics
from utils.report.records import Result
from utils.report.statistics import estimate, holm, paired_by_task
from utils.suite.file import Suite

OF_COST = ["parameters", "images_trained", "elapsed_sec"]  # the mean of a method's runs, beside its accuracy
OF_LINES = [*"benchmark method metric mean std low high n published difference source".split(), *OF_COST]
OF_PAIRINGS = [
    *"benchmark method against mean std low high n num_zeros wilcoxon_p holm_p".split(),
    *"low_over_seeds high_over_seeds seeds".split(),
]
COST = {  # by name in runs.csv: a column's title and the format of its numbers
    "learners": ("learners", "{:,.0f}"),
    "parameters": ("parameters", "{:,.0f}"),
    "mean_learners": ("learners a task", "{:,.1f}"),
    "images_trained": ("images trained on", "{:,.0f}"),
    "images_stored": ("images stored", "{:,.0f}"),
    "peak_mem_gb": ("memory, GB", "{:,.2f}"),
}


class Table(NamedTuple):
    """Cells of text; the first ``num_names`` columns are words, and ``notes`` stand below. ``**`` around it is bold."""

    title: str
    cells: pd.DataFrame
    num_names: int
    notes: Sequence[str] = ()

    def text(self, style: str = "simple", heading: str = "", bullet: str = "") -> str:
        """The table for a screen; other styles of ``tabulate``, headings and bullets are for a page."""
        cells = self.cells
        if style == "github":
            cells = cells.rename(columns=_escape_bar).map(_escape_bar)
        sides = ["left" if place < self.num_names else "right" for place in range(cells.shape[1])]
        options = {"disable_numparse": True, "colalign": sides, "preserve_whitespace": True}
        table = cells.to_markdown(index=False, tablefmt=style, **options)
        return "\n".join([heading + self.title, "", table, "", *(bullet + note for note in self.notes)]).rstrip()


def _escape_bar(cell: str) -> str:
    return cell.replace("|", "\\|")


def make_lines(results: Sequence[Result], runs: pd.DataFrame, suite: Suite, metrics: Sequence[str]) -> pd.DataFrame:
    """A line for each benchmark, method and metric that has a meaning, with the columns ``OF_LINES``, fractions."""
    lines = []
    for result in results:
        values = pd.DataFrame([compute_metrics(r, continual=result.continual) for r in result.accuracy.values()])
        for metric in metrics:
            if METRICS[metric].needs_arrival and not result.continual:
                continue
            line: dict[str, object] = {"benchmark": result.benchmark, "method": result.method, "metric": metric}
            line |= estimate(values.get(metric, ()), least=METRICS[metric].least)._asdict()
            line["published"], line["source"] = suite.number(result.method, result.benchmark, metric)
            lines.append(line)
    names = ["benchmark", "method"]
    frame = pd.DataFrame(lines, columns=[key for key in OF_LINES if key not in OF_COST]).astype({"published": float})
    frame = frame.merge(runs.groupby(names)[OF_COST].mean().reset_index(), on=names, how="left")
    return frame.assign(difference=frame["mean"] - frame["published"])


def make_pairings(results: Sequence[Result], against: str | None, *, all_pairs: bool = False) -> pd.DataFrame:
    """Methods compared task by task, with the columns ``OF_PAIRINGS``; no n where two cannot be compared.

    Each method of a benchmark is compared with one of them: the one named, or the first that was run; or all pairs.
    ``holm_p`` is the p-value, corrected for all comparisons.
    """
    rows = []
    for benchmark in dict.fromkeys(result.benchmark for result in results):
        methods = [result for result in results if result.benchmark == benchmark]
        ran = [result for result in methods if result.accuracy]
        bases = [result for result in methods if result.method == against] if against else ran
        pairs = [(base, other) for base in bases[:1] for other in ran if other is not base]
        for base, other in itertools.combinations(ran, 2) if all_pairs else pairs:
            row: dict[str, object] = {"benchmark": benchmark, "method": other.method, "against": base.method}
            if found := paired_by_task(other.final, base.final):
                row |= found._asdict() | found.difference._asdict()
                row |= {"low_over_seeds": found.over_seeds.low, "high_over_seeds": found.over_seeds.high}
                row["seeds"] = " ".join(map(str, found.seeds))
            rows.append(row)
    pairings = pd.DataFrame(rows, columns=OF_PAIRINGS).astype({"n": "Int64", "num_zeros": "Int64", "wilcoxon_p": float})
    return pairings.assign(holm_p=holm(pairings["wilcoxon_p"]))


def duration(seconds: float) -> str:
    """A time in words; nothing if it is not known."""
    if pd.isna(seconds):
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def thousands(value: float) -> str:
    """A whole number in groups of three digits; nothing if it is not known."""
    return "" if pd.isna(value) else f"{value:,.0f}"


def percent(value: float, *, signed: bool = False) -> str:
    """A fraction as a percentage with two decimals; nothing if it is not known."""
    return "" if pd.isna(value) else f"{100 * value:{'+' if signed else ''}z.2f}"  # z: no -0.00


def mean_and_std(line: pd.Series, *, with_n: bool = False) -> str:
    """The mean with its spread in percent, and with the number of seeds."""
    if pd.isna(line["mean"]):
        return "not run"
    spread = "" if pd.isna(line["std"]) else f" ± {percent(line['std'])}"
    return percent(line["mean"]) + spread + (f" ({line['n']})" if with_n else "")


def interval(line: pd.Series, *, signed: bool = False) -> str:
    """The interval in percent; nothing if it is not known."""
    low, high = percent(line["low"], signed=signed), percent(line["high"], signed=signed)
    return f"{low} to {high}" if low else ""


def overview_table(lines: pd.DataFrame, scored: str, *, bold_best: bool = False, for_paper: bool = False) -> Table:
    """Average accuracies as papers show them: a method a row, a benchmark a column.

    Args:
        lines: The report's lines; those of average accuracies are shown.
        scored: Which images were scored, test or validation.
        bold_best: Whether the best mean of each benchmark is bold.
        for_paper: Whether n stands in the title, if all have the same, and the published numbers' sources in the notes.
    """
    average = lines[lines["metric"] == "average_accuracy"].set_index(["method", "benchmark"])
    counts = average.loc[average["n"] > 0, "n"].unique()
    same_n = for_paper and len(counts) == 1
    ours = average.apply(mean_and_std, axis="columns", with_n=not same_n).astype(object)
    if bold_best:  # as it is printed: equal ones too
        best = average["mean"].groupby("benchmark").transform("max").map(percent)
        ours = ours.mask((average["n"] > 0) & (average["mean"].map(percent) == best), "**" + ours + "**")
    ours = ours.unstack(fill_value="-", sort=False)
    published = average["published"].map(percent).unstack(fill_value="", sort=False)
    rows = []
    for method in ours.index:
        rows.append([method, *ours.loc[method]])
        if published.loc[method].any():
            rows.append(["  published", *published.loc[method]])
    notes = ["Bold: the best mean of each benchmark, equal ones too; published numbers do not count."] * bold_best
    if for_paper and (sources := [source for source in average["source"].unique() if source]):
        notes.append(f"Published: {'; '.join(sources)}.")
    n = f", n = {counts[0]}" if same_n else " (n)"
    title = f"Average {scored} accuracy, %: mean ± standard deviation over seeds{n}"
    return Table(title, pd.DataFrame(rows, columns=["method", *ours]), 1, notes)


def details_table(lines: pd.DataFrame, scored: str) -> Table:
    """Every line with its interval, n, the published number and its source."""
    sources = [source for source in lines["source"].unique() if source]
    numbers = {source: f" [{number}]" for number, source in enumerate(sources, start=1)}
    cells = lines[["benchmark", "method"]].assign(
        **{
            "metric, %": [METRICS[metric].label for metric in lines["metric"]],
            "ours": lines.apply(mean_and_std, axis="columns"),
            "95 % interval": lines.apply(interval, axis="columns"),
            "n": lines["n"].astype(str),
            "published": lines["published"].map(percent) + lines["source"].map({"": ""} | numbers),
            "difference": lines["difference"].map(percent, signed=True),
            "parameters": lines["parameters"].map(thousands),
            "images trained on": lines["images_trained"].map(thousands),
            "a run": lines["elapsed_sec"].map(duration),
        }
    )
    notes = [f"{number.strip()} {source}" for source, number in numbers.items()]
    return Table(f"Ours and the published: {scored} accuracy", cells, 3, notes)


def summary_table(lines: pd.DataFrame, scored: str) -> Table:
    """Lines of several suites, with the suite's title as ``experiment``, and the gain over Isolated as ``*_gained``."""
    gained = lines.filter(like="_gained").rename(columns=lambda name: name.removesuffix("_gained"))
    gain = gained["mean"].map(percent, signed=True)
    bounds = " (" + gained.apply(interval, axis="columns", signed=True) + ")"
    cells = lines[["experiment", "benchmark", "method"]].assign(
        **{
            f"{scored} accuracy, %": lines.apply(mean_and_std, axis="columns"),
            "n": lines["n"].astype(str),
            "published": lines["published"].map(percent),
            "gain over Isolated": (gain + bounds).where(gain != "", ""),
            "images trained on": lines["images_trained"].map(thousands),
            "a run": lines["elapsed_sec"].map(duration),
        }
    )
    return Table("", cells, 3)


def cost_table(runs: pd.DataFrame) -> Table:
    """What a run of each method costs: networks at test time, images in training; means over the runs."""
    means = runs.groupby(["benchmark", "method"], sort=False)[list(COST)].mean()
    cells = pd.DataFrame({title: means[key].map(style.format) for key, (title, style) in COST.items()})
    return Table("What a run costs: learners and parameters at test time, images in training", cells.reset_index(), 2)


def pairings_table(pairings: pd.DataFrame, scored: str, *, for_paper: bool = False) -> Table:
    """Methods compared task by task; for a paper without the intervals, Wilcoxon's p and the seeds."""
    known = pairings.dropna(subset="n")
    over_seeds = known[["low_over_seeds", "high_over_seeds"]].set_axis(["low", "high"], axis="columns")
    cells = pd.DataFrame(
        {
            "difference, points": known["mean"].map(percent, signed=True),
            "95 %, over tasks": known.apply(interval, axis="columns", signed=True),
            "95 %, over seeds": over_seeds.apply(interval, axis="columns", signed=True),
            "tasks": known.apply(_num_tasks, axis="columns"),
            "Wilcoxon p": known["wilcoxon_p"].map("{:.2g}".format),
            "Holm's p": known["holm_p"].map("{:.2g}".format),
            "seeds": known["seeds"],
        }
    )
    cells = pairings[["benchmark", "method", "against"]].join(cells.astype(object))
    cells = cells.fillna({"difference, points": "no seed in common, or other tasks"}).fillna("")
    notes = [
        "Each task is one pair of the test, so with only five tasks p cannot fall below 0.06.",
        f"Holm's p is Wilcoxon's exact p, corrected for the number of comparisons in this table ({len(known)}).",
    ]
    title = f"Difference of two methods in {scored} accuracy, paired by task, each task averaged over seeds"
    if for_paper:  # as wide as a page
        cells = cells.drop(columns=["95 %, over tasks", "95 %, over seeds", "Wilcoxon p", "seeds"])
    else:
        notes.insert(0, "Intervals over tasks are for other tasks and these seeds, those over seeds for other seeds.")
    return Table(title, cells, 3, notes)


def _num_tasks(pairing: pd.Series) -> str:
    zeros = pairing["num_zeros"]
    return f"{pairing['n']}" + (f" ({zeros} zero{'s' if zeros > 1 else ''})" if zeros else "")
