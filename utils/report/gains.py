"""What a method gains over another, by the number of epochs, over several suites: a table and a figure."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from utils.errors import UserError
from utils.plot import frame, plain_style, write_notes
from utils.report.report import Report
from utils.report.statistics import paired_by_task
from utils.report.tables import Table, interval, percent

KEY = ["benchmark", "model", "epochs"]


class Gains(NamedTuple):
    """What a method gains over another in the accuracy on the scored images, test or validation, paired by task.

    Attributes:
        lines: A line for each benchmark over all seeds that both methods have, and if there are several, a line for
            each seed: benchmark, model, epochs, seeds, mean, std, low, high, n (tasks), published and its source;
            fractions.
    """

    lines: pd.DataFrame
    method: str
    other: str
    scored: str


def find_gains(reports: Sequence[Report], method: str, other: str, scored: str) -> Gains:
    """The gains in all reports, whose columns' names may end in their epochs, as in ``Split-CIFAR100, 5 epochs``.

    Raises:
        UserError: No report has both methods on one benchmark, or two have them with equal benchmark, model and epochs.
    """
    gains = []
    for report in reports:
        average = report.lines[report.lines["metric"] == "average_accuracy"].set_index(["benchmark", "method"])
        others = {result.benchmark: result for result in report.results if result.method == other}
        for ours in report.results:
            if ours.method != method or ours.benchmark not in others:
                continue
            finals = ours.final, others[ours.benchmark].final
            published, source = (average[key].loc[ours.benchmark] for key in ("published", "source"))
            line = {"benchmark": ours.benchmark, "model": ours.flat["model"], "epochs": ours.flat["epochs"]}
            gain = published[method] - published[other]
            both = "; ".join(dict.fromkeys([source[method], source[other]]))
            line |= {"published": gain, "source": both if pd.notna(gain) else ""}
            seeds = finals[0].index.intersection(finals[1].index).sort_values()
            for chosen in [seeds, *([seed] for seed in seeds if len(seeds) > 1)]:
                if found := paired_by_task(*(final.loc[chosen] for final in finals)):
                    gains.append(line | {"seeds": " ".join(map(str, chosen))} | found.difference._asdict())
    if not gains:
        raise UserError(f"gains: no suite has runs of both {method} and {other}")
    found = pd.DataFrame(gains)
    found["benchmark"] = found["benchmark"].str.replace(r", \d+ epochs?$", "", regex=True)
    twice = found[found.duplicated([*KEY, "seeds"])]
    if len(twice):
        raise UserError(f"gains: expected one suite with {' / '.join(map(str, twice.iloc[0][KEY]))}, got two")
    return Gains(found.sort_values(KEY, kind="stable"), method, other, scored)


def gains_table(gains: Gains) -> Table:
    """The gains with their intervals, over all seeds and by seed."""
    lines = gains.lines
    sources = [source for source in lines["source"].unique() if source]
    numbers = {source: f" [{number}]" for number, source in enumerate(sources, start=1)}
    cells = lines[["benchmark", "model"]].assign(
        **{
            "epochs": lines["epochs"].astype(str),
            "seeds": lines["seeds"],
            "gain, points": lines["mean"].map(percent, signed=True),
            "95 % interval": lines.apply(interval, axis="columns", signed=True),
            "tasks": lines["n"].astype(str),
            "published": lines["published"].map(percent, signed=True) + lines["source"].map({"": ""} | numbers),
        }
    )
    notes = ["Intervals are over tasks, each averaged over the seeds."]
    notes += [f"{number.strip()} {source}" for source, number in numbers.items()]
    title = f"{gains.method} against {gains.other}: difference in average {gains.scored} accuracy, paired by task"
    return Table(title, cells, 4, notes)


@plain_style()
def draw_gains(gains: Gains) -> Figure:
    """Gains by epochs with their intervals; a line for each benchmark and network, dotted levels for the published."""
    title = f"{gains.method}: what it gains over {gains.other}, by epochs"
    figure, axes = frame(9, 5.5, "epochs", f"gain in average {gains.scored} accuracy, points", title)
    whole = gains.lines[~gains.lines.duplicated(KEY)]  # the first line has all seeds
    colours = {benchmark: f"C{place}" for place, benchmark in enumerate(whole["benchmark"].unique())}
    styles = dict(zip(whole["model"].unique(), itertools.cycle(("o-", "s--", "^-.")), strict=False))
    curves = whole.groupby(["benchmark", "model"])
    for place, ((benchmark, model), lines) in enumerate(curves, start=-(len(curves) // 2)):
        x = lines["epochs"] * 1.02**place  # beside each other, so that bars of equal epochs can be told apart
        bars = (lines["mean"] - lines["low"], lines["high"] - lines["mean"])
        look = {"fmt": styles[model], "color": colours[benchmark], "capsize": 4}
        axes.errorbar(x, lines["mean"], bars, label=f"{benchmark}, {model}", **look)
    for _, line in whole.dropna(subset="published").drop_duplicates(["benchmark", "published"]).iterrows():
        label = f"{line['benchmark']}, published: {line['source']}"
        axes.axhline(line["published"], color=colours[line["benchmark"]], linewidth=1.0, linestyle=":", label=label)
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
    axes.set_xscale("log")
    epochs = sorted(whole["epochs"].unique())
    axes.set_xticks(epochs, epochs)
    axes.minorticks_off()
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False, fontsize=8)
    write_notes(figure, {"bars: 95 % interval over tasks": True, "dotted: published": whole["published"].notna().any()})
    return figure
