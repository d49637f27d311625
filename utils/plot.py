"""Figures. Accuracies come as fractions and are shown in percent; colours are safe for the colour-blind.

They look the same whatever the user's own settings of matplotlib are, and no window is opened.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

os.environ["MPLBACKEND"] = "agg"  # matplotlib is not imported where the user's own choice does not exist

import matplotlib.style
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from scipy.optimize import isotonic_regression

# Told apart by the colour-blind too: Okabe and Ito's, and two of Paul Tol's for their yellow, which is faint on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933", "#882255")
GREY = "0.45"
DOTS_PER_INCH = 130


@contextlib.contextmanager
def plain_style() -> Iterator[None]:
    """Draw in matplotlib's default style; a ``$`` in a name is text, and a letter that the font lacks is a box.

    A PDF holds its fonts as TrueType (42), which journals ask for.
    """
    ours = {"text.parse_math": False, "pdf.fonttype": 42}
    with matplotlib.style.context(["default", ours]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


@plain_style()
def to_image(figure: Figure, kind: str = "png") -> bytes:
    """The figure as a file of the kind png or pdf; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata={"CreationDate": None} if kind == "pdf" else None)
    return buffer.getvalue()


@plain_style()
def draw_accuracy(
    accuracy: np.ndarray,
    task_names: Sequence[str],
    *,
    continual: bool,
    isolated: np.ndarray | None = None,
    title: str = "Accuracy of each task, round by round",
    scored: str = "test",
) -> Figure:
    """The evolution of each task's accuracy, as in the paper's figure.

    In continual mode a line begins at the round in which its task arrives; in multi-task mode the mean is drawn thick
    over the tasks' grey lines. The height of a line's start above its task's cross is forward transfer; the line's rise
    or fall from there on is backward transfer.

    Args:
        accuracy: R, float ``[rounds, T]``, NaN where the task has not arrived.
        task_names: The names of all T tasks.
        continual: Whether tasks arrive one at a time.
        isolated: The accuracy of a learner of its own for each task, float ``[T]``, drawn as crosses.
        title: The figure's title.
        scored: Which images were scored, test or validation.
    """
    seen = np.flatnonzero(~np.isnan(accuracy[-1]))
    arrival = np.argmax(~np.isnan(accuracy[:, seen]), axis=0)
    figure, axes = _frame(9, max(4.5, 0.27 * len(seen)), "round", f"{scored} accuracy", title)
    colours = colormaps["viridis"](np.linspace(0, 0.87, max(len(seen), 2)))[: len(seen)]
    if continual:
        for line, arrived, colour in zip(accuracy[:, seen].T, arrival, colours, strict=True):
            axes.plot(line, color=colour, linewidth=1.4, marker="o", markersize=4, markevery=[int(arrived)])
    else:
        axes.plot(accuracy, color="0.75", linewidth=0.9)
        axes.plot(accuracy.mean(axis=1), color=COLOURS[0], linewidth=2.5, label="mean of all tasks")
        axes.legend(loc="lower right")
    if isolated is not None:
        axes.scatter(arrival, isolated[seen], marker="x", s=42, linewidths=1.8, c=colours, zorder=3)
        axes.plot([], [], "x", color=GREY, markeredgewidth=1.8, label="Isolated: a learner of its own")
        axes.plot([], [], "o-", color=GREY, markersize=4, label="from the task's arrival on")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False)
    axes.set_xlim(-0.02 * len(accuracy), 1.02 * len(accuracy) - 1)
    ends = [(len(accuracy) - 1, height) for height in accuracy[-1, seen]]
    names = [task_names[int(task)] for task in seen]
    _name_lines(figure, ends, names, list(colours) if continual else ["0.35"] * len(seen))
    return figure


class Curve(NamedTuple):
    """A line of a figure: heights ``y`` at ``x``, and their standard deviation if it is known."""

    label: str
    x: np.ndarray
    y: np.ndarray
    std: np.ndarray | None = None


Curves = Sequence[Curve]


@plain_style()
def draw_rounds(
    curves: Curves, levels: Curves, published: Curves, *, title: str, source: str = "", scored: str = "test"
) -> Figure:
    """Average accuracy of the tasks seen, as they arrive.

    Args:
        curves: The methods to which tasks arrive; x is the number of tasks seen.
        levels: The methods that have all tasks at once: one value each, at x = 0, drawn as a level.
        published: Curves from elsewhere, drawn dashed: in a method's colour if they have its name, else grey.
        title: The figure's title.
        source: The source of the published curves.
        scored: Which images were scored, test or validation.
    """
    lines = [*curves, *levels, *published]
    height, ylabel = max(4.8, 0.36 * len(lines)), f"average {scored} accuracy of the tasks seen"
    figure, axes = _frame(9.5, height, "tasks seen", ylabel, title)
    last = max(float(curve.x[-1]) for curve in (*curves, *published))
    colours = list(map(_colour, range(len(curves) + len(levels))))
    of_method = {curve.label: colour for curve, colour in zip(curves, colours, strict=False)}
    for curve in published:
        colours.append(of_method.get(curve.label, GREY))
        axes.plot(curve.x, curve.y, color=colours[-1], linewidth=1.0, linestyle="--")
    for level, colour in zip(levels, colours[len(curves) :], strict=False):
        axes.axhline(level.y[0], color=colour, linewidth=1.4, linestyle=":")
    for curve, colour in zip(curves, colours, strict=False):
        axes.plot(curve.x, curve.y, color=colour, linewidth=2.0, marker="o", markersize=4, zorder=3)
        if curve.std is not None:
            axes.fill_between(curve.x, curve.y - curve.std, curve.y + curve.std, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlim(1 - 0.02 * last, 1.02 * last)
    ends = [(line.x[-1] or last, line.y[-1]) for line in lines]  # the x of a level is 0
    names = [line.label for line in (*curves, *levels)] + [f"{line.label}, published" for line in published]
    _name_lines(figure, ends, names, colours)
    notes = {
        "band: ± 1 standard deviation over seeds": any(curve.std is not None for curve in curves),
        "dotted: all tasks at once": levels,
        f"dashed: {source}": published,
    }
    _write_notes(figure, notes)
    return figure


@plain_style()
def draw_sweep(
    curves: Curves, *, xlabel: str, ticks: Mapping[float, str], numeric: bool, title: str, scored: str = "test"
) -> Figure:
    """Average accuracy against a setting.

    Args:
        curves: One or more for each benchmark; their x values are keys of ``ticks``.
        xlabel: The setting's name.
        ticks: The setting's values in words, by their places on the axis.
        numeric: Whether the places are the values themselves: the axis is logarithmic then, if they are far apart.
        title: The figure's title.
        scored: Which images were scored, test or validation.
    """
    figure, axes = _frame(7, 4.5, xlabel, f"average {scored} accuracy", title)
    for place, (label, x, y, std) in enumerate(curves):
        line = "o-" if numeric else "o:"
        axes.errorbar(x, y, std, fmt=line, label=label, color=_colour(place), linewidth=2, capsize=4)
    smallest = min((place for place in ticks if place > 0), default=1.0)
    if numeric and max(ticks) >= 20 * smallest:  # far apart; a 0 stands left of the smallest
        axes.set_xscale("symlog", linthresh=smallest, linscale=0.5) if 0 in ticks else axes.set_xscale("log")
    axes.set_xticks(list(ticks), ticks.values())
    axes.minorticks_off()
    axes.legend(frameon=False, loc="best")
    notes = {
        "bars: ± 1 standard deviation over seeds": any(curve.std is not None for curve in curves),
        "values of the setting at equal distances": not numeric,
    }
    _write_notes(figure, notes)
    return figure


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def _frame(width: float, height: float, xlabel: str, ylabel: str, title: str) -> tuple[Figure, Axes]:
    """A figure, and in it axes for accuracies; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _write_notes(figure: Figure, notes: Mapping[str, object]) -> None:
    """Write the notes that apply below a figure."""
    figure.supxlabel("; ".join(note for note, applies in notes.items() if applies), fontsize=8, color=GREY)


def _name_lines(
    figure: Figure, ends: Sequence[tuple[float, float]], names: Sequence[str], colours: Sequence[str | np.ndarray]
) -> None:
    """Write each line's name and height right of its end, as near to it as others' names allow.

    Args:
        figure: A figure with one axes, with all that is to be drawn in it, so that its limits stand.
        ends: The x and y of each line's end.
        names: The lines' names.
        colours: The names' colours.
    """
    (axes,) = figure.axes
    bottom, top = axes.get_ylim()
    heights = np.array([height for _, height in ends])
    places = spread_out((heights - bottom) / (top - bottom), gap=0.17 / (0.85 * figure.get_figheight()))
    arrow = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)}
    for end, name, place, colour in zip(ends, names, places, colours, strict=True):
        text, props = f"{name}  {100 * end[1]:.1f}", arrow | {"color": colour}
        label = axes.annotate(text, end, (1.05, place), textcoords="axes fraction", arrowprops=props)
        label.set(va="center", fontsize=8, color=colour)


def spread_out(heights: np.ndarray, *, gap: float) -> np.ndarray:
    """Places in the order of the heights, ``gap`` apart or more and within 0 and 1 (closer, if there are too many).

    Of all such places they are nearest to the heights, by the sum of squares, except at the limits.
    """
    gap = min(gap, 1 / max(len(heights) - 1, 1))
    order = np.argsort(heights, kind="stable")
    room = gap * np.arange(len(order))  # what the names below need
    nearest = isotonic_regression(heights[order] - room).x
    places = np.empty(len(order))
    places[order] = np.clip(nearest, 0, 1 - room[-1]) + room
    return places
