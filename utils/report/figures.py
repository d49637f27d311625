"""Which figures a report has, and how those of many runs are drawn. A task competition has its own."""

import textwrap
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from utils.plot import GREY, draw_accuracy, frame, name_lines, plain_style, write_notes
from utils.report.records import Result, read_labelled_csv
from utils.report.statistics import estimate
from utils.suite.file import FIELDS, Curves, Suite, slug


class Curve(NamedTuple):
    """A line of a figure: heights ``y`` at ``x``, and their standard deviation, NaN where it is not known."""

    label: str
    x: np.ndarray
    y: np.ndarray
    std: np.ndarray

    @property
    def is_level(self) -> bool:
        """Whether it is a single height at x = 0: of a method that has all tasks at once."""
        return self.x[0] == 0


def choose_figures(results: Sequence[Result], suite: Suite, scored: str) -> dict[str, Callable[[], Figure]]:
    """The figures that the complete runs allow, by name; none is drawn yet."""
    complete = [result for result in results if result.accuracy and not suite.competition]
    figures: dict[str, Callable[[], Figure]] = {}
    for benchmark in dict.fromkeys(result.benchmark for result in complete):
        methods = [result for result in complete if result.benchmark == benchmark]
        for result in methods:
            isolated = next((other for other in methods if other.is_isolated_of(result)), None)
            if result.settings and result.settings.total_rounds > 1 and not result.is_isolated:
                name = f"evolution_{slug(result.method)}_{slug(benchmark)}"
                figures[name] = partial(evolution, result, isolated, scored)
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
    finals = isolated.final if isolated and result.continual else pd.DataFrame()
    seeds = [seed for seed in result.accuracy if seed in finals.index]
    if not seeds or finals.shape[1] != result.final.shape[1]:  # Isolated stopped at another task
        return np.mean(list(result.accuracy.values()), axis=0), None, len(result.accuracy)
    return np.mean([result.accuracy[seed] for seed in seeds], axis=0), finals.loc[seeds].mean().to_numpy(), len(seeds)


def evolution(result: Result, isolated: Result | None, scored: str) -> Figure:
    """Each task's accuracy as the zoo grows, against Isolated's."""
    accuracy, crosses, num_seeds = averages(result, isolated)
    runs = f"mean of {num_seeds} seeds" if num_seeds > 1 else "one run"
    title = f"{result.method} on {result.benchmark}: each task's accuracy ({runs})"
    names, continual = list(result.tasks), result.continual
    return draw_accuracy(accuracy, names, continual=continual, isolated=crosses, title=title, scored=scored)


def round_curve(result: Result) -> Curve:
    """Average accuracy of the tasks seen, by their number; if all are there at once, that at the end, at x = 0."""
    seen = np.array([np.nanmean(r, axis=1) for r in result.accuracy.values()])  # [runs, rounds]
    if not result.continual:
        seen = seen[:, -1:]
    x = np.arange(seen.shape[1]) + result.continual
    return Curve(result.method, x, seen.mean(axis=0), pd.DataFrame(seen).std().to_numpy())


def published_curves(published: Curves) -> list[Curve]:
    """Each published curve where it has a number, as fractions. Raises UserError if the csv file is damaged."""
    curves = []
    for name, percents in read_labelled_csv(published.file).dropna(how="all").iterrows():
        rounds = np.flatnonzero(percents.notna())
        heights = percents.iloc[rounds].to_numpy() / 100
        curves.append(Curve(str(name), 1 + rounds, heights, np.full(len(heights), np.nan)))
    return curves


@plain_style()
def draw_rounds(methods: Sequence[Result], published: Curves | None, scored: str) -> Figure:
    """Average accuracy of the tasks seen, as they arrive, methods of a benchmark side by side.

    Methods that have all tasks at once are a dotted level. Published curves are dashed: in a method's colour if they
    have its name, else grey.
    """
    ours = [round_curve(result) for result in methods]
    others = published_curves(published) if published else []
    title, ylabel = f"{methods[0].benchmark}: methods by round", f"average {scored} accuracy of the tasks seen"
    figure, axes = frame(9.5, max(4.8, 0.36 * len(ours + others)), "tasks seen", ylabel, title)
    last = max(curve.x[-1] for curve in ours + others)
    colours = {curve.label: f"C{place}" for place, curve in enumerate(ours)}
    names = []
    for curve in others:
        colour = colours.get(curve.label, GREY)
        axes.plot(curve.x, curve.y, color=colour, linewidth=1.0, linestyle="--")
        names.append(((curve.x[-1], curve.y[-1]), f"{curve.label}, published", colour))
    for curve in ours:
        colour = colours[curve.label]
        if curve.is_level:
            axes.axhline(curve.y[0], color=colour, linewidth=1.4, linestyle=":")
        else:
            axes.plot(curve.x, curve.y, color=colour, linewidth=2.0, marker="o", markersize=4, zorder=3)
            below, above = curve.y - curve.std, curve.y + curve.std
            axes.fill_between(curve.x, below, above, color=colour, alpha=0.18, linewidth=0)
        names.append(((last if curve.is_level else curve.x[-1], curve.y[-1]), curve.label, colour))
    axes.set_xlim(1 - 0.02 * last, 1.02 * last)
    name_lines(figure, *zip(*names, strict=True))
    bands = [curve for curve in ours if not curve.is_level and np.isfinite(curve.std).any()]
    notes = {
        "band: ± 1 standard deviation over seeds": bands,
        "dotted: all tasks at once": any(curve.is_level for curve in ours),
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
    points = defaultdict(list)
    for result in results:
        found = estimate(result.final.mean(axis="columns"))
        points[_curve_label(result, results, setting)].append((places[result.flat[setting]], found.mean, found.std))
    curves = [Curve(label, *np.array(sorted(found), dtype=float).T) for label, found in points.items()]
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
    xlabel = textwrap.fill(f"{setting}: {FIELDS[setting].description}", 80)
    figure, axes = frame(7, 4.5, xlabel, f"average {scored} accuracy", title)
    for label, x, y, std in curves:
        bars = None if np.isnan(std).all() else std
        axes.errorbar(x, y, bars, fmt="o-" if numeric else "o:", label=label, linewidth=2, capsize=4)
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
