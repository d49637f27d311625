"""Statistics of a few runs: mean, spread and interval over seeds, and two methods compared task by task."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from utils.report.records import NO_SEED

DECIMALS = 10  # to which equal accuracies stay equal when they are averaged: ranks need their ties


class Estimate(NamedTuple):
    """The mean of n values, their sample standard deviation and 95 % t-interval; NaN where n values say nothing."""

    mean: float
    std: float
    low: float
    high: float
    n: int


class Comparison(NamedTuple):
    """The mean difference of two methods with the tasks as the sample, and with the seeds; Wilcoxon's p is over tasks.

    Both means are the same. Over tasks it is asked whether the difference holds for other tasks, with these seeds; over
    seeds, whether it holds for other seeds, with these tasks.
    """

    difference: Estimate
    over_seeds: Estimate
    num_zeros: int
    wilcoxon_p: float
    seeds: tuple[int, ...]


def estimate(values: Sequence[float], *, least: float = -1.0) -> Estimate:
    """The mean of the values with its spread; the interval ends at ``least`` and at 1.

    Args:
        values: Taken as independent draws of a normal variable; without any, all but n is NaN.
        least: The smallest value that is possible; the largest is 1.
    """
    found, n = pd.Series(values, dtype=float), len(values)
    mean, std = found.mean(), found.std()
    half = stats.t.ppf(0.975, n - 1) * std / n**0.5  # on each side, 2.5 % lie beyond
    low, high = np.clip([mean - half, mean + half], least, 1.0).tolist()
    return Estimate(mean, std, low, high, n)


def paired_by_task(ours: pd.DataFrame, other: pd.DataFrame) -> Comparison | None:
    """Ours minus the other, each task averaged over the seeds that both have; the tasks are the pairs.

    Args:
        ours: The accuracies at the end, fractions, a row for each seed, a column for each task.
        other: The same of the other method. If the seeds of one are not known, all seeds of both are averaged.

    Returns:
        None if there is no common seed, or if the tasks are not the same.
    """
    seeds = ours.index.union(other.index)
    by_seed = pd.Series(dtype=float)
    if NO_SEED in seeds:
        seeds = seeds.drop(NO_SEED)
    else:
        seeds = ours.index.intersection(other.index)
        ours, other = ours.loc[seeds], other.loc[seeds]
        by_seed = (ours - other).mean(axis="columns")
    by_task = (ours.mean() - other.mean()).to_numpy().round(DECIMALS)  # NaN for a task that one does not have
    if by_task.size == 0 or np.isnan(by_task).any():
        return None
    num_zeros = int((by_task == 0).sum())
    return Comparison(estimate(by_task), estimate(by_seed), num_zeros, wilcoxon_p(by_task), tuple(sorted(seeds)))


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
    lower = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    return min(1.0, 2 * float(probability[: lower + 1].sum()))


def holm(p_values: pd.Series) -> pd.Series:
    """The p-values, corrected for the number of comparisons by Holm's method; NaN is no comparison.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    ascending = p_values.dropna().sort_values(kind="stable")
    corrected = ascending * np.arange(len(ascending), 0, -1)
    return corrected.cummax().clip(upper=1.0).reindex(p_values.index)


def rank_correlation(pairs: pd.DataFrame) -> float:
    """Spearman's rho of two columns, where both have a number; NaN if all numbers of one are equal."""
    known = pairs.dropna().round(DECIMALS)
    return float(stats.spearmanr(*known.to_numpy().T).statistic) if known.nunique().min() > 1 else float("nan")
