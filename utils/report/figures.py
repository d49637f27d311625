"""Which figures a report has, and what is drawn in each."""

import textwrap
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from utils.plot import Curve, draw_accuracy, draw_rounds, draw_sweep
from utils.report.records import Result
from utils.report.statistics import estimate
from utils.suite.file import FIELDS, Curves, Suite, read_labelled_csv, slug


def choose_figures(results: Sequence[Result], suite: Suite) -> dict[str, Callable[[], Figure]]:
    """The figures that the complete runs allow, by name; none is drawn yet. A task competition has its own."""
    complete = [result for result in results if result.runs and not suite.competition]
    figures: dict[str, Callable[[], Figure]] = {}
    for column in dict.fromkeys(result.column for result in complete):
        methods = [result for result in complete if result.column == column]
        for result in methods:
            isolated = next((other for other in methods if other.is_isolated_of(result)), None)
            if result.settings.num_rounds > 1 and not result.is_isolated:
                figures[f"evolution_{slug(result.row)}_{slug(column)}"] = partial(evolution, result, isolated)
        if any(result.settings.continual for result in methods):
            published = suite.curves if suite.curves and suite.curves.column == column else None
            figures[f"rounds_{slug(column)}"] = partial(by_round, methods, column, published)
    if suite.sweep and complete:
        figures["sweep"] = partial(sweep, complete, suite.sweep, suite.title)
    return figures


def averages(result: Result, isolated: Result | None) -> tuple[np.ndarray, np.ndarray | None, int]:
    """R of a method and Isolated's accuracy of each task, both averaged over their common seeds; and how many seeds.

    Without a common seed, Isolated's accuracy is None, and all seeds of the method are averaged.
    """
    finals = isolated.final_accuracy() if isolated and result.settings.continual else {}
    seen = result.settings.num_rounds  # a run that stopped at another task has others
    crosses = {seed: tasks for seed, tasks in finals.items() if seed in result.runs and len(tasks) == seen}
    seeds = crosses or result.runs
    accuracy = np.mean([result.runs[seed].accuracy for seed in seeds], axis=0)
    return accuracy, np.mean(list(crosses.values()), axis=0) if crosses else None, len(seeds)


def evolution(result: Result, isolated: Result | None) -> Figure:
    """Each task's accuracy as the zoo grows, against Isolated's."""
    accuracy, crosses, num_seeds = averages(result, isolated)
    runs = f"mean of {num_seeds} seeds" if num_seeds > 1 else "one run"
    settings = result.settings
    names, continual, scored = settings.benchmark.names, settings.continual, settings.scored_on
    title = f"{result.row} on {result.column}: each task's accuracy ({runs})"
    return draw_accuracy(accuracy, names, continual=continual, isolated=crosses, title=title, scored=scored)


def round_curves(methods: Sequence[Result]) -> tuple[list[Curve], list[Curve]]:
    """Average accuracy of the tasks seen, by their number; and that of methods that have all tasks at once."""
    curves, levels = [], []
    for result in methods:
        runs = np.stack([run.accuracy for run in result.runs.values()])
        seen = np.nanmean(runs, axis=2)  # [runs, rounds]
        if result.settings.continual:
            std = seen.std(axis=0, ddof=1) if len(seen) > 1 else None
            curves.append(Curve(result.row, 1 + np.arange(seen.shape[1]), seen.mean(axis=0), std))
        else:
            levels.append(Curve(result.row, np.array([0]), seen[:, -1].mean(keepdims=True)))
    return curves, levels


def published_curves(published: Curves) -> list[Curve]:
    """Each published curve where it has a number, as fractions. Raises UserError if the csv file is damaged."""
    curves = []
    for name, percents in read_labelled_csv(published.file)[1].items():
        values = np.array(percents) / 100
        known = np.flatnonzero(np.isfinite(values))
        if len(known):
            curves.append(Curve(name, 1 + known, values[known]))
    return curves


def by_round(methods: Sequence[Result], column: str, published: Curves | None) -> Figure:
    """Average accuracy of the tasks seen, methods side by side."""
    others, source = (published_curves(published), published.source) if published else ([], "")
    title = f"{column}: methods by round"
    return draw_rounds(*round_curves(methods), others, title=title, source=source, scored=methods[0].settings.scored_on)


def sweep_curves(results: Sequence[Result], setting: str) -> tuple[list[Curve], dict[float, str], bool]:
    """Average accuracy of each column against a setting, by the places of the setting's values on the axis.

    Where methods of a column have the same value, those that differ by the setting alone are a curve of their own.

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
    curves = []
    for label, methods in _groups(results, setting).items():
        points = []
        for result in methods:
            found = estimate(result.values("average_accuracy"))
            points.append((places[result.flat[setting]], found.mean, np.nan if found.std is None else found.std))
        x, y, std = np.array(sorted(points)).T
        curves.append(Curve(label, x, y, None if np.isnan(std).all() else std))
    return curves, ticks, numeric


def _groups(results: Sequence[Result], setting: str) -> dict[str, list[Result]]:
    """The results of each curve of a sweep, by its label: the column and, if needed, what is not as in others."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        others = [other.flat for other in results if other.column == result.column]
        names = [result.column]
        if len({other[setting] for other in others}) < len(others):
            apart = [key for key, value in result.flat.items() if any(other[key] != value for other in others)]
            names += [f"{key} {result.flat[key]}" for key in apart if key != setting]
        groups.setdefault(", ".join(names), []).append(result)
    return groups


def sweep(results: Sequence[Result], setting: str, title: str) -> Figure:
    """Average accuracy against the setting by which a suite's rows differ."""
    curves, ticks, numeric = sweep_curves(results, setting)
    scored = results[0].settings.scored_on
    description = FIELDS[setting].description
    xlabel = textwrap.fill(f"{setting}: {description}" if description else setting, 80)
    return draw_sweep(curves, xlabel=xlabel, ticks=ticks, numeric=numeric, title=title, scored=scored)
