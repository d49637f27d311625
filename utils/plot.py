"""Figures."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.optimize import isotonic_regression


def accuracy_figure(accuracy: np.ndarray, task_names: Sequence[str], *, continual: bool) -> bytes:
    """The evolution of each task's test accuracy, as in the paper's figure.

    In continual mode a line begins at the round in which its task arrives; in multi-task mode the mean stands out
    before the tasks' lines.

    Args:
        accuracy: R, float ``[rounds, T]``, NaN where the task has not arrived.
        task_names: of all T tasks.

    Returns:
        A PNG.
    """
    seen = [task for task in range(accuracy.shape[1]) if not np.isnan(accuracy[-1, task])]
    figure = Figure(figsize=(9, max(4.5, 0.27 * len(seen))), layout="constrained")
    axes = figure.add_subplot(xlabel="round", ylabel="test accuracy", title="Accuracy of each task as the zoo grows")
    rounds = np.arange(len(accuracy))
    colours = colormaps["viridis"](np.linspace(0, 0.92, max(len(seen), 2)))
    for task in seen:
        axes.plot(
            rounds,
            accuracy[:, task],
            color=colours[task] if continual else "0.75",
            linewidth=1.4 if continual else 0.9,
            marker="o" if continual else None,
            markersize=3,
            markevery=[int(np.flatnonzero(~np.isnan(accuracy[:, task]))[0])] if continual else None,
        )
    if not continual:
        axes.plot(rounds, accuracy.mean(axis=1), color="#0072b2", linewidth=2.5, label="mean of all tasks")
        axes.legend(loc="lower right")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    _name_lines(axes, accuracy[-1, seen], [task_names[task] for task in seen], colours if continual else None)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _name_lines(axes: Axes, heights: np.ndarray, names: Sequence[str], colours: np.ndarray | None) -> None:
    """Write each line's name and last value right of its end, moved up or down where names would overlap."""
    order = np.argsort(heights, kind="stable")
    bottom, top = axes.get_ylim()
    axes_height = axes.get_window_extent().height / axes.figure.dpi  # inches
    places = spread((heights[order] - bottom) / (top - bottom), gap=0.17 / axes_height)
    for place, line in zip(places, order, strict=True):
        colour = "0.35" if colours is None else colours[line]
        axes.annotate(
            f"{names[line]}  {100 * heights[line]:.1f} %",
            xy=(1.0, heights[line]),
            xycoords=axes.get_yaxis_transform(),
            xytext=(1.05, place),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=colour,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "shrinkA": 1,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )


def spread(places: np.ndarray, *, gap: float) -> np.ndarray:
    """Ascending places in [0, 1], moved as little as need be to lie ``gap`` apart (less, if there is no room)."""
    gap = min(gap, 1 / max(len(places) - 1, 1))
    steps = gap * np.arange(len(places))
    return np.clip(isotonic_regression(places - steps).x, 0, 1 - steps[-1]) + steps
