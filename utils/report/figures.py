"""Which figures a report has, and what is drawn in each."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from utils.plot import Curve, accuracy_figure, rounds_figure, sweep_figure
from utils.report.records import Result
from utils.report.statistics import estimate
from utils.suite.file import Curves, Suite, read_labelled_csv, slug

SWEEP_NAMES = {
    "replay_frac": "fraction of a past task's examples that may be used again",
    "tasks_per_round": "tasks a learner is trained on, the new one included",
    "samples": "training examples per class",
}
Drawing = Callable[[], bytes]  # returns a PNG


def choose_figures(results: Sequence[Result], suite: Suite) -> dict[str, Drawing]:
    """The figures that the complete runs allow, by name; none is drawn yet."""
    complete = [result for result in results if result.runs]
    figures: dict[str, Drawing] = {}
    if suite.competition:
        return figures
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
    """R of a method and Isolated's accuracy of each task, averaged over the seeds that both have; how many these are.

    Without a common seed there is None for Isolated, and all seeds of the method count.
    """
    finals = isolated.final_accuracy() if isolated and result.settings.continual else {}
    seen = result.settings.num_rounds  # a run that stopped at another task has others
    crosses = {seed: tasks for seed, tasks in finals.items() if seed in result.runs and len(tasks) == seen}
    seeds = crosses or result.runs
    accuracy = np.mean([result.runs[seed].accuracy for seed in seeds], axis=0)
    return accuracy, np.mean(list(crosses.values()), axis=0) if crosses else None, len(seeds)


def evolution(result: Result, isolated: Result | None) -> bytes:
    """Each task's accuracy as the zoo grows, against Isolated's."""
    accuracy, crosses, num_seeds = averages(result, isolated)
    runs = f"mean of {num_seeds} seeds" if num_seeds > 1 else "one run"
    return accuracy_figure(
        accuracy,
        result.settings.benchmark.names,
        continual=result.settings.continual,
        isolated=crosses,
        title=f"{result.row} on {result.column}: each task's accuracy ({runs})",
    )


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


def by_round(methods: Sequence[Result], column: str, published: Curves | None) -> bytes:
    """Average accuracy of the tasks seen, methods side by side."""
    others, source = (published_curves(published), published.source) if published else ([], "")
    return rounds_figure(*round_curves(methods), others, title=f"{column}: methods by round", source=source)


def sweep_curves(results: Sequence[Result], setting: str) -> tuple[list[Curve], list[Any]]:
    """Average accuracy of each column at the places of the setting's values, and the values; None, all, is last."""
    values = sorted({getattr(result.settings, setting) for result in results}, key=lambda v: (v is None, v))
    curves = []
    for column in dict.fromkeys(result.column for result in results):
        points = []
        for result in (result for result in results if result.column == column):
            found = estimate(result.values("average_accuracy"))
            place = values.index(getattr(result.settings, setting))
            points.append((place, found.mean, np.nan if found.std is None else found.std))
        x, y, std = np.array(sorted(points)).T
        curves.append(Curve(column, x, y, None if np.isnan(std).all() else std))
    return curves, values


def sweep(results: Sequence[Result], setting: str, title: str) -> bytes:
    """Average accuracy against the setting by which a suite's rows differ."""
    curves, values = sweep_curves(results, setting)
    ticks = [f"{100 * value:g} %" if setting == "replay_frac" else str(value or "all") for value in values]
    return sweep_figure(curves, xlabel=SWEEP_NAMES[setting], ticks=ticks, title=title)
