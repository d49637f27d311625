"""Means, intervals and paired differences, worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from utils.report.results import NO_SEED
from utils.report.statistics import OVER_BOTH, difference, estimate


def test_mean_std_and_interval_worked_by_hand():
    found = estimate([0.4, 0.5, 0.6])
    assert (found.mean, found.std, found.n) == pytest.approx((0.5, 0.1, 3))
    assert found.high - found.mean == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-6)  # t(2) at 97.5 %
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


@pytest.mark.parametrize("values", [[], [0.7], [0.7, 0.9]])
def test_fewer_than_three_seeds_have_no_interval(values):
    found = estimate(values)
    assert np.isnan([found.low, found.high]).all()
    assert found.n == len(values)


def test_an_interval_of_accuracies_ends_at_0_and_1():
    assert estimate([0.1, 0.9, 0.5], least=0.0)[2:4] == (0.0, 1.0)
    assert estimate([-0.9, 0.9, 0.0])[2:4] == (-1.0, 1.0)


def by_seed(finals, tasks="abcde"):
    """The accuracies at the end, a row a seed, a column a task."""
    return pd.DataFrame.from_dict(finals, orient="index", columns=list(tasks)[: len(next(iter(finals.values())))])


# Two-way, S = 3 seeds and T = 4 tasks; each row's and column's mean, and all squares, by hand.
DIFFERENCES = {0: [0.01, 0.02, 0.03, 0.06], 1: [0.02, 0.03, 0.04, 0.07], 2: [0.03, 0.04, 0.05, 0.04]}


def test_the_interval_is_for_new_seeds_and_new_tasks():
    base = {seed: [0.5] * 4 for seed in DIFFERENCES}
    found = difference(by_seed({s: [0.5 + d for d in row] for s, row in DIFFERENCES.items()}), by_seed(base))
    # Means: seeds 0.03 0.04 0.04, tasks 0.02 0.03 0.04 0.17/3, all 0.11/3.
    of_seed, of_task, mean = [0.03, 0.04, 0.04], [0.02, 0.03, 0.04, 0.17 / 3], 0.11 / 3
    ms_seed = 4 * sum((m - mean) ** 2 for m in of_seed) / 2
    ms_task = 3 * sum((m - mean) ** 2 for m in of_task) / 3
    rows = DIFFERENCES.values()
    rest = sum((d - of_seed[s] - of_task[t] + mean) ** 2 for s, row in enumerate(rows) for t, d in enumerate(row)) / 6
    total = ms_seed + ms_task - rest
    freedom = total**2 / (ms_seed**2 / 2 + ms_task**2 / 3 + rest**2 / 6)
    half = stats.t.ppf(0.975, freedom) * (total / 12) ** 0.5
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - half, mean + half))
    assert (found.over, found.num_tasks, found.seeds) == (OVER_BOTH, 4, (0, 1, 2))
    assert found.removed == pytest.approx(mean / 0.5)


def test_the_variance_is_at_least_that_of_the_residual():
    values = np.array([[0.01, -0.01], [-0.01, 0.01], [0.0, 0.0]])  # no effect of a seed or of a task
    found = difference(by_seed(dict(enumerate(0.5 + values))), by_seed({seed: [0.5, 0.5] for seed in range(3)}))
    half = stats.t.ppf(0.975, 2) * ((values**2).sum() / 2 / 6) ** 0.5  # (3 - 1)(2 - 1) degrees of freedom
    assert (found.low, found.high) == pytest.approx((-half, half))


@pytest.mark.parametrize(("seeds", "few"), [((0,), "one seed"), ((0, 1), "two seeds")])
def test_with_fewer_than_three_seeds_the_tasks_are_the_sample_and_it_says_so(seeds, few):
    ours = {seed: [0.6, 0.7, 0.8, 0.9, 1.0] for seed in (*seeds, 7)}
    found = difference(by_seed(ours), by_seed({seed: [0.5] * 5 for seed in seeds}))
    half = stats.t.ppf(0.975, 4) * np.std([0.1, 0.2, 0.3, 0.4, 0.5], ddof=1) / 5**0.5
    assert (found.mean, found.high) == pytest.approx((0.3, 0.3 + half))
    assert (found.over, found.seeds) == (f"{few}: over tasks", seeds)


def test_tasks_are_paired_by_their_names_and_not_by_their_places():
    reverse = by_seed({0: [0.5, 0.6, 0.7]})[["c", "b", "a"]]
    found = difference(by_seed({0: [0.6, 0.7, 0.8]}), reverse)
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))


def test_without_a_common_seed_there_is_no_difference():
    assert difference(by_seed({0: [0.5, 0.5]}), by_seed({1: [0.5, 0.5]})) is None


def test_where_the_seeds_of_one_are_not_known_all_seeds_are_averaged():
    found = difference(by_seed({0: [0.6, 0.7], 1: [0.8, 0.9]}), by_seed({NO_SEED: [0.5, 0.5]}))
    assert (found.mean, found.seeds, found.over) == (pytest.approx(0.25), (0, 1), "seeds not known: over tasks")


def test_one_task_has_an_interval_with_no_number_of_seeds():
    for num_seeds in (1, 3):
        ours, other = ({seed: [value + 0.01 * seed] for seed in range(num_seeds)} for value in (0.6, 0.5))
        assert np.isnan(difference(by_seed(ours), by_seed(other)).low)


def test_a_perfect_method_leaves_no_error_to_remove():
    assert np.isnan(difference(by_seed({0: [1.0, 1.0]}), by_seed({0: [1.0, 1.0]})).removed)
