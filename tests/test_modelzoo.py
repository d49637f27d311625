"""The method: what is drawn, what a learner sees, what the zoo's averages are."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from datasets.data import Augmentation, ImageData, cut_tasks
from modelzoo import (
    Round,
    RunningAverage,
    arrivals,
    boosting_weights,
    draw_tasks,
    grow_zoo,
    learner_examples,
    new_learner,
    new_training,
)
from tests.make_data import named_by
from tests.small_runs import FOUR_TASKS, class_images, digest, settings
from utils.seeding import generator

QUICK = hypothesis_settings(deadline=None, max_examples=50)
LOSSES = st.lists(st.floats(0, 20), min_size=1, max_size=12)


def make_tasks(classes=FOUR_TASKS, *, per_class=6, augmentation=None, seed=0):
    """Tasks on images that ``class_images`` makes; class c has ``per_class`` training images, or the c-th of a list."""
    num_classes = 1 + max(class_id for task in classes for class_id in task)
    counts = [per_class] * num_classes if isinstance(per_class, int) else per_class
    parts = [torch.from_numpy(class_images(c, counts[c] + 5, seed=seed)) for c in range(num_classes)]
    data = ImageData(
        torch.cat([part[5:] for part in parts]),
        torch.repeat_interleave(torch.tensor(counts)),
        torch.cat([part[:5] for part in parts]),
        torch.repeat_interleave(torch.full((num_classes,), 5)),
        tuple(f"class {c}" for c in range(num_classes)),
    )
    names = [f"task {task_id}" for task_id in range(len(classes))]
    return cut_tasks(
        data, classes, names=names, augmentation=augmentation or Augmentation(), samples=None, named=named_by(0)
    )


def grown(tasks, chosen, averages=None):
    """The rounds of a zoo that was grown to the end."""
    events = grow_zoo(tasks, chosen, {} if averages is None else averages)
    return [event for event in events if isinstance(event, Round)]


def records(tasks, chosen):
    return [event.record for event in grown(tasks, chosen)]


def weights_digest(learner):
    return digest(learner.state_dict().items())


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


@pytest.mark.parametrize("count", [1, 2, 3])
def test_draws_come_as_often_as_sequential_sampling_says(count):
    losses = {0: 0.2, 1: 1.5, 2: 0.7, 3: 1.0}
    chosen = settings(continual=False, tasks_per_round=count)
    num_draws = 4000
    seen = np.zeros(4)
    for i in range(num_draws):
        seen[draw_tasks(1, chosen, losses, generator(0, "test", i)).tasks] += 1
    expected = exact_inclusion(boosting_weights(list(losses.values())), count)
    tolerance = 5 * np.sqrt(expected * (1 - expected) / num_draws) + 1e-9  # five standard deviations
    assert (np.abs(seen / num_draws - expected) < tolerance).all()


def test_naive_draws_are_uniform():
    losses = {0: 0.01, 1: 5.0, 2: 1.0, 3: 1.0}
    chosen = settings(continual=False, tasks_per_round=1, naive=True)
    draws = [draw_tasks(1, chosen, losses, generator(0, "test", i)) for i in range(4000)]
    seen = np.bincount([draw.tasks[0] for draw in draws], minlength=4) / 4000
    assert np.abs(seen - 0.25).max() < 5 * math.sqrt(0.25 * 0.75 / 4000)
    assert draws[0].weights == {0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}


@QUICK
@given(st.integers(1, 8), st.integers(0, 7), st.data())
def test_a_continual_draw_has_the_new_task_and_b_minus_one_past_tasks(tasks_per_round, round_id, data):
    eight = tuple((2 * i, 2 * i + 1) for i in range(8))
    chosen = settings(eight, tasks_per_round=tasks_per_round)
    losses = {i: data.draw(st.floats(0, 20)) for i in range(round_id)}
    draw = draw_tasks(round_id, chosen, losses, generator(data.draw(st.integers(0, 99)), "test"))
    assert round_id in draw.tasks
    assert len(draw.tasks) == min(tasks_per_round, round_id + 1)
    assert draw.tasks == sorted(set(draw.tasks))
    assert max(draw.tasks) == round_id
    assert list(draw.weights) == (list(range(round_id)) if len(draw.tasks) > 1 else [])


@QUICK
@given(st.integers(1, 4), st.integers(0, 9), st.integers(0, 99))
def test_a_multi_task_draw_has_b_of_all_tasks(tasks_per_round, round_id, seed):
    chosen = settings(continual=False, tasks_per_round=tasks_per_round)
    draw = draw_tasks(round_id, chosen, dict.fromkeys(range(4), 1.0), generator(seed, "test"))
    assert len(set(draw.tasks)) == tasks_per_round
    assert set(draw.tasks) <= set(range(4))
    assert list(draw.weights) == [0, 1, 2, 3]


def test_the_weights_of_a_round_come_from_past_tasks_alone():
    events = grown(make_tasks(), settings(tasks_per_round=2))
    for before, event in itertools.pairwise(events):
        losses = [before.record["train_loss"][str(past)] for past in range(event.record["round"])]
        expected = dict(zip(map(str, range(len(losses))), boosting_weights(losses), strict=True))
        assert event.record["weights"] == pytest.approx(expected)
    assert events[0].record["weights"] == {}


def test_a_first_multi_task_round_weighs_tasks_by_the_uniform_guess():
    tasks = make_tasks(((0, 1), (2, 3, 4)))
    chosen = settings(((0, 1), (2, 3, 4)), continual=False, tasks_per_round=1)
    losses = arrivals(0, tasks, {}, chosen)
    assert losses == pytest.approx({0: math.log(2), 1: math.log(3)})


# ---- the modes


def test_a_continual_zoo_grows_as_in_the_published_figure():
    five = tuple((2 * i, 2 * i + 1) for i in range(5))
    rounds = records(make_tasks(five), settings(five, tasks_per_round=3))
    assert [len(record["tasks"]) for record in rounds] == [1, 2, 3, 3, 3]
    assert [list(record["test_accuracy"]) for record in rounds] == [
        [str(task_id) for task_id in range(round_id + 1)] for round_id in range(5)
    ]


def test_isolated_trains_each_task_alone():
    rounds = records(make_tasks(), settings(tasks_per_round=1))
    assert [record["tasks"] for record in rounds] == [[0], [1], [2], [3]]
    assert all(record["weights"] == {} for record in rounds)


def test_multi_head_is_one_learner_of_all_tasks():
    (only,) = grown(make_tasks(), settings(continual=False, tasks_per_round=4, num_rounds=1))
    assert only.record["tasks"] == [0, 1, 2, 3]
    assert only.learner.num_classes == (2, 2, 2, 2)


def test_all_tasks_a_round_draws_all_that_have_arrived():
    rounds = records(make_tasks(), settings(tasks_per_round=4))
    assert [record["tasks"] for record in rounds] == [list(range(round_id + 1)) for round_id in range(4)]


def test_multi_task_mode_knows_all_tasks_from_the_start():
    rounds = records(make_tasks(), settings(continual=False, tasks_per_round=2, num_rounds=5))
    assert len(rounds) == 5
    assert all(len(record["tasks"]) == 2 and len(record["weights"]) == 4 for record in rounds)
    untouched = set("0123") - set(map(str, rounds[0]["tasks"]))
    for task_id in untouched:
        assert rounds[0]["test_accuracy"][task_id] == 0.5
        assert rounds[0]["test_loss"][task_id] == pytest.approx(math.log(2))


def test_warm_start_gives_the_first_learner_all_tasks_and_no_other():
    rounds = records(make_tasks(), settings(continual=False, tasks_per_round=1, num_rounds=3, warm_start=True))
    assert [len(record["tasks"]) for record in rounds] == [4, 1, 1]
    assert rounds[0]["weights"] == {}
    assert len(rounds[1]["weights"]) == 4


def test_fewer_rounds_are_the_first_ones():
    tasks = make_tasks()
    assert records(tasks, settings(num_rounds=2)) == records(tasks, settings())[:2]


@pytest.mark.parametrize("continual", [True, False])
def test_tasks_of_two_three_and_ten_classes_grow_together(continual):
    classes = ((0, 1), (2, 3, 4), tuple(range(5, 15)))
    rounds = grown(make_tasks(classes, per_class=6), settings(classes, continual=continual))
    assert all(event.learner.heads.out_features == sum(event.learner.num_classes) for event in rounds)
    assert rounds[-1].record["tasks"] == [0, 1, 2]
    assert all(math.isfinite(loss) for event in rounds for loss in event.record["test_loss"].values())


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
    events = [
        event for event in grow_zoo([*tasks[:2], NotYet(), NotYet()], settings(num_rounds=2), {}) if event is not None
    ]
    assert sum(isinstance(event, Round) for event in events) == 2


def test_the_past_does_not_depend_on_the_number_of_tasks_to_come():
    three = grown(make_tasks(FOUR_TASKS[:3]), settings(FOUR_TASKS[:3], tasks_per_round=2))
    four = grown(make_tasks(), settings(tasks_per_round=2))
    assert [event.record for event in three] == [event.record for event in four[:3]]


# ---- averages


def recomputed(events, tasks, task_id, part):
    """Mean loss and accuracy of the weighted average of the saved learners' probabilities, from scratch."""
    split = getattr(tasks[task_id], part)
    total, weight = 0.0, 0.0
    for event in events:
        if task_id in event.record["tasks"]:
            head = event.record["tasks"].index(task_id)
            vote = event.votes[task_id]
            total = total + vote * event.learner.probabilities(split.images[split.rows], head).double()
            weight += vote
    probabilities = total / weight
    likelihood = probabilities[torch.arange(len(split)), split.labels].clamp(min=1e-12)
    return float(-likelihood.log().mean()), float((probabilities.argmax(dim=1) == split.labels).double().mean())


@pytest.mark.parametrize("chosen", [settings(), settings(continual=False, num_rounds=6)], ids=["continual", "multi"])
def test_running_averages_equal_those_recomputed_from_the_learners(chosen):
    tasks = make_tasks()
    events = grown(tasks, chosen)
    learned = {task_id for event in events for task_id in event.record["tasks"]}
    for task_id, part in itertools.product(learned, ("train", "test")):
        loss, accuracy = recomputed(events, tasks, task_id, part)
        last = events[-1].record
        assert last[f"{part}_loss"][str(task_id)] == pytest.approx(loss, abs=1e-5)
        assert last[f"{part}_accuracy"][str(task_id)] == accuracy


def test_a_task_without_a_learner_is_predicted_uniformly():
    task = make_tasks(((0, 1, 2),))[0]
    average = RunningAverage.of(task)
    assert average.loss_and_accuracy("test", task.test) == pytest.approx((math.log(3), 1 / 3))


def test_the_average_of_two_learners_worked_by_hand():
    task = make_tasks(((0, 1),), per_class=1)[0]
    average = RunningAverage.of(task)
    test = torch.full((10, 2), 0.5)
    average.add(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), test, weight=1.0)
    average.add(torch.tensor([[0.3, 0.7], [0.2, 0.8]]), test, weight=3.0)
    # example 0, label 0: (0.9 + 3 * 0.3) / 4 = 0.45, wrong; example 1, label 1: (0.2 + 3 * 0.8) / 4 = 0.65, right
    loss, accuracy = average.loss_and_accuracy("train", task.train)
    assert loss == pytest.approx(-(math.log(0.45) + math.log(0.65)) / 2)
    assert accuracy == 0.5


def test_an_impossible_label_costs_a_finite_loss():
    task = make_tasks(((0, 1),), per_class=1)[0]
    average = RunningAverage.of(task)
    average.add(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.ones(10, 2), weight=1.0)
    loss, _ = average.loss_and_accuracy("train", task.train)
    assert loss == pytest.approx(-math.log(1e-12) / 2)


# ---- limited replay


def test_weights_and_losses_of_past_tasks_are_over_what_may_still_be_used():
    tasks, averages = make_tasks(per_class=10), {}
    chosen = settings(replay_frac=0.3)
    events = grown(tasks, chosen, averages)
    assert [len(averages[task_id].rows) for task_id in range(4)] == [6, 6, 6, 20]  # 3 of 10 a class; the last is new
    record = events[-1].record
    for task_id in range(3):
        task = tasks[task_id]
        kept = averages[task_id].rows
        subset = replace(task.train, rows=task.train.rows[kept], labels=task.train.labels[kept])
        on_subset = [*tasks]
        on_subset[task_id] = replace(task, train=subset)
        loss, accuracy = recomputed(events, on_subset, task_id, "train")
        assert record["train_loss"][str(task_id)] == pytest.approx(loss, abs=1e-5)
        assert record["train_accuracy"][str(task_id)] == pytest.approx(accuracy)
        whole_loss, _ = recomputed(events, tasks, task_id, "train")
        assert abs(whole_loss - loss) > 1e-6


def test_a_new_task_is_measured_on_all_of_its_examples():
    tasks = make_tasks(per_class=10)
    first = grown(tasks, settings(replay_frac=0.3))[0]
    loss, accuracy = recomputed([first], tasks, 0, "train")
    assert first.record["train_loss"]["0"] == pytest.approx(loss, abs=1e-5)
    assert first.record["train_accuracy"]["0"] == accuracy


def test_the_replay_subset_of_a_task_is_drawn_once():
    tasks, averages, kept = make_tasks(per_class=10), {}, []
    for event in grow_zoo(tasks, settings(replay_frac=0.3), averages):
        if isinstance(event, Round) and event.record["round"] >= 1:
            kept.append(averages[0].rows.tolist())
    assert len(kept) == 3
    assert kept[0] == kept[1] == kept[2]


def test_a_tasks_first_learner_weighs_the_inverse_of_the_fraction():
    events = grown(make_tasks(per_class=10), settings(replay_frac=0.25, tasks_per_round=4))
    for event in events:
        new = event.record["round"]
        assert event.votes == {task_id: 4.0 if task_id == new else 1.0 for task_id in event.record["tasks"]}


def test_without_limits_all_learners_weigh_the_same():
    assert all(set(event.votes.values()) == {1.0} for event in grown(make_tasks(per_class=10), settings()))


def seen_by_learner(round_id, chosen_tasks, tasks, averages, chosen):
    """How often a learner sees each training image in an epoch, by task."""
    pool = learner_examples(round_id, chosen_tasks, tasks, averages, chosen)
    counts = torch.bincount(pool.rows, minlength=len(tasks[0].train.images))
    return {task_id: counts[tasks[task_id].train.rows] for task_id in chosen_tasks}


def test_replayed_tasks_together_weigh_as_much_as_the_new_one():
    tasks, averages = make_tasks(per_class=10), {}
    chosen = settings(replay_frac=0.2, tasks_per_round=3)
    for round_id in range(3):
        arrivals(round_id, tasks, averages, chosen)
    # S_p has 2 of 10 a class: 4 of 20; r = 20 / (4 + 4) = 2.5: each twice, half of them, one a class, once more
    seen = seen_by_learner(2, [0, 1, 2], tasks, averages, chosen)
    for task_id in (0, 1):
        kept = averages[task_id].rows
        assert sorted(seen[task_id][kept].tolist()) == [2, 2, 3, 3]
        for label in (0, 1):
            of_label = tasks[task_id].train.labels[kept] == label
            assert sorted(seen[task_id][kept][of_label].tolist()) == [2, 3]
        assert int(seen[task_id].sum()) == 10
    assert seen[2].tolist() == [1] * 20


def test_replayed_tasks_are_not_thinned_where_they_weigh_more():
    classes = ((0, 1), (2, 3), (4, 5))
    tasks, averages = make_tasks(classes, per_class=[20, 20, 20, 20, 3, 3]), {}
    chosen = settings(classes, replay_frac=0.5)
    for round_id in range(3):
        arrivals(round_id, tasks, averages, chosen)
    seen = seen_by_learner(2, [0, 1, 2], tasks, averages, chosen)  # r = max(1, 6 / (20 + 20)) = 1
    assert [int(counts.sum()) for counts in seen.values()] == [20, 20, 6]


def test_full_replay_uses_every_example_once():
    tasks, averages = make_tasks(per_class=10), {}
    for round_id in range(3):
        arrivals(round_id, tasks, averages, settings())
    seen = seen_by_learner(2, [0, 2], tasks, averages, settings())
    assert all(set(counts.tolist()) == {1} for counts in seen.values())


@pytest.mark.parametrize("tasks_per_round", [1, 3])
def test_no_replay_never_draws_a_past_task(tasks_per_round):
    rounds = grown(make_tasks(per_class=10), settings(replay_frac=0.0, tasks_per_round=tasks_per_round))
    assert [event.record["tasks"] for event in rounds] == [[0], [1], [2], [3]]
    assert all(set(event.votes.values()) == {1.0} for event in rounds)
    assert rounds[-1].record["train_loss"] == {
        "0": None,
        "1": None,
        "2": None,
        "3": pytest.approx(rounds[-1].record["train_loss"]["3"]),
    }
    assert all(accuracy is not None for accuracy in rounds[-1].record["test_accuracy"].values())


def test_examples_that_may_not_be_used_again_are_not_looked_at():
    tasks, chosen = make_tasks(per_class=10), settings(replay_frac=0.2, tasks_per_round=2)
    expected = records(tasks, chosen)
    got, averages = [], {}
    for event in grow_zoo(tasks, chosen, averages):
        if isinstance(event, Round):
            got.append(event.record)
            past = event.record["round"]
            if past + 1 < len(tasks):
                arrivals(past + 1, tasks, averages, chosen)  # what the next round begins with; it changes nothing twice
                gone = torch.ones(len(tasks[past].train), dtype=torch.bool)
                gone[averages[past].rows] = False
                tasks[past].train.images[tasks[past].train.rows[gone]] = 0
    assert got == expected


# ---- randomness


def test_the_same_seed_gives_the_same_zoo_and_another_seed_another():
    tasks = make_tasks()
    first, again, other = (grown(tasks, settings(seed=seed)) for seed in (0, 0, 1))
    assert [event.record for event in first] == [event.record for event in again]
    assert [weights_digest(event.learner) for event in first] == [weights_digest(event.learner) for event in again]
    assert [event.record for event in first] != [event.record for event in other]


def test_nothing_is_drawn_from_ambient_randomness():
    tasks = make_tasks()
    chosen = settings(recipe={"model": "wrn10_1", "dropout": 0.3}, num_rounds=2)
    torch.manual_seed(1)
    first = records(tasks, chosen)
    torch.manual_seed(2)
    assert records(tasks, chosen) == first


def test_learners_of_other_rounds_start_from_other_weights():
    tasks = make_tasks()
    first, again, second = (new_learner(round_id, [0], tasks, settings()) for round_id in (0, 0, 1))
    assert weights_digest(first) == weights_digest(again)
    assert weights_digest(first) != weights_digest(second)


def test_the_draw_of_a_round_does_not_depend_on_the_network():
    tasks = make_tasks()
    conv, wrn = (
        records(tasks, settings(naive=True, tasks_per_round=2, recipe={"model": m})) for m in ("conv", "wrn10_1")
    )
    assert [record["tasks"] for record in conv] == [record["tasks"] for record in wrn]


def test_draws_come_from_the_seed():
    tasks = make_tasks(per_class=1)
    chosen = settings(continual=False, naive=True, tasks_per_round=1, num_rounds=6)
    draws = [[r["tasks"] for r in records(tasks, chosen.model_copy(update={"seed": seed}))] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


# ---- the recipe reaches the training


@pytest.mark.parametrize(
    ("epochs", "augment", "augmented"), [(1, "auto", False), (2, "auto", True), (2, "none", False), (1, "none", False)]
)
def test_augmentation_is_for_several_epochs(epochs, augment, augmented):
    tasks = make_tasks(augmentation=Augmentation(crop_padding=4))
    chosen = settings(epochs=epochs, recipe={"augment": augment})
    averages = {0: RunningAverage.of(tasks[0])}
    pool = learner_examples(0, [0], tasks, averages, chosen)
    plain = {image.numpy().tobytes() for image in tasks[0].train.images[tasks[0].train.rows]}
    images = [image.numpy().tobytes() for batch in pool.epoch(0) for image in batch.images]
    assert (not plain.issuperset(images)) == augmented


def test_predictions_are_made_on_plain_images():
    tasks = make_tasks(augmentation=Augmentation(crop_padding=4))
    (event,) = grown(tasks, settings(epochs=2, num_rounds=1))
    loss, _ = recomputed([event], tasks, 0, "train")
    assert event.record["train_loss"]["0"] == pytest.approx(loss, abs=1e-5)


def test_a_learner_is_trained_by_the_recipe():
    tasks = make_tasks()
    recipe = {"lr": 0.03, "momentum": 0.8, "nesterov": False, "l2_reg": 0.002, "schedule": "constant", "batch": 5}
    chosen = settings(recipe=recipe, epochs=3)
    learner = new_learner(0, [0], tasks, chosen)
    examples = learner_examples(0, [0], tasks, {0: RunningAverage.of(tasks[0])}, chosen)
    training = new_training(0, learner, examples, chosen, compiled=False)
    optimizer = training.optimizer
    assert (training.rate, optimizer.momentum, optimizer.nesterov, optimizer.l2_reg) == (0.03, 0.8, False, 0.002)
    assert len(optimizer.parameters) == len(list(learner.parameters()))
    assert len(training) == 3 * math.ceil(12 / 5)
    assert len(list(training.steps())) == len(training)


def test_a_caller_may_stop_at_any_event_and_go_on():
    tasks, chosen = make_tasks(), settings(num_rounds=2)
    whole = grown(tasks, chosen)
    num_events = sum(1 for _ in grow_zoo(tasks, chosen, {}))
    assert num_events == (2 + 2 + 1) + (3 + 4 + 1)  # minibatches, predictions on training and test images, round
    for stop_at in range(1, num_events):
        averages, done, state = {}, [], None
        for event in itertools.islice(grow_zoo(tasks, chosen, averages), stop_at):
            state = None if isinstance(event, Round) else event.training.state_dict()
            done += [event] if isinstance(event, Round) else []
        rest = grow_zoo(tasks, chosen, averages, first_round=len(done), training_state=state)
        done += [event for event in rest if isinstance(event, Round)]
        assert [event.record for event in done] == [event.record for event in whole]
        assert weights_digest(done[-1].learner) == weights_digest(whole[-1].learner)
