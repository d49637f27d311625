"""Which figures a report has, and how those of many runs are drawn."""

import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from utils.plot import GREY, draw_accuracy, frame, name_lines, plain_style, write_notes
from utils.report.competition import draw_competition
from utils.report.results import Result
from utils.report.statistics import estimate
from utils.suite.file import FIELDS, Curves, Suite, read_labelled_csv, slug

Draw = Callable[[], Figure]


def choose_figures(results: Sequence[Result], suite: Suite, scored: str, gains: pd.DataFrame | None) -> dict[str, Draw]:
    """The figures that the complete runs allow, by name; none is drawn yet. A competition has that of its gains."""
    if suite.competition:
        return {} if gains is None else {"competition": partial(draw_competition, gains)}
    figures: dict[str, Draw] = {}
    for benchmark in dict.fromkeys(result.benchmark for result in results):
        methods = [result for result in results if result.benchmark == benchmark]
        for result in methods:
            if result.settings and result.settings.total_rounds > 1 and not result.is_isolated:
                isolated = next((other for other in methods if other.is_isolated_of(result)), None)
                name = f"evolution_{slug(result.method)}_{slug(benchmark)}"
                figures[name] = partial(evolution, result, isolated, scored)
        if any(result.continual for result in methods):
            comparable = scored == "test" and suite.curves and suite.curves.column == benchmark
            published = suite.curves if comparable else None
            figures[f"rounds_{slug(benchmark)}"] = partial(draw_rounds, methods, published, scored)
    swept = [result for result in results if result.settings]
    if suite.sweep and swept:
        figures["sweep"] = partial(draw_sweep, swept, suite.sweep, suite.title, scored)
    return figures


def averages(result: Result, isolated: Result | None) -> tuple[pd.DataFrame, pd.Series | None, int]:
    """R of a method and Isolated's accuracy of each task, both averaged over their common seeds; and how many seeds.

    Without a common seed, Isolated's accuracy is None, and all seeds of the method are averaged. Only seeds with the
    first one's order of tasks are averaged: in R a task arrives at one place.
    """
    order = list(next(iter(result.accuracy.values())))
    matrices = {seed: r for seed, r in result.accuracy.items() if list(r) == order}
    finals = isolated.final if isolated and result.continual and isolated.learned == result.learned else pd.DataFrame()
    common = [seed for seed in matrices if seed in finals.index]
    mean = sum(matrices[seed] for seed in common or matrices) / len(common or matrices)
    return mean, finals.loc[common].mean().reindex(order) if common else None, len(common or matrices)


def evolution(result: Result, isolated: Result | None, scored: str) -> Figure:
    """Each task's accuracy as the zoo grows, against Isolated's."""
    r, alone, num_seeds = averages(result, isolated)
    runs = f"mean of {num_seeds} seeds" if num_seeds > 1 else "one run"
    title = f"{result.method} on {result.benchmark}: each task's accuracy ({runs})"
    names, crosses = [key.name for key in r], None if alone is None else alone.to_numpy()
    return draw_accuracy(r.to_numpy(), names, continual=result.continual, isolated=crosses, title=title, scored=scored)


def round_curves(result: Result) -> pd.DataFrame:
    """Average accuracy of the tasks seen: a row for each number of tasks seen, a column for each seed.

    Of a method that has all tasks at once, it is the accuracy at the end, in a row 0.
    """
    averages = pd.DataFrame({seed: r.mean(axis="columns") for seed, r in result.accuracy.items()})
    return averages.set_axis(averages.index + 1) if result.continual else averages[-1:].set_axis([0])


def published_curves(published: Curves) -> dict[str, pd.Series]:
    """Published average accuracies by method and number of tasks seen, fractions. Raises UserError if damaged."""
    table = read_labelled_csv(published.file).dropna(how="all") / 100
    return {str(name): curve.set_axis(range(1, 1 + len(curve))).dropna() for name, curve in table.iterrows()}


@plain_style()
def draw_rounds(methods: Sequence[Result], published: Curves | None, scored: str) -> Figure:
    """Average accuracy of the tasks seen, as they arrive, methods of a benchmark side by side.

    Methods that have all tasks at once are a dotted level. Published curves are dashed: in a method's colour if they
    have its name, else grey.
    """
    ours = {result.method: round_curves(result) for result in methods}
    others = published_curves(published) if published else {}
    title, ylabel = f"{methods[0].benchmark}: methods by round", f"average {scored} accuracy of the tasks seen"
    figure, axes = frame(9.5, max(4.8, 0.36 * len([*ours, *others])), "tasks seen", ylabel, title)
    last = max(curve.index[-1] for curve in [*ours.values(), *others.values()])
    colours = {method: f"C{place}" for place, method in enumerate(ours)}
    names = []
    for method, curve in others.items():
        colour = colours.get(method, GREY)
        axes.plot(curve, color=colour, linewidth=1.0, linestyle="--")
        names.append(((curve.index[-1], curve.iloc[-1]), f"{method}, published", colour))
    for method, curves in ours.items():
        mean, std, colour = curves.mean(axis="columns"), curves.std(axis="columns"), colours[method]
        if mean.index[-1] == 0:
            axes.axhline(mean[0], color=colour, linewidth=1.4, linestyle=":")
        else:
            axes.plot(mean, color=colour, linewidth=2.0, marker="o", markersize=4, zorder=3)
            axes.fill_between(mean.index, mean - std, mean + std, color=colour, alpha=0.18, linewidth=0)
        names.append(((mean.index[-1] or last, mean.iloc[-1]), method, colour))
    axes.set_xlim(1 - 0.02 * last, 1.02 * last)
    name_lines(figure, *zip(*names, strict=True))
    has_band = any(curves.shape[1] > 1 and curves.index[0] for curves in ours.values())
    has_level = any(curves.index[0] == 0 for curves in ours.values())
    notes = {"band: ± 1 standard deviation over seeds": has_band, "dotted: all tasks at once": has_level}
    write_notes(figure, notes | ({f"dashed: {published.source}": True} if published else {}))
    return figure


def sweep_table(results: Sequence[Result], setting: str) -> pd.DataFrame:
    """Average accuracy against a setting: a row for each value; for each curve a "mean" and a "std" over seeds.

    Where methods of a benchmark have the same value, those that differ by the setting alone are a curve of their own.
    Rows are in the order of the values, or of the suite if these are words; None, which is all, comes last.
    """
    values = list(dict.fromkeys(flat_settings(result)[setting] for result in results))
    if not any(isinstance(value, str) for value in values):
        values.sort(key=lambda value: (value is None, value))
    points = []
    for result in results:
        found, place = estimate(result.final.mean(axis="columns")), values.index(flat_settings(result)[setting])
        points.append((place, _curve_label(result, results, setting), found.mean, found.std))
    table = pd.DataFrame(points, columns=["place", None, "mean", "std"]).pivot(index="place", columns=None)
    return table.set_axis(["all" if value is None else str(value) for value in values])


def flat_settings(result: Result) -> dict[str, Any]:
    """A result's settings by name, the recipe's keys among them."""
    assert result.settings, "a method from elsewhere has no settings"
    return {key.removeprefix("recipe."): value for key, value in result.settings.compared().items()}


def _curve_label(result: Result, results: Sequence[Result], setting: str) -> str:
    """The benchmark and, if needed, what is not as in other methods of it."""
    mine, others = flat_settings(result), [flat_settings(it) for it in results if it.benchmark == result.benchmark]
    names = [result.benchmark]
    if len({other[setting] for other in others}) < len(others):
        apart = [key for key, value in mine.items() if any(other[key] != value for other in others)]
        names += [f"{key} {mine[key]}" for key in apart if key != setting]
    return ", ".join(names)


@plain_style()
def draw_sweep(results: Sequence[Result], setting: str, title: str, scored: str) -> Figure:
    """Average accuracy against the setting by which a suite's rows differ, its values at equal distances."""
    found = sweep_table(results, setting)
    xlabel = textwrap.fill(f"{setting}: {FIELDS[setting].description}", 80)
    figure, axes = frame(7, 4.5, xlabel, f"average {scored} accuracy", title)
    found["mean"].plot(ax=axes, yerr=found["std"], marker="o", linewidth=2, capsize=4, grid=True)
    axes.set_xticks(range(len(found["mean"])), found["mean"].index)
    axes.legend(frameon=False, loc="best")
    write_notes(figure, {"bars: ± 1 standard deviation over seeds": found["std"].notna().any(axis=None)})
    return figure
