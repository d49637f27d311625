"""Which figures a report has, and what is drawn in each."""

from collections.abc import Sequence

import numpy as np

from utils.plot import Curve, accuracy_figure, competition_figure, rounds_figure, sweep_figure
from utils.report.competition import Matrices
from utils.report.records import Result
from utils.report.statistics import Correlation
from utils.suite.file import Curves, Suite, slug

SWEEP_NAMES = {
    "replay_frac": "fraction of a past task's examples that may be used again",
    "tasks_per_round": "tasks a learner is trained on, the new one included",
    "samples": "training examples per class",
}


def make_figures(
    results: Sequence[Result], suite: Suite | None, found: Matrices | None, correlation: Correlation | None
) -> dict[str, bytes]:
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
    if suite and suite.competition and found and correlation:
        figures["competition"] = competition_figure(
            found.ours,
            found.published,
            found.names,
            source=suite.competition.source,
            rho=correlation.rho,
            num_seeds=found.num_seeds,
        )
    return figures


def _over_runs(result: Result) -> np.ndarray:
    """R of every run, ``[runs, rounds, T]``."""
    return np.stack([run.accuracy for run in result.runs.values()])


def evolution(result: Result, isolated: Result | None) -> bytes:
    """Each task's accuracy as the zoo grows, averaged over seeds, against Isolated's."""
    crosses = None
    if isolated and result.settings.continual:
        crosses = np.mean(list(isolated.final_accuracy().values()), axis=0)
        if len(crosses) != result.settings.num_rounds:
            crosses = None  # it stopped at another task
    num_runs = len(result.runs)
    return accuracy_figure(
        _over_runs(result).mean(axis=0),
        result.settings.benchmark.names,
        continual=result.settings.continual,
        isolated=crosses,
        title=f"{result.row} on {result.column}: each task's accuracy "
        + (f"(mean of {num_runs} seeds)" if num_runs > 1 else "(one run)"),
    )


def by_round(methods: Sequence[Result], column: str, published: Curves | None) -> bytes:
    """Average accuracy of the tasks seen, methods side by side."""
    curves, levels = [], []
    for result in methods:
        runs = _over_runs(result)
        if not result.settings.continual:
            levels.append(Curve(result.row, np.array([0]), runs[:, -1].mean(keepdims=True).ravel()))
            continue
        seen = np.nanmean(runs, axis=2)  # [runs, rounds]
        x = 1 + np.arange(seen.shape[1])
        std = seen.std(axis=0, ddof=1) if len(seen) > 1 else None
        curves.append(Curve(result.row, x, seen.mean(axis=0), std))
    theirs = []
    if published:
        theirs = [
            Curve(name, 1 + np.arange(len(values)), np.array(values) / 100)
            for name, values in published.by_method().items()
        ]
    return rounds_figure(
        curves, levels, theirs, title=f"{column}: methods by round", source=published.source if published else ""
    )


def sweep(results: Sequence[Result], setting: str, title: str) -> bytes:
    """Average accuracy against the setting by which a suite's rows differ."""
    values = sorted({getattr(result.settings, setting) for result in results}, key=lambda v: (v is None, v))
    curves = []
    for column in dict.fromkeys(result.column for result in results):
        chosen = [result for result in results if result.column == column]
        chosen.sort(key=lambda result: values.index(getattr(result.settings, setting)))
        averages = [result.values("average_accuracy") for result in chosen]
        x = np.array([values.index(getattr(result.settings, setting)) for result in chosen])
        std = np.array([np.std(each, ddof=1) if len(each) > 1 else 0.0 for each in averages])
        curves.append(Curve(column, x, np.array([np.mean(each) for each in averages]), std if std.any() else None))
    ticks = [
        "all" if value is None else f"{100 * value:g} %" if setting == "replay_frac" else str(value) for value in values
    ]
    return sweep_figure(curves, xlabel=SWEEP_NAMES[setting], ticks=ticks, title=title)
