"""Figures. Accuracies come as fractions and are shown in percent; colours are safe for the colour-blind."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.optimize import isotonic_regression

OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
GREY = "0.45"
DOTS_PER_INCH = 130


def accuracy_figure(
    accuracy: np.ndarray,
    task_names: Sequence[str],
    *,
    continual: bool,
    isolated: np.ndarray | None = None,
    title: str = "Accuracy of each task as the zoo grows",
) -> bytes:
    """The evolution of each task's test accuracy, as in the paper's figure.

    In continual mode a line begins at the round in which its task arrives; in multi-task mode the mean stands out
    before the tasks' lines. Where a line begins against its task's cross is forward transfer; its rise or fall from
    there is backward transfer.

    Args:
        accuracy: R, float ``[rounds, T]``, NaN where the task has not arrived.
        task_names: of all T tasks.
        continual: whether tasks arrive one at a time.
        isolated: accuracy of a learner of its own for each task, float ``[T]``, drawn as crosses.
        title: of the figure.

    Returns:
        A PNG.
    """
    seen = [task for task in range(accuracy.shape[1]) if not np.isnan(accuracy[-1, task])]
    figure = Figure(figsize=(9, max(4.5, 0.27 * len(seen))), layout="constrained")
    axes = figure.add_subplot(xlabel="round", ylabel="test accuracy", title=title)
    rounds = np.arange(len(accuracy))
    colours = colormaps["viridis"](np.linspace(0, 0.87, max(len(seen), 2)))
    arrival = {task: int(np.flatnonzero(~np.isnan(accuracy[:, task]))[0]) for task in seen}
    for place, task in enumerate(seen):
        axes.plot(
            rounds,
            accuracy[:, task],
            color=colours[place] if continual else "0.75",
            linewidth=1.4 if continual else 0.9,
            marker="o" if continual else None,
            markersize=4,
            markevery=[arrival[task]] if continual else None,
        )
    if not continual:
        axes.plot(rounds, accuracy.mean(axis=1), color=OKABE_ITO[0], linewidth=2.5, label="mean of all tasks")
        axes.legend(loc="lower right")
    if isolated is not None:
        axes.scatter(
            [arrival[task] for task in seen], isolated[seen], marker="x", s=42, linewidths=1.8, c=colours[: len(seen)],
            zorder=3,
        )  # fmt: skip
        axes.plot([], [], "x", color=GREY, markeredgewidth=1.8, label="Isolated: a learner of its own")
        axes.plot([], [], "o-", color=GREY, markersize=4, label="the zoo, from the task's arrival on")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False)
    axes.set_xlim(-0.02 * len(accuracy), 1.02 * len(accuracy) - 1)
    _dress(axes)
    ends = np.full(len(seen), len(accuracy) - 1)
    _name_lines(axes, ends, accuracy[-1, seen], [task_names[task] for task in seen], colours if continual else None)
    return _png(figure)


class Curve(NamedTuple):
    """A line of a figure: heights ``y`` at ``x``, their standard deviation if it is known."""

    label: str
    x: np.ndarray
    y: np.ndarray
    std: np.ndarray | None = None


def rounds_figure(
    curves: Sequence[Curve], levels: Sequence[Curve], published: Sequence[Curve], *, title: str, source: str = ""
) -> bytes:
    """Average accuracy of the tasks seen, as they arrive.

    Args:
        curves: of the methods to which tasks arrive; x is the number of tasks seen.
        levels: of methods that have all tasks at once: one value each, drawn as a level.
        published: curves from elsewhere, drawn grey and dashed.
        title: of the figure.
        source: of the published curves.
    """
    num_lines = len(curves) + len(levels) + len(published)
    figure = Figure(figsize=(9.5, max(4.8, 0.36 * num_lines)), layout="constrained")
    axes = figure.add_subplot(xlabel="tasks seen", ylabel="average test accuracy of the tasks seen", title=title)
    last = max(float(curve.x[-1]) for curve in (*curves, *published))
    for curve in published:
        axes.plot(curve.x, curve.y, color=GREY, linewidth=1.0, linestyle="--")
    for place, level in enumerate(levels):
        axes.axhline(level.y[0], color=_colour(len(curves) + place), linewidth=1.4, linestyle=":")
    for place, curve in enumerate(curves):
        axes.plot(curve.x, curve.y, color=_colour(place), linewidth=2.0, marker="o", markersize=4, zorder=3)
        if curve.std is not None:
            low, high = curve.y - curve.std, curve.y + curve.std
            axes.fill_between(curve.x, low, high, color=_colour(place), alpha=0.18, linewidth=0)
    axes.set_xlim(1 - 0.02 * last, 1.02 * last)
    _dress(axes)
    named = [*curves, *levels, *published]
    colours = [*map(_colour, range(len(curves) + len(levels))), *[GREY] * len(published)]
    ends = np.array([*(line.x[-1] for line in curves), *[last] * len(levels), *(line.x[-1] for line in published)])
    _name_lines(axes, ends, np.array([line.y[-1] for line in named]), [line.label for line in named], colours)
    notes = []
    if any(curve.std is not None for curve in curves):
        notes.append("band: ± 1 standard deviation over seeds")
    if levels:
        notes.append("dotted: all tasks at once")
    if published:
        notes.append(f"dashed: published, {source}")
    if notes:
        figure.supxlabel("; ".join(notes), fontsize=8, color=GREY)
    return _png(figure)


def sweep_figure(curves: Sequence[Curve], *, xlabel: str, ticks: Sequence[str], title: str) -> bytes:
    """Average accuracy against a setting, whose values stand at equal distances.

    Args:
        curves: one a benchmark; x are places in ``ticks``.
        xlabel: the setting's name.
        ticks: its values in words.
        title: of the figure.
    """
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel="average test accuracy", title=title)
    for place, curve in enumerate(curves):
        axes.errorbar(
            curve.x,
            curve.y,
            yerr=curve.std,
            color=_colour(place),
            linewidth=2,
            marker="o",
            capsize=4,
            label=curve.label,
        )
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlim(-0.3, len(ticks) - 0.7)
    _dress(axes, integer=False)
    axes.legend(frameon=False, loc="best")
    figure.supxlabel("bars: ± 1 standard deviation over seeds; values of the setting at equal distances", fontsize=8)
    return _png(figure)


def competition_figure(
    ours: np.ndarray, published: np.ndarray, names: Sequence[str], *, source: str, rho: float | None, num_seeds: int
) -> bytes:
    """Ours and the published matrix of gains side by side, and entry against entry.

    Args:
        ours: gain of the row's task by the column's, a fraction, ``[T, T]``, NaN where not known.
        published: as ours.
        names: of the T tasks.
        source: of the published one.
        rho: Spearman's rank correlation of the two, if it is defined.
        num_seeds: of ours.
    """
    figure = Figure(figsize=(18, 7), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 0.75))
    apart = ~np.eye(len(names), dtype=bool)
    limit = 100 * float(max(np.nanmax(np.abs(matrix[apart])) for matrix in (ours, published)))
    for axes, matrix, title in (
        (left, ours, f"here, {num_seeds} seed{'s' if num_seeds > 1 else ''}"),
        (middle, published, f"published: {source}"),
    ):
        image = _matrix(axes, 100 * np.where(apart, matrix, np.nan), names, limit, title)
        figure.colorbar(image, ax=axes, shrink=0.7, label="accuracy gained, points", location="bottom")
    left.set_ylabel("task evaluated")
    right.scatter(100 * published[apart], 100 * ours[apart], s=18, color=OKABE_ITO[0], alpha=0.7)
    right.axhline(0, color="0.8", zorder=0)
    right.axvline(0, color="0.8", zorder=0)
    correlation = "not defined" if rho is None else f"{rho:+.2f}"
    right.set(
        xlabel="published gain, points",
        ylabel="gain here, points",
        title=f"entry by entry: Spearman's rho {correlation}",
    )
    right.set_box_aspect(1)
    right.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Accuracy gained on a task by learning it together with another, against alone")
    return _png(figure)


def _matrix(axes: Axes, points: np.ndarray, names: Sequence[str], limit: float, title: str):  # type: ignore[no-untyped-def]
    """Draw a matrix of points in colours that are white at 0, with its numbers where there is room."""
    image = axes.imshow(points, cmap="PuOr_r", norm=TwoSlopeNorm(0.0, vmin=-limit, vmax=limit))
    axes.set_xticks(range(len(names)), names, rotation=55, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="learned together with", title=title)
    axes.set_facecolor("0.88")  # the diagonal, and what was not run
    if len(names) <= 12:
        for row, column in np.argwhere(np.isfinite(points)):
            value = points[row, column]
            dark = abs(value) > 0.6 * limit
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color="w" if dark else "k")
    return image


def _colour(place: int) -> str:
    return OKABE_ITO[place % len(OKABE_ITO)]


def _dress(axes: Axes, *, integer: bool = True) -> None:
    """What all accuracy axes have in common."""
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if integer:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def _name_lines(
    axes: Axes, ends: np.ndarray, heights: np.ndarray, names: Sequence[str], colours: Sequence[str] | np.ndarray | None
) -> None:
    """Write each line's name and height right of its end, as near to it as others' names allow.

    Args:
        axes: with all that is to be drawn in it, so that its limits stand.
        ends: x of each line's end.
        heights: y of each line's end.
        names: of the lines.
        colours: of the names; grey, if none are given.
    """
    bottom, top = axes.get_ylim()
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes are drawn in a figure"
    inches = 0.85 * figure.get_figheight()
    places = spread_out((heights - bottom) / (top - bottom), gap=0.17 / inches)
    for line, (name, place) in enumerate(zip(names, places, strict=True)):
        colour = "0.35" if colours is None else colours[line]
        axes.annotate(
            f"{name}  {100 * heights[line]:.1f}",
            xy=(ends[line], heights[line]),
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
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )


def spread_out(heights: np.ndarray, *, gap: float) -> np.ndarray:
    """Places in the order of the heights, ``gap`` apart or more and within 0 and 1 (closer, if there are too many).

    Of all such places they are nearest to the heights, by the sum of squares, the limits apart.
    """
    gap = min(gap, 1 / max(len(heights) - 1, 1))
    order = np.argsort(heights, kind="stable")
    room = gap * np.arange(len(order))  # what those below need
    nearest = isotonic_regression(heights[order] - room).x
    places = np.empty(len(order))
    places[order] = np.clip(nearest, 0, 1 - room[-1]) + room
    return places
