"""Which figures a report has, and how those of many runs are drawn. A task competition has its own."""

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from utils.plot import COLOURS, GREY, draw_accuracy, frame, name_lines, plain_style, write_notes
from utils.report.records import Result, read_labelled_csv
from utils.report.statistics import estimate
from utils.suite.file import FIELDS, Curves, Suite, slug


class Curve(NamedTuple):
    """A line of a figure: heights ``y`` at ``x``, and their standard deviation, NaN where it is not known."""

    label: str
    x: np.ndarray
    y: np.ndarray
    std: np.ndarray


def choose_figures(results: Sequence[Result], suite: Suite, scored: str) -> dict[str, Callable[[], Figure]]:
    """The figures that the complete runs allow, by name; none is drawn yet."""
    complete = [result for result in results if result.accuracy and not suite.competition]
    figures: dict[str, Callable[[], Figure]] = {}
    for benchmark in dict.fromkeys(result.benchmark for result in complete):
        methods = [result for result in complete if result.benchmark == benchmark]
        for result in methods:
            isolated = next((other for other in methods if other.is_isolated_of(result)), None)
            if result.settings and result.settings.num_rounds > 1 and not result.is_isolated:
                figures[f"evolution_{slug(result.method)}_{slug(benchmark)}"] = partial(evolution, result, isolated)
        if any(result.continual for result in methods):
            published = suite.curves if suite.curves and suite.curves.column == benchmark else None
            figures[f"rounds_{slug(benchmark)}"] = partial(draw_rounds, methods, published, scored)
    swept = [result for result in complete if result.settings]
    if suite.sweep and swept:
        figures["sweep"] = partial(draw_sweep, swept, suite.sweep, suite.title, scored)
    return figures


def averages(result: Result, isolated: Result | None) -> tuple[np.ndarray, np.ndarray | None, int]:
    """R of a method and Isolated's accuracy of each task, both averaged over their common seeds; and how many seeds.

    Without a common seed, Isolated's accuracy is None, and all seeds of the method are averaged.
    """
    crosses = isolated.final if isolated and result.continual else pd.DataFrame()
    crosses = crosses[crosses.index.isin(list(result.accuracy))]
    if crosses.shape[1] != result.matrices[0].shape[1] or crosses.empty:  # a run that stopped at another task
        return np.mean(result.matrices, axis=0), None, len(result.accuracy)
    return np.mean([result.accuracy[seed] for seed in crosses.index], axis=0), crosses.mean().to_numpy(), len(crosses)


def evolution(result: Result, isolated: Result | None) -> Figure:
    """Each task's accuracy as the zoo grows, against Isolated's."""
    assert result.settings, "only our own runs are drawn by task"
    accuracy, crosses, num_seeds = averages(result, isolated)
    runs = f"mean of {num_seeds} seeds" if num_seeds > 1 else "one run"
    names, scored = result.settings.benchmark.names, result.settings.scored_on
    title = f"{result.method} on {result.benchmark}: each task's accuracy ({runs})"
    return draw_accuracy(accuracy, names, continual=result.continual, isolated=crosses, title=title, scored=scored)


def round_curve(result: Result) -> Curve:
    """Average accuracy of the tasks seen, by their number; if all are there at once, that at the end, at x = 0."""
    seen = np.array([np.nanmean(r, axis=1) for r in result.matrices])  # [runs, rounds]
    if not result.continual:
        seen = seen[:, -1:]
    x = np.arange(seen.shape[1]) + result.continual
    return Curve(result.method, x, seen.mean(axis=0), pd.DataFrame(seen).std().to_numpy())


def published_curves(published: Curves) -> list[Curve]:
    """Each published curve where it has a number, as fractions. Raises UserError if the csv file is damaged."""
    curves = []
    for name, percents in read_labelled_csv(published.file).iterrows():
        known = percents.notna().to_numpy()
        if known.any():
            values = percents[known].to_numpy() / 100
            curves.append(Curve(str(name), 1 + np.flatnonzero(known), values, np.full(len(values), np.nan)))
    return curves


@plain_style()
def draw_rounds(methods: Sequence[Result], published: Curves | None, scored: str) -> Figure:
    """Average accuracy of the tasks seen, as they arrive, methods of a benchmark side by side.

    Methods that have all tasks at once are a dotted level. Published curves are dashed: in a method's colour if they
    have its name, else grey.
    """
    ours = {result.method: (round_curve(result), result.continual) for result in methods}
    others = published_curves(published) if published else []
    num_lines = len(ours) + len(others)
    title, ylabel = f"{methods[0].benchmark}: methods by round", f"average {scored} accuracy of the tasks seen"
    figure, axes = frame(9.5, max(4.8, 0.36 * num_lines), "tasks seen", ylabel, title)
    last = max(float(curve.x[-1]) for curve in (*others, *(curve for curve, arrives in ours.values() if arrives)))
    colours = {name: _colour(place) for place, name in enumerate(ours)}
    labels = []
    for curve in others:
        colour = colours.get(curve.label, GREY)
        axes.plot(curve.x, curve.y, color=colour, linewidth=1.0, linestyle="--")
        labels.append((curve.x[-1], curve.y[-1], f"{curve.label}, published", colour))
    for curve, arrives in ours.values():
        colour = colours[curve.label]
        if arrives:
            axes.plot(curve.x, curve.y, color=colour, linewidth=2.0, marker="o", markersize=4, zorder=3)
            below, above = curve.y - curve.std, curve.y + curve.std
            axes.fill_between(curve.x, below, above, color=colour, alpha=0.18, linewidth=0)
        else:
            axes.axhline(curve.y[0], color=colour, linewidth=1.4, linestyle=":")
        labels.append((curve.x[-1] if arrives else last, curve.y[-1], curve.label, colour))
    axes.set_xlim(1 - 0.02 * last, 1.02 * last)
    name_lines(figure, [label[:2] for label in labels], [label[2] for label in labels], [label[3] for label in labels])
    notes = {
        "band: ± 1 standard deviation over seeds": any(
            arrives and np.isfinite(curve.std).any() for curve, arrives in ours.values()
        ),
        "dotted: all tasks at once": not all(arrives for _, arrives in ours.values()),
        f"dashed: {published.source if published else ''}": others,
    }
    write_notes(figure, notes)
    return figure


def sweep_curves(results: Sequence[Result], setting: str) -> tuple[list[Curve], dict[float, str], bool]:
    """Average accuracy of each benchmark against a setting, by the places of the setting's values on the axis.

    Where methods of a benchmark have the same value, those that differ by the setting alone are a curve of their own.

    Returns:
        The curves, the values in words by place, and whether the values are numbers, which are their own places.
        Otherwise the places are 0, 1, ...: words in the order of the rows, and the None of --samples, all, last.
    """
    values = list(dict.fromkeys(result.flat[setting] for result in results))
    if not any(isinstance(value, str) for value in values):
        values.sort(key=lambda value: (value is None, value))
    numeric = all(type(value) in (int, float) for value in values)
    places = {value: value if numeric else place for place, value in enumerate(values)}
    ticks = {place: "all" if value is None else str(value) for value, place in places.items()}
    points = []
    for result in results:
        found = estimate(result.final.mean(axis="columns").tolist())
        points.append((_curve_label(result, results, setting), places[result.flat[setting]], found.mean, found.std))
    lines = pd.DataFrame(points, columns=["label", "x", "y", "std"]).astype({"std": float}).sort_values("x")
    order = dict.fromkeys(label for label, *_ in points)
    curves = [Curve(label, *lines[lines["label"] == label][["x", "y", "std"]].to_numpy(float).T) for label in order]
    return curves, ticks, numeric


def _curve_label(result: Result, results: Sequence[Result], setting: str) -> str:
    """The benchmark and, if needed, what is not as in other methods of it."""
    others = [other.flat for other in results if other.benchmark == result.benchmark]
    names = [result.benchmark]
    if len({other[setting] for other in others}) < len(others):
        apart = [key for key, value in result.flat.items() if any(other[key] != value for other in others)]
        names += [f"{key} {result.flat[key]}" for key in apart if key != setting]
    return ", ".join(names)


@plain_style()
def draw_sweep(results: Sequence[Result], setting: str, title: str, scored: str) -> Figure:
    """Average accuracy against the setting by which a suite's rows differ.

    The axis is logarithmic where the setting's values are numbers that lie far apart.
    """
    curves, ticks, numeric = sweep_curves(results, setting)
    description = FIELDS[setting].description
    xlabel = textwrap.fill(f"{setting}: {description}" if description else setting, 80)
    figure, axes = frame(7, 4.5, xlabel, f"average {scored} accuracy", title)
    for place, (label, x, y, std) in enumerate(curves):
        line = "o-" if numeric else "o:"
        bars = None if np.isnan(std).all() else std
        axes.errorbar(x, y, bars, fmt=line, label=label, color=_colour(place), linewidth=2, capsize=4)
    smallest = min((place for place in ticks if place > 0), default=1.0)
    if numeric and max(ticks) >= 20 * smallest:  # far apart; a 0 stands left of the smallest
        axes.set_xscale("symlog", linthresh=smallest, linscale=0.5) if 0 in ticks else axes.set_xscale("log")
    axes.set_xticks(list(ticks), ticks.values())
    axes.minorticks_off()
    axes.legend(frameon=False, loc="best")
    notes = {
        "bars: ± 1 standard deviation over seeds": any(np.isfinite(curve.std).any() for curve in curves),
        "values of the setting at equal distances": not numeric,
    }
    write_notes(figure, notes)
    return figure


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]
