"""The zoo's gain over Isolated by the number of epochs, over several suites."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from utils.errors import UserError
from utils.plot import frame, plain_style, write_notes
from utils.report.report import Report


def find_gains(reports: Sequence[Report]) -> pd.DataFrame:
    """The gains of Model Zoo over Isolated, paired by task: a line for each benchmark of each report, fractions.

    Args:
        reports: Their columns' names may end in their epochs, as in ``Split-CIFAR100, 5 epochs``.

    Returns:
        The columns of ``OF_PAIRINGS``, and model, epochs and the published gain. The benchmark's name is without the
        epochs.

    Raises:
        UserError: No report has both methods on one benchmark.
    """
    gains = []
    for report in reports:
        zoos = [result for result in report.results if result.method == "Model Zoo"]
        rows = [(zoo.benchmark, zoo.method, zoo.flat["model"], zoo.flat["epochs"]) for zoo in zoos]
        settings = pd.DataFrame(rows, columns=["benchmark", "method", "model", "epochs"])
        pairs = report.pairings[report.pairings["against"] == "Isolated"].merge(settings, on=["benchmark", "method"])
        average = report.lines[report.lines["metric"] == "average_accuracy"]
        published = average.pivot(index="benchmark", columns="method", values="published")
        if len(pairs):
            gain = published["Model Zoo"] - published["Isolated"]
            gains.append(pairs.join(gain.rename("published"), on="benchmark"))
    if not gains:
        raise UserError("results/gains.png: no suite of the page has runs of both Model Zoo and Isolated")
    found = pd.concat(gains).sort_values("epochs")
    return found.assign(benchmark=found["benchmark"].str.replace(r", \d+ epochs?$", "", regex=True))


@plain_style()
def draw_gains(reports: Sequence[Report]) -> Figure:
    """Gains by epochs with their intervals; a line for each benchmark and network, dashed levels for the published."""
    title = "Model Zoo: what it gains over Isolated, by epochs"
    figure, axes = frame(7, 4.5, "epochs", "gain in average test accuracy, points", title)
    gains = find_gains(reports)
    for colour, (benchmark, of_benchmark) in enumerate(gains.groupby("benchmark")):
        for style, (model, lines) in zip(("o-", "s--"), of_benchmark.groupby("model"), strict=False):
            bars = (lines["mean"] - lines["low"], lines["high"] - lines["mean"])
            label = f"{benchmark}, {model}"
            axes.errorbar(lines["epochs"], lines["mean"], bars, fmt=style, color=f"C{colour}", capsize=4, label=label)
        for level in of_benchmark["published"].dropna().unique():
            axes.axhline(level, color=f"C{colour}", linewidth=1.0, linestyle=":", label=f"{benchmark}, published")
    axes.axhline(0, color="0.6", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks(sorted(gains["epochs"].unique()), sorted(gains["epochs"].unique()))
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    write_notes(
        figure, {"bars: 95 % interval over tasks": True, "dotted: published, WRN-16-4, 100 or 200 epochs": True}
    )
    return figure
