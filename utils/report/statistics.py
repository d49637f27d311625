"""Statistics of a few runs: mean, spread and interval over seeds, and two methods compared task by task."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from utils.report.records import NO_SEED

CONFIDENCE = 0.95
DECIMALS = 10  # to which equal accuracies stay equal when they are averaged: ranks need their ties


class Estimate(NamedTuple):
    """The mean of n values, their sample standard deviation and 95 % t-interval; None where one value says nothing."""

    mean: float
    std: float | None
    low: float | None
    high: float | None
    n: int


class Comparison(NamedTuple):
    """The mean difference of two methods over tasks, and the p-value of Wilcoxon's signed-rank test."""

    difference: Estimate
    num_zeros: int
    wilcoxon_p: float
    seeds: tuple[int, ...]


def estimate(values: Sequence[float], *, least: float = -1.0) -> Estimate:
    """The mean of the values with its spread; the interval ends at ``least`` and at 1.

    Args:
        values: One value or more, taken as independent draws of a normal variable.
        least: The smallest value that is possible; the largest is 1.
    """
    mean = float(np.mean(values))
    if len(values) == 1:
        return Estimate(mean, None, None, None, 1)
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * std / len(values) ** 0.5
    return Estimate(mean, std, max(mean - half, least), min(mean + half, 1.0), len(values))


def paired_by_task(ours: pd.DataFrame, other: pd.DataFrame) -> Comparison | None:
    """Ours minus the other, each task averaged over the seeds that both have; the tasks are the pairs.

    Args:
        ours: The accuracies at the end, fractions, a row for each seed, a column for each task.
        other: The same of the other method. If the seeds of one are not known, all seeds of both are averaged.

    Returns:
        None if there is no common seed, or if the tasks are not the same.
    """
    seeds = ours.index.intersection(other.index)
    if NO_SEED in ours.index.union(other.index):
        one, two, seeds = ours.mean(), other.mean(), ours.index.union(other.index).drop(NO_SEED)
    else:
        one, two = ours.loc[seeds].mean(), other.loc[seeds].mean()
    if not (len(ours) and len(other) and len(one) == len(two)) or one.isna().any():
        return None
    by_task = (one - two).to_numpy().round(DECIMALS)
    return Comparison(estimate(by_task.tolist()), int((by_task == 0).sum()), wilcoxon_p(by_task), tuple(sorted(seeds)))


def wilcoxon_p(differences: np.ndarray) -> float:
    """The exact two-sided p-value of Wilcoxon's signed-rank test, ties included; zeros are dropped.

    It is the fraction of all choices of signs, all equally likely, whose sum of positive ranks is at least as far from
    its mean as the observed sum. (``scipy.stats.wilcoxon`` takes a normal approximation if there is a tie.)

    Args:
        differences: Float ``[n]``. Without any that is not zero the p-value is 1.
    """
    differences = differences[differences != 0]
    # Equal differences share their mean rank, which is a whole number when it is doubled.
    ranks = (2 * stats.rankdata(np.abs(differences))).astype(int)
    probability = np.ones(1)  # of each sum of positive ranks
    for rank in ranks:
        probability = (np.pad(probability, (0, rank)) + np.pad(probability, (rank, 0))) / 2
    positive = int(ranks[differences > 0].sum())
    lower = min(positive, int(ranks.sum()) - positive)
    return min(1.0, 2 * float(probability[: lower + 1].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, corrected for the number of comparisons by Holm's method.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    raw = np.array(p_values)
    order = np.argsort(raw, kind="stable")
    corrected = np.empty(len(raw))
    corrected[order] = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    return np.minimum(corrected, 1.0).tolist()


class Correlation(NamedTuple):
    """Spearman's rank correlation of n pairs; the p-value takes the pairs as independent."""

    rho: float
    p_value: float
    n: int


def rank_correlation(ours: np.ndarray, published: np.ndarray) -> Correlation | None:
    """The correlation of two square matrices' entries off the diagonal, where both have a number.

    Returns:
        None if all entries of one matrix are equal.
    """
    apart = ~np.eye(len(ours), dtype=bool) & np.isfinite(ours) & np.isfinite(published)
    one, other = ours[apart].round(DECIMALS), published[apart].round(DECIMALS)
    if len(np.unique(one)) < 2 or len(np.unique(other)) < 2:
        return None
    result = stats.spearmanr(one, other)
    return Correlation(float(result.statistic), float(result.pvalue), len(one))
