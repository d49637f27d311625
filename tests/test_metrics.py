"""Values worked by hand; R[i, j] is the accuracy on task j after round i."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from utils.metrics import (
    average_accuracy,
    backward_transfer,
    compute_metrics,
    forgetting,
    forgetting_chaudhry,
    learning_accuracy,
)

NAN = math.nan
# Task 0 falls from 0.9 to 0.7; task 1 rises from 0.6 to 0.8 and falls to 0.75; task 2 arrives last with 0.5.
R = np.array([[0.9, NAN, NAN], [0.8, 0.6, NAN], [0.7, 0.75, 0.5]])
FOUR = np.array([[0.5, NAN, NAN, NAN], [0.9, 0.4, NAN, NAN], [0.7, 0.8, 0.6, NAN], [0.8, 0.7, 0.9, 1.0]])
SQUARES = st.integers(1, 6).flatmap(lambda size: arrays(float, (size, size), elements=st.floats(0, 1)))


def test_average_accuracy_is_the_mean_of_the_last_row():
    assert average_accuracy(R) == pytest.approx((0.7 + 0.75 + 0.5) / 3)


def test_learning_accuracy_is_the_mean_of_the_diagonal():
    assert learning_accuracy(R) == pytest.approx((0.9 + 0.6 + 0.5) / 3)


def test_forgetting_counts_all_tasks_and_the_last_round():
    assert forgetting(R) == pytest.approx((0.2 + 0.0 + 0.0) / 3)
    assert forgetting(FOUR) == pytest.approx((0.1 + 0.1 + 0.0 + 0.0) / 4)


def test_forgetting_of_chaudhry_leaves_out_the_last_task_and_the_last_round():
    assert forgetting_chaudhry(R) == pytest.approx((0.2 - 0.15) / 2)
    assert forgetting_chaudhry(FOUR) == pytest.approx((0.1 + 0.1 - 0.3) / 3)


def test_backward_transfer_is_the_change_since_arrival():
    assert backward_transfer(R) == pytest.approx((-0.2 + 0.15) / 2)
    assert backward_transfer(FOUR) == pytest.approx((0.3 + 0.3 + 0.3) / 3)


def test_one_task_has_no_past_to_forget():
    one = np.array([[0.5]])
    assert forgetting(one) == 0
    assert forgetting_chaudhry(one) is None
    assert backward_transfer(one) is None


@pytest.mark.parametrize("metric", [learning_accuracy, forgetting, forgetting_chaudhry, backward_transfer])
def test_metrics_of_arrival_need_a_square(metric):
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        metric(R[:2])


@settings(deadline=None)
@given(SQUARES, st.floats(0, 1))
def test_what_lies_before_a_tasks_arrival_is_not_read(accuracy, other):
    changed = np.where(np.triu(np.ones_like(accuracy), k=1), other, accuracy)
    assert compute_metrics(changed, continual=True) == compute_metrics(accuracy, continual=True)


@settings(deadline=None)
@given(SQUARES)
def test_forgetting_is_never_negative_and_covers_what_backward_transfer_loses(accuracy):
    assert 0 <= forgetting(accuracy) <= 1
    if len(accuracy) > 1:
        share = (len(accuracy) - 1) / len(accuracy)
        assert forgetting(accuracy) >= -backward_transfer(accuracy) * share - 1e-12


def test_without_arrivals_only_the_average_has_a_meaning():
    summary = compute_metrics(np.array([[0.5, 0.5], [0.7, 0.9], [0.8, 0.6]]), continual=False)
    assert summary.pop("average_accuracy") == pytest.approx(0.7)
    assert summary == {}
