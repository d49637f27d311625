"""Figures. Accuracies come as fractions and are shown in percent; colours are safe for the colour-blind.

They look the same whatever the user's own settings of matplotlib are, and no window is opened.
"""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence

# Matplotlib cannot be imported where the user's choice of a backend does not exist. Afterwards it is as it was.
if "matplotlib" not in sys.modules and (chosen := os.environ.pop("MPLBACKEND", None)) is not None:
    import matplotlib

    os.environ["MPLBACKEND"] = chosen
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = chosen

import matplotlib.style
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image
from scipy.optimize import isotonic_regression

# Told apart by the colour-blind too: Okabe and Ito's, and two of Paul Tol's for their yellow, which is faint on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933", "#882255")
GREY = "0.45"


@contextlib.contextmanager
def plain_style() -> Iterator[None]:
    """Draw in matplotlib's default style; a ``$`` in a name is text, and a letter that the font lacks is a box.

    Lines take our colours in turn; they are named C0, C1, ... A PDF holds its fonts as TrueType (42), which journals
    ask for.
    """
    ours = {"text.parse_math": False, "pdf.fonttype": 42, "axes.prop_cycle": cycler(color=COLOURS)}
    with matplotlib.style.context(["default", ours]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


@plain_style()
def to_image(figure: Figure, kind: str = "png") -> bytes:
    """The figure as a file of the kind png or pdf; equal figures give equal bytes. A png has 256 colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=130, metadata={"CreationDate": None} if kind == "pdf" else None)
    if kind == "png":  # with fewer colours it takes a third of the room
        image = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        image.save(buffer := io.BytesIO(), "png", optimize=True)
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
    figure, axes = frame(9, max(4.5, 0.27 * len(seen)), "round", f"{scored} accuracy", title)
    colours = colormaps["viridis"](np.linspace(0, 0.87, max(len(seen), 2)))[: len(seen)]
    if continual:
        for line, arrived, colour in zip(accuracy[:, seen].T, arrival, colours, strict=True):
            axes.plot(line, color=colour, linewidth=1.4, marker="o", markersize=4, markevery=[int(arrived)])
    else:
        axes.plot(accuracy, color="0.75", linewidth=0.9)
        axes.plot(accuracy.mean(axis=1), color="C0", linewidth=2.5, label="mean of all tasks")
        axes.legend(loc="lower right")
    if isolated is not None:
        axes.scatter(arrival, isolated[seen], marker="x", s=42, linewidths=1.8, c=colours, zorder=3)
        axes.plot([], [], "x", color=GREY, markeredgewidth=1.8, label="Isolated: a learner of its own")
        axes.plot([], [], "o-", color=GREY, markersize=4, label="from the task's arrival on")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False)
    axes.set_xlim(-0.02 * len(accuracy), 1.02 * len(accuracy) - 1)
    ends = [(len(accuracy) - 1, height) for height in accuracy[-1, seen]]
    names = [task_names[int(task)] for task in seen]
    name_lines(figure, ends, names, list(colours) if continual else ["0.35"] * len(seen))
    return figure


def frame(width: float, height: float, xlabel: str, ylabel: str, title: str) -> tuple[Figure, Axes]:
    """A figure, and in it axes for accuracies; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def write_notes(figure: Figure, notes: Mapping[str, object]) -> None:
    """Write the notes that apply below a figure."""
    figure.supxlabel("; ".join(note for note, applies in notes.items() if applies), fontsize=8, color=GREY)


def name_lines(
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
    places = np.clip(nearest, 0, 1 - room[-1]) + room
    return places[np.argsort(order)]  # back in the order of the heights
