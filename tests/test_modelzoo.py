"""The method: what is drawn, what a learner sees, what the zoo's averages are."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from modelzoo import boosting_weights
from net.average import Average
from tests.small_runs import FOUR_TASKS, settings
from tests.tiny_zoo import at_round, grown, make_tasks, recomputed, records, weights_digest

QUICK = hypothesis_settings(deadline=None, max_examples=50)
LOSSES = st.lists(st.floats(0, 20), min_size=1, max_size=12)


# ---- weights


def test_weights_worked_by_hand():
    # mean 2: (1-2)/2 = -0.5, (2-2)/2 = 0, (3-2)/2 = 0.5
    assert boosting_weights([1.0, 2.0, 3.0]) == pytest.approx([math.exp(-0.5), 1.0, math.exp(0.5)])


def test_weights_are_clipped_above():
    # 19 losses of 0 and one of 20, mean 1: exp(19) is cut to 1000, exp(-1) stays
    assert boosting_weights([0.0] * 19 + [20.0]) == pytest.approx([math.exp(-1)] * 19 + [1000.0])


def test_weights_are_one_where_nothing_is_lost():
    assert boosting_weights([0.0, 0.0, 0.0]).tolist() == [1.0, 1.0, 1.0]


@QUICK
@given(LOSSES)
def test_weights_are_the_formula_and_never_out_of_range(losses):
    weights = boosting_weights(losses)
    assert ((weights >= 1e-4) & (weights <= 1e3)).all()
    mean = np.mean(losses)
    if mean > 0:
        expected = [min(max(math.exp(min((loss - mean) / mean, 700)), 1e-4), 1e3) for loss in losses]
        assert weights == pytest.approx(expected)
    assert (np.diff(weights[np.argsort(losses)]) >= 0).all()  # the worse, the heavier


# ---- draws


def exact_inclusion(weights, count):
    """Probability of each task to be among ``count`` drawn one after the other without replacement."""
    included = np.zeros(len(weights))
    for order in itertools.permutations(range(len(weights)), count):
        probability, left = 1.0, sum(weights)
        for task in order:
            probability *= weights[task] / left
            left -= weights[task]
        included[list(order)] += probability
    return included


EIGHT_TASKS = tuple((2 * i, 2 * i + 1) for i in range(8))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_draws_come_as_often_as_sequential_sampling_says(count):
    losses = {0: 0.2, 1: 1.5, 2: 0.7, 3: 1.0}
    chosen = settings(continual=False, tasks_per_round=count, num_rounds=4000)
    zoo = at_round(0, make_tasks(per_class=1), chosen, losses=losses)
    num_draws = 4000
    seen = np.zeros(4)
    for zoo.round_id in range(num_draws):
        seen[zoo.draw_tasks()[0]] += 1
    expected = exact_inclusion(boosting_weights(list(losses.values())), count)
    tolerance = 5 * np.sqrt(expected * (1 - expected) / num_draws) + 1e-9  # five standard deviations
    assert (np.abs(seen / num_draws - expected) < tolerance).all()


def test_naive_draws_are_uniform():
    chosen = settings(continual=False, tasks_per_round=1, naive=True, num_rounds=4000)
    zoo = at_round(0, make_tasks(per_class=1), chosen, losses={0: 0.01, 1: 5.0, 2: 1.0, 3: 1.0})
    seen = np.zeros(4)
    for zoo.round_id in range(4000):
        drawn, weights = zoo.draw_tasks()
        seen[drawn] += 1
        assert weights == {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}
    assert np.abs(seen / 4000 - 0.25).max() < 5 * math.sqrt(0.25 * 0.75 / 4000)


@QUICK
@given(st.integers(1, 9), st.integers(0, 7), st.data())
def test_a_continual_draw_has_the_new_task_and_b_minus_one_past_tasks(tasks_per_round, round_id, data):
    losses = {i: data.draw(st.floats(0, 20)) for i in range(round_id)}
    chosen = settings(EIGHT_TASKS, tasks_per_round=tasks_per_round, seed=data.draw(st.integers(0, 99)))
    drawn, weights = at_round(round_id, make_tasks(EIGHT_TASKS, per_class=1), chosen, losses=losses).draw_tasks()
    assert len(drawn) == min(tasks_per_round, round_id + 1)
    assert drawn == sorted(set(drawn))
    assert max(drawn) == round_id
    assert list(weights) == (list(range(round_id)) if len(drawn) > 1 else [])


@QUICK
@given(st.integers(1, 6), st.integers(0, 9), st.integers(0, 99))
def test_a_multi_task_draw_has_b_of_all_tasks(tasks_per_round, round_id, seed):
    chosen = settings(continual=False, tasks_per_round=tasks_per_round, num_rounds=10, seed=seed)
    drawn, weights = at_round(round_id, make_tasks(per_class=1), chosen).draw_tasks()
    assert len(set(drawn)) == min(tasks_per_round, 4)
    assert set(drawn) <= set(range(4))
    assert list(weights) == [0, 1, 2, 3]


def test_the_weights_of_a_round_come_from_past_tasks_alone():
    events = grown(make_tasks(), settings(tasks_per_round=2))
    for before, event in itertools.pairwise(events):
        losses = [before.record.train_loss[past] for past in range(event.record.round)]
        expected = dict(zip(range(len(losses)), boosting_weights(losses), strict=True))
        assert event.record.weights == pytest.approx(expected)
    assert events[0].record.weights == {}


def test_a_first_multi_task_round_weighs_tasks_by_the_uniform_guess():
    classes = ((0, 1), (2, 3, 4))
    zoo = at_round(0, make_tasks(classes), settings(classes, continual=False, tasks_per_round=1))
    assert zoo.losses([0, 1]) == pytest.approx([math.log(2), math.log(3)])


# ---- the modes


def test_a_continual_zoo_grows_as_in_the_published_figure():
    five = tuple((2 * i, 2 * i + 1) for i in range(5))
    rounds = records(make_tasks(five), settings(five, tasks_per_round=3))
    assert [len(record.tasks) for record in rounds] == [1, 2, 3, 3, 3]
    assert [list(record.accuracy) for record in rounds] == [[*range(round_id + 1)] for round_id in range(5)]


def test_isolated_trains_each_task_alone():
    rounds = records(make_tasks(), settings(tasks_per_round=1))
    assert [record.tasks for record in rounds] == [[0], [1], [2], [3]]
    assert all(record.weights == {} for record in rounds)


def test_multi_head_is_one_learner_of_all_tasks():
    (only,) = grown(make_tasks(), settings(continual=False, tasks_per_round=4, num_rounds=1))
    assert only.record.tasks == [0, 1, 2, 3]
    assert only.learner.num_classes == (2, 2, 2, 2)


def test_all_tasks_a_round_draws_all_that_have_arrived():
    rounds = records(make_tasks(), settings(tasks_per_round=4))
    assert [record.tasks for record in rounds] == [list(range(round_id + 1)) for round_id in range(4)]


def test_multi_task_mode_knows_all_tasks_from_the_start():
    rounds = records(make_tasks(), settings(continual=False, tasks_per_round=2, num_rounds=5))
    assert len(rounds) == 5
    assert all(len(record.tasks) == 2 and len(record.weights) == 4 for record in rounds)
    untouched = set(range(4)) - set(rounds[0].tasks)
    for task_id in untouched:
        assert rounds[0].accuracy[task_id] == 0.5
        assert rounds[0].loss[task_id] == pytest.approx(math.log(2))


def test_warm_start_gives_the_first_learner_all_tasks_and_no_other():
    rounds = records(make_tasks(), settings(continual=False, tasks_per_round=1, num_rounds=3, warm_start=True))
    assert [len(record.tasks) for record in rounds] == [4, 1, 1]
    assert rounds[0].weights == {}
    assert len(rounds[1].weights) == 4


def test_fewer_rounds_are_the_first_ones():
    tasks = make_tasks()
    assert records(tasks, settings(num_rounds=2)) == records(tasks, settings())[:2]


@pytest.mark.parametrize("continual", [True, False])
def test_tasks_of_two_three_and_ten_classes_grow_together(continual):
    classes = ((0, 1), (2, 3, 4), tuple(range(5, 15)))
    rounds = grown(make_tasks(classes, per_class=6), settings(classes, continual=continual))
    assert all(event.learner.heads.out_features == sum(event.learner.num_classes) for event in rounds)
    assert rounds[-1].record.tasks == [0, 1, 2]
    assert all(math.isfinite(loss) for event in rounds for loss in event.record.loss.values())


# ---- nothing is known of the future


def test_other_tasks_to_come_change_nothing_before():
    here = grown(make_tasks(), settings())
    other_classes = (*FOUR_TASKS[:2], (6, 5, 4))
    elsewhere = make_tasks(other_classes, per_class=[6, 6, 6, 6, 3, 7, 2])
    for task in elsewhere[2:]:
        task.train.images[task.train.rows] = 0
        task.test.images[task.test.rows] = 255
    there = grown(elsewhere, settings(other_classes, tasks_per_round=3))
    for one, other in zip(here[:2], there[:2], strict=True):
        assert one.record == other.record
        assert weights_digest(one.learner) == weights_digest(other.learner)
    assert here[2].record != there[2].record


def test_a_task_is_not_touched_before_it_arrives():
    class NotYet:
        def __getattr__(self, name):
            raise AssertionError(f"looked at {name} of a task that has not arrived")

    tasks = make_tasks()
    assert len(grown([*tasks[:2], NotYet(), NotYet()], settings(num_rounds=2))) == 2


def test_the_past_does_not_depend_on_the_number_of_tasks_to_come():
    three = grown(make_tasks(FOUR_TASKS[:3]), settings(FOUR_TASKS[:3], tasks_per_round=2))
    four = grown(make_tasks(), settings(tasks_per_round=2))
    assert [event.record for event in three] == [event.record for event in four[:3]]


# ---- averages


@pytest.mark.parametrize("chosen", [settings(), settings(continual=False, num_rounds=6)], ids=["continual", "multi"])
def test_running_averages_equal_those_recomputed_from_the_learners(chosen):
    tasks = make_tasks()
    events = grown(tasks, chosen)
    learned = {task_id for event in events for task_id in event.record.tasks}
    last = events[-1].record
    found = {"train": (last.train_loss, last.train_accuracy), "test": (last.loss, last.accuracy)}
    for task_id, part in itertools.product(learned, found):
        losses, accuracies = found[part]
        loss, accuracy = recomputed(events, tasks, task_id, part)
        assert losses[task_id] == pytest.approx(loss, abs=1e-5)
        assert accuracies[task_id] == accuracy


def test_a_task_without_a_learner_is_predicted_uniformly():
    average = Average.empty(torch.tensor([0, 1, 2]), 3)
    assert (average.loss(), average.accuracy()) == pytest.approx((math.log(3), 1 / 3))


def test_the_average_of_two_learners_worked_by_hand():
    average = Average.empty(torch.tensor([0, 1]), 2)
    average.add(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), 1.0)
    average.add(torch.tensor([[0.3, 0.7], [0.2, 0.8]]), 3.0)
    # example 0, label 0: (0.9 + 3 * 0.3) / 4 = 0.45, wrong; example 1, label 1: (0.2 + 3 * 0.8) / 4 = 0.65, right
    assert average.loss() == pytest.approx(-(math.log(0.45) + math.log(0.65)) / 2)
    assert average.accuracy() == 0.5
    assert average.keep(torch.tensor([1])).loss() == pytest.approx(-math.log(0.65))


def test_an_impossible_label_costs_a_finite_loss():
    average = Average.empty(torch.tensor([0, 1]), 2)
    average.add(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), 1.0)
    assert average.loss() == pytest.approx(-math.log(1e-12) / 2)
