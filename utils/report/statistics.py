"""Statistics of a few runs: mean, spread and interval over seeds, and the difference of two methods, paired by task."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from utils.report.results import NO_SEED

OVER_BOTH = "over seeds and tasks"
MOST_BY_TASKS = 2  # seeds, whose spread says too little for an interval over seeds


class Estimate(NamedTuple):
    """The mean of n values, their sample standard deviation and a 95 % interval; NaN where n values say nothing."""

    mean: float
    std: float
    low: float
    high: float
    n: int


class Difference(NamedTuple):
    """The mean difference of two methods, in fractions, with its 95 % interval.

    Attributes:
        over: What the interval is for: new seeds and new tasks, or with fewer than three seeds new tasks alone.
        num_tasks: The number of tasks.
        seeds: The seeds that both methods have, or all if those of one are not known.
        removed: The part of the other method's mean error that the difference removes.
    """

    mean: float
    low: float
    high: float
    over: str
    num_tasks: int
    seeds: tuple[int, ...]
    removed: float


def estimate(values: Sequence[float], *, least: float = -1.0) -> Estimate:
    """The mean of the values with its spread; an interval, which ends at ``least`` and at 1, from three values on.

    Args:
        values: Taken as independent draws of a normal variable; without any, all but n is NaN.
        least: The smallest value that is possible; the largest is 1.
    """
    found, n = pd.Series(values, dtype=float), len(values)
    error = found.std() / n**0.5 if n > MOST_BY_TASKS else float("nan")
    low, high = np.clip(_interval(found.mean(), error, n - 1), least, 1.0).tolist()
    return Estimate(found.mean(), found.std(), low, high, n)


def _interval(mean: float, standard_error: float, degrees_of_freedom: float) -> np.ndarray:
    """The 95 % interval by Student's t; NaN if the standard error is NaN."""
    return mean + stats.t.ppf([0.025, 0.975], degrees_of_freedom) * standard_error


def difference(ours: pd.DataFrame, other: pd.DataFrame) -> Difference | None:
    """Ours minus the other, paired by seed and task; None if there is no common seed.

    Args:
        ours: The accuracies at the end, fractions, a row for each seed, a column for each task.
        other: The same of the other method, on the same tasks. If the seeds of one are not known, all seeds of both are
            averaged.
    """
    seeds = ours.index.intersection(other.index).sort_values()
    if NO_SEED in ours.index.union(other.index):
        seeds = ours.index.union(other.index).drop(NO_SEED)
        by_seed, few = (ours.mean() - other[list(ours)].mean()).to_frame().T, "seeds not known"
    else:
        ours, other = ours.loc[seeds], other.loc[seeds, list(ours)]
        by_seed, few = ours - other, "one seed" if len(seeds) == 1 else "two seeds"
    if by_seed.empty:
        return None
    num_seeds, num_tasks = by_seed.shape
    mean, others_error = by_seed.mean().mean(), 1 - other.mean().mean()
    if num_seeds > MOST_BY_TASKS and num_tasks > 1:
        over, (error, freedom) = OVER_BOTH, _error_over_seeds_and_tasks(by_seed)
    else:
        over, error, freedom = f"{few}: over tasks", by_seed.mean().std() / num_tasks**0.5, num_tasks - 1
    low, high = _interval(mean, error, freedom)
    removed = mean / others_error if others_error > 0 else float("nan")
    return Difference(mean, low, high, over, num_tasks, tuple(seeds), removed)


def _error_over_seeds_and_tasks(differences: pd.DataFrame) -> tuple[float, float]:
    """The standard error of the mean for new seeds and new tasks, and its degrees of freedom.

    Two-way random effects without replication: a difference is the sum of an effect of its seed, one of its task, and a
    residual. The mean's variance is (MS_seed + MS_task - MS_residual) / (S T), with Satterthwaite's degrees of freedom,
    and at least MS_residual / (S T), with (S - 1)(T - 1).

    Args:
        differences: Float ``[S, T]``, a row for each seed, a column for each task.

    Source: Searle, Casella and McCulloch 1992; Satterthwaite 1946.
    """
    values, (num_seeds, num_tasks) = differences.to_numpy(), differences.shape
    of_seed, of_task = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    residual = values - of_seed - of_task + values.mean()
    freedom = np.array([num_seeds - 1, num_tasks - 1, (num_seeds - 1) * (num_tasks - 1)])
    ms_residual = np.sum(residual**2) / freedom[2]
    squares = np.array([num_tasks * of_seed.var(ddof=1), num_seeds * of_task.var(ddof=1), ms_residual])
    total = squares[0] + squares[1] - ms_residual
    if total <= ms_residual:
        return float(ms_residual / values.size) ** 0.5, float(freedom[2])
    return float(total / values.size) ** 0.5, float(total**2 / np.sum(squares**2 / freedom))
