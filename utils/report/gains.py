"""The zoo's gain over Isolated by the number of epochs, over several suites."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from utils.plot import frame, plain_style, write_notes
from utils.report.report import Report


def find_gains(reports: Sequence[Report], zoo: str = "Model Zoo", isolated: str = "Isolated") -> pd.DataFrame:
    """The gains of one method over another, paired by task: a line for each benchmark of each report, fractions.

    Args:
        reports: Their columns may end in a comma and words that tell them apart, such as the epochs.
        zoo: The method.
        isolated: The method that it is compared with.

    Returns:
        The columns of ``OF_PAIRINGS``, and model, epochs and the published gain. The benchmark's name ends before its
        comma.
    """
    gains = []
    for report in reports:
        settings = pd.DataFrame(
            [
                (result.benchmark, result.flat["model"], result.flat["epochs"])
                for result in report.results
                if result.settings
            ],
            columns=["benchmark", "model", "epochs"],
        )
        average = report.lines[report.lines["metric"] == "average_accuracy"]
        published = average.pivot(index="benchmark", columns="method", values="published")
        pairs = report.pairings[(report.pairings["method"] == zoo) & (report.pairings["against"] == isolated)]
        if len(pairs):
            gain = (published[zoo] - published[isolated]).rename("published")
            gains.append(pairs.merge(settings.drop_duplicates(), on="benchmark").join(gain, on="benchmark"))
    found = pd.concat(gains)
    return found.assign(benchmark=found["benchmark"].str.partition(",")[0]).sort_values("epochs")


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
