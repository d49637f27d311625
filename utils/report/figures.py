"""Which figures a report has, and what is drawn in each."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from utils.plot import Curve, accuracy_figure, competition_figure, rounds_figure, sweep_figure
from utils.report.competition import Matrices
from utils.report.records import Result
from utils.report.statistics import estimate
from utils.suite.file import Curves, Suite, slug

SWEEP_NAMES = {
    "replay_frac": "fraction of a past task's examples that may be used again",
    "tasks_per_round": "tasks a learner is trained on, the new one included",
    "samples": "training examples per class",
}


def make_figures(results: Sequence[Result], suite: Suite | None, found: Matrices | None) -> dict[str, bytes]:
    """The figures that the complete runs allow, as PNG by name. Raises ConfigError: a csv is damaged."""
    figures: dict[str, bytes] = {}
    complete = [result for result in results if result.runs]
    columns = dict.fromkeys(result.column for result in complete)
    for column in columns if not (suite and suite.competition) else ():
        methods = [result for result in complete if result.column == column]
        for result in methods:
            isolated = next((other for other in methods if other.is_isolated_of(result)), None)
            if result.settings.num_rounds > 1 and not result.is_isolated:
                figures[f"evolution_{slug(result.row)}_{slug(column)}"] = evolution(result, isolated)
        curves = suite.curves if suite and suite.curves and suite.curves.column == column else None
        if any(result.settings.continual for result in methods):
            figures[f"rounds_{slug(column)}"] = by_round(methods, column, curves)
    if suite and suite.sweep and complete:
        figures["sweep"] = sweep(complete, suite.sweep, suite.title)
    if found:
        correlation = found.correlation
        figures["competition"] = competition_figure(
            found.ours,
            found.published,
            found.names,
            source=found.source,
            rho=correlation.rho if correlation else None,
            num_seeds=found.num_seeds,
        )
    return figures


class Evolution(NamedTuple):
    """R of a method averaged over seeds, and Isolated's accuracy of each task over the same ones, if there is any."""

    accuracy: np.ndarray
    isolated: np.ndarray | None
    num_seeds: int


def evolution_of(result: Result, isolated: Result | None) -> Evolution:
    """Over the seeds that both have: with others, a line that begins off its cross would say nothing of transfer."""
    crosses = {}
    if isolated and result.settings.continual:
        crosses = {
            seed: finals
            for seed, finals in isolated.final_accuracy().items()
            if seed in result.runs and len(finals) == result.settings.num_rounds  # else it stopped at another task
        }
    seeds = crosses or result.runs
    return Evolution(
        np.mean([result.runs[seed].accuracy for seed in seeds], axis=0),
        np.mean(list(crosses.values()), axis=0) if crosses else None,
        len(seeds),
    )


def evolution(result: Result, isolated: Result | None) -> bytes:
    """Each task's accuracy as the zoo grows, against Isolated's."""
    accuracy, crosses, num_seeds = evolution_of(result, isolated)
    return accuracy_figure(
        accuracy,
        result.settings.benchmark.names,
        continual=result.settings.continual,
        isolated=crosses,
        title=f"{result.row} on {result.column}: each task's accuracy "
        + (f"(mean of {num_seeds} seeds)" if num_seeds > 1 else "(one run)"),
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
    """Each where it has a number, as fractions. Raises ConfigError: the csv is damaged."""
    curves = []
    for name, percents in published.by_method().items():
        values = np.array(percents) / 100
        known = np.flatnonzero(np.isfinite(values))
        if len(known):
            curves.append(Curve(name, 1 + known, values[known]))
    return curves


def by_round(methods: Sequence[Result], column: str, published: Curves | None) -> bytes:
    """Average accuracy of the tasks seen, methods side by side."""
    curves, levels = round_curves(methods)
    theirs = published_curves(published) if published else []
    source = published.source if published else ""
    return rounds_figure(curves, levels, theirs, title=f"{column}: methods by round", source=source)


def sweep_curves(results: Sequence[Result], setting: str) -> tuple[list[Curve], list[Any]]:
    """Average accuracy of each column at the places of the setting's values, and these; None, all of them, is last."""
    values = sorted({getattr(result.settings, setting) for result in results}, key=lambda v: (v is None, v))
    curves = []
    for column in dict.fromkeys(result.column for result in results):
        chosen = [result for result in results if result.column == column]
        chosen.sort(key=lambda result: values.index(getattr(result.settings, setting)))
        found = [estimate(result.values("average_accuracy")) for result in chosen]
        std = np.array([np.nan if each.std is None else each.std for each in found])
        curves.append(
            Curve(
                column,
                np.array([values.index(getattr(result.settings, setting)) for result in chosen]),
                np.array([each.mean for each in found]),
                None if np.isnan(std).all() else std,
            )
        )
    return curves, values


def sweep(results: Sequence[Result], setting: str, title: str) -> bytes:
    """Average accuracy against the setting by which a suite's rows differ."""
    curves, values = sweep_curves(results, setting)
    ticks = [
        "all" if value is None else f"{100 * value:g} %" if setting == "replay_frac" else str(value) for value in values
    ]
    return sweep_figure(curves, xlabel=SWEEP_NAMES[setting], ticks=ticks, title=title)
