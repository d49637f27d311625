"""Statistics of a few runs: mean, spread and interval over seeds, and two methods compared task by task."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
DECIMALS = 10  # to which equal accuracies stay equal when they are averaged: ranks need their ties


class Estimate(NamedTuple):
    """Mean of n values with its sample standard deviation and 95 % t-interval; None where one value says nothing."""

    mean: float
    std: float | None
    low: float | None
    high: float | None
    n: int


class Comparison(NamedTuple):
    """Mean difference of two methods over tasks, its interval, and the p-value of Wilcoxon's signed-rank test."""

    difference: Estimate
    wilcoxon_p: float
    seeds: tuple[int, ...]


def estimate(values: Sequence[float]) -> Estimate:
    """Of the values' mean.

    Args:
        values: one or more, taken as independent draws of a normal variable.

    Raises:
        ValueError: there are none.
    """
    if len(values) == 0:
        raise ValueError("values: expected one or more, got none")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(mean, None, None, None, 1)
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * std / len(values) ** 0.5
    return Estimate(mean, std, mean - half, mean + half, len(values))


def paired_by_task(ours: Mapping[int, Sequence[float]], other: Mapping[int, Sequence[float]]) -> Comparison | None:
    """Ours minus other, each task averaged over the seeds that both have; the tasks are the pairs.

    Args:
        ours: seed -> final accuracy of each task, a fraction; the tasks are the same in both.
        other: as ours.

    Returns:
        None where there is no common seed, or where the tasks are not as many.
    """
    seeds = tuple(sorted(ours.keys() & other.keys()))
    if not seeds or len({len(values[seed]) for values in (ours, other) for seed in seeds}) > 1:
        return None
    by_task = np.mean([ours[seed] for seed in seeds], axis=0) - np.mean([other[seed] for seed in seeds], axis=0)
    by_task = by_task.round(DECIMALS)
    p_value = float(stats.wilcoxon(by_task).pvalue) if by_task.any() else 1.0
    return Comparison(estimate(by_task.tolist()), p_value, seeds)


class Correlation(NamedTuple):
    """Spearman's rank correlation of n pairs; the p-value takes the pairs as independent."""

    rho: float
    p_value: float
    n: int


def rank_correlation(ours: np.ndarray, published: np.ndarray) -> Correlation | None:
    """Of two square matrices' entries off the diagonal, where both have a number; None where all are equal in one."""
    apart = ~np.eye(len(ours), dtype=bool) & np.isfinite(ours) & np.isfinite(published)
    one, other = ours[apart].round(DECIMALS), published[apart].round(DECIMALS)
    if len(np.unique(one)) < 2 or len(np.unique(other)) < 2:
        return None
    result = stats.spearmanr(one, other)
    return Correlation(float(result.statistic), float(result.pvalue), len(one))
