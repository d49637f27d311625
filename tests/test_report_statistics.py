"""Intervals, paired tests and rank correlations, worked by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from utils.report.competition import off_diagonal
from utils.report.records import NO_SEED
from utils.report.statistics import estimate, holm, paired_by_task, rank_correlation, wilcoxon_p


def test_mean_std_and_interval_worked_by_hand():
    found = estimate([0.4, 0.5, 0.6])
    assert (found.mean, found.std, found.n) == pytest.approx((0.5, 0.1, 3))
    nan = float("nan")
    assert estimate([0.7]) == pytest.approx((0.7, nan, nan, nan, 1), nan_ok=True)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-6)  # t(2) at 97.5 %
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_an_interval_of_accuracies_ends_at_0_and_1():
    assert estimate([0.1, 0.9], least=0.0)[2:4] == (0.0, 1.0)
    assert estimate([-0.9, 0.9])[2:4] == (-1.0, 1.0)


def by_seed(finals):
    """The accuracies at the end, a row a seed."""
    return pd.DataFrame.from_dict(finals, orient="index")


def test_paired_by_task_averages_the_common_seeds_of_each_task():
    ours = {0: [0.6, 0.7, 0.8, 0.9, 1.0], 1: [0.8, 0.9, 1.0, 1.1, 1.2], 7: [0.0] * 5}
    other = {0: [0.6, 0.6, 0.6, 0.6, 0.6], 1: [0.6, 0.6, 0.6, 0.6, 0.6]}
    found = paired_by_task(by_seed(ours), by_seed(other))
    assert found.seeds == (0, 1)
    assert found.difference.mean == pytest.approx(0.3)  # 0.1, 0.2, ..., 0.5
    assert found.difference.std == pytest.approx((0.1 / 4) ** 0.5)
    assert found.difference.n == 5
    assert found.over_seeds.mean == pytest.approx(0.3)  # 0.2 and 0.4
    assert found.over_seeds.std == pytest.approx(0.02**0.5)
    assert found.over_seeds.n == 2
    assert found.wilcoxon_p == pytest.approx(2 / 2**5)  # all five of one sign


@pytest.mark.parametrize(("other"), [{1: [0.5, 0.5]}, {0: [0.5]}])
def test_methods_without_a_common_seed_or_task_are_not_compared(other):
    assert paired_by_task(by_seed({0: [0.5, 0.5]}), by_seed(other)) is None


def test_where_the_seeds_of_one_are_not_known_all_seeds_are_averaged():
    found = paired_by_task(by_seed({0: [0.5, 0.7], 1: [0.7, 0.7]}), by_seed({NO_SEED: [0.5, 0.5]}))
    assert found.difference.mean == pytest.approx(0.15)
    assert found.over_seeds.n == 0
    assert found.seeds == (0, 1)


def test_equal_differences_are_ties_and_none_is_a_zero_however_they_round():
    ours = {0: [0.1, 0.6, 0.3, 0.9], 1: [0.2, 0.7, 0.5, 0.9], 2: [0.3, 0.8, 0.4, 0.9]}
    other = {0: [0.3, 0.3, 0.1, 1.0], 1: [0.2, 0.4, 0.2, 1.1], 2: [0.1, 0.5, 0.0, 1.2]}
    found = paired_by_task(by_seed(ours), by_seed(other))
    assert found.difference.mean == pytest.approx((0 + 0.3 + 0.3 - 0.2) / 4)
    assert (found.num_zeros, found.wilcoxon_p) == (1, 0.5)  # of ranks 2.5, 2.5, -1: 4 of 8 signs are as extreme


@pytest.mark.parametrize("differences", [np.arange(1.0, 21.0), np.ones(20), np.array([0.0, *np.ones(20)])])
def test_twenty_differences_of_one_sign_have_the_least_p_with_ties_and_zeros_too(differences):
    assert wilcoxon_p(differences) == 2 / 2**20


def test_p_is_that_of_all_choices_of_signs():
    rng = np.random.default_rng(0)
    for num_values in range(1, 12):
        differences = rng.integers(-4, 5, num_values).astype(float)
        nonzero = differences[differences != 0]
        ranks = stats.rankdata(np.abs(nonzero))
        centred = [abs(np.dot(signs, ranks)) for signs in itertools.product((-1, 1), repeat=len(ranks))]
        expected = np.mean(np.array(centred) >= abs(np.dot(np.sign(nonzero), ranks)))
        assert wilcoxon_p(differences) == expected
        without_ties = rng.normal(size=num_values)
        assert wilcoxon_p(without_ties) == pytest.approx(stats.wilcoxon(without_ties, method="exact").pvalue)


def test_holm_worked_by_hand():
    assert holm(pd.Series([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(pd.Series([0.8, 0.9])).tolist() == [1.0, 1.0]
    assert holm(pd.Series([], dtype=float)).empty


def test_rank_correlation_leaves_out_the_diagonal_and_what_is_not_known():
    nan = float("nan")
    ours, published = [[9, 1, 2], [3, 9, 4], [5, nan, 9]], [[0, 50, 40], [30, 0, 20], [10, 99, 0]]
    pairs = off_diagonal(pd.DataFrame(ours), pd.DataFrame(published))
    assert len(pairs) == 5
    assert rank_correlation(pairs) == pytest.approx(-1.0)
