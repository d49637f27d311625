"""The method: limited replay, randomness, what of the recipe reaches the training, going on, the plan."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch

from datasets.data import Augmentation, Minibatches
from modelzoo import ModelZoo
from tests.small_runs import settings
from tests.tiny_zoo import at_round, grown, make_tasks, recomputed, records, weights_digest
from utils.errors import UserError
from utils.rounds import Round

# ---- limited replay


def test_weights_and_losses_of_past_tasks_are_over_what_may_still_be_used():
    tasks = make_tasks(per_class=10)
    zoo = ModelZoo(tasks, settings(replay_frac=0.3))
    events = [event for event in zoo.grow() if isinstance(event, Round)]
    assert [len(zoo.allowed[task_id]) for task_id in range(4)] == [6, 6, 6, 20]  # 3 of 10 a class; the last is new
    record = events[-1].record
    for task_id in range(3):
        task, kept = tasks[task_id], zoo.allowed[task_id]
        subset = replace(task.train, rows=task.train.rows[kept], labels=task.train.labels[kept])
        on_subset = [*tasks]
        on_subset[task_id] = replace(task, train=subset)
        loss, accuracy = recomputed(events, on_subset, task_id, "train")
        assert record.train_loss[task_id] == pytest.approx(loss, abs=1e-5)
        assert record.train_accuracy[task_id] == pytest.approx(accuracy)
        whole_loss, _ = recomputed(events, tasks, task_id, "train")
        assert abs(whole_loss - loss) > 1e-6


def test_a_new_task_is_measured_on_all_of_its_examples():
    tasks = make_tasks(per_class=10)
    first = grown(tasks, settings(replay_frac=0.3))[0]
    loss, accuracy = recomputed([first], tasks, 0, "train")
    assert first.record.train_loss[0] == pytest.approx(loss, abs=1e-5)
    assert first.record.train_accuracy[0] == accuracy


def test_the_replay_subset_of_a_task_is_drawn_once():
    zoo, kept = ModelZoo(make_tasks(per_class=10), settings(replay_frac=0.3)), []
    for event in zoo.grow():
        if isinstance(event, Round) and event.record.round >= 1:
            kept.append(zoo.allowed[0].tolist())
    assert len(kept) == 3
    assert kept[0] == kept[1] == kept[2]


def test_a_tasks_first_learner_weighs_the_inverse_of_the_fraction():
    events = grown(make_tasks(per_class=10), settings(replay_frac=0.25, tasks_per_round=4))
    for event in events:
        new = event.record.round
        assert event.votes == {task_id: 4.0 if task_id == new else 1.0 for task_id in event.record.tasks}


def test_without_limits_all_learners_weigh_the_same():
    assert all(set(event.votes.values()) == {1.0} for event in grown(make_tasks(per_class=10), settings()))


def seen_by_learner(zoo, chosen):
    """How often a learner sees each training example of a task in an epoch, by task."""
    return {
        task_id: torch.bincount(rows, minlength=len(zoo.tasks[task_id].train))
        for task_id, rows in zip(chosen, zoo.examples(chosen), strict=True)
    }


def test_replayed_tasks_together_weigh_as_much_as_the_new_one():
    tasks = make_tasks(per_class=10)
    zoo = at_round(2, tasks, settings(replay_frac=0.2, tasks_per_round=3))
    # S_p has 2 of 10 a class: 4 of 20; r = 20 / (4 + 4) = 2.5: of each class one twice, one three times
    seen = seen_by_learner(zoo, [0, 1, 2])
    for task_id in (0, 1):
        kept = zoo.allowed[task_id]
        assert sorted(seen[task_id][kept].tolist()) == [2, 2, 3, 3]
        for label in (0, 1):
            of_label = tasks[task_id].train.labels[kept] == label
            assert sorted(seen[task_id][kept][of_label].tolist()) == [2, 3]
        assert int(seen[task_id].sum()) == 10
    assert seen[2].tolist() == [1] * 20


def test_replayed_tasks_are_not_thinned_where_they_weigh_more():
    classes = ((0, 1), (2, 3), (4, 5))
    tasks = make_tasks(classes, per_class=[20, 20, 20, 20, 3, 3])
    zoo = at_round(2, tasks, settings(classes, replay_frac=0.5))
    seen = seen_by_learner(zoo, [0, 1, 2])  # r = max(1, 6 / (20 + 20)) = 1
    assert [int(counts.sum()) for counts in seen.values()] == [20, 20, 6]


def test_full_replay_uses_every_example_once():
    seen = seen_by_learner(at_round(2, make_tasks(per_class=10), settings()), [0, 2])
    assert all(set(counts.tolist()) == {1} for counts in seen.values())


@pytest.mark.parametrize("tasks_per_round", [1, 3])
def test_no_replay_never_draws_a_past_task(tasks_per_round):
    rounds = grown(make_tasks(per_class=10), settings(replay_frac=0.0, tasks_per_round=tasks_per_round))
    assert [event.record.tasks for event in rounds] == [[0], [1], [2], [3]]
    assert all(set(event.votes.values()) == {1.0} for event in rounds)
    assert list(rounds[-1].record.train_loss.values())[:3] == [None] * 3
    assert rounds[-1].record.train_loss[3] is not None
    assert all(accuracy is not None for accuracy in rounds[-1].record.accuracy.values())


def test_examples_that_may_not_be_used_again_are_not_looked_at():
    tasks, chosen = make_tasks(per_class=10), settings(replay_frac=0.2, tasks_per_round=2)
    expected = records(tasks, chosen)
    got, zoo = [], ModelZoo(tasks, chosen)
    for event in zoo.grow():
        if isinstance(event, Round):
            got.append(event.record)
            past = event.record.round
            if past + 1 < len(tasks):
                zoo.meet_tasks()  # what the next round begins with; it changes nothing twice
                gone = torch.ones(len(tasks[past].train), dtype=torch.bool)
                gone[zoo.allowed[past]] = False
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
    first, again, second = (at_round(round_id, tasks, settings()).build_learner([0]) for round_id in (0, 0, 1))
    assert weights_digest(first) == weights_digest(again)
    assert weights_digest(first) != weights_digest(second)


def test_the_draw_of_a_round_does_not_depend_on_the_network():
    tasks = make_tasks()
    conv, wrn = (
        records(tasks, settings(naive=True, tasks_per_round=2, recipe={"model": m})) for m in ("conv", "wrn10_1")
    )
    assert [record.tasks for record in conv] == [record.tasks for record in wrn]


def test_draws_come_from_the_seed():
    tasks = make_tasks(per_class=1)
    chosen = settings(continual=False, naive=True, tasks_per_round=1, num_rounds=6)
    draws = [[r.tasks for r in records(tasks, chosen.model_copy(update={"seed": seed}))] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


# ---- the recipe reaches the training


@pytest.mark.parametrize(
    ("epochs", "augment", "augmented"), [(1, "auto", False), (2, "auto", True), (2, "none", False), (1, "none", False)]
)
def test_augmentation_is_for_several_epochs(epochs, augment, augmented):
    tasks = make_tasks(augmentation=Augmentation(crop_padding=4))
    chosen = settings(epochs=epochs, recipe={"augment": augment})
    pool = Minibatches(tasks[:1], at_round(0, tasks, chosen).examples([0]), chosen, 0)
    plain = {image.numpy().tobytes() for image in tasks[0].train.images[tasks[0].train.rows]}
    images = [image.numpy().tobytes() for batch in pool.epoch(0) for image in batch.images]
    assert (not plain.issuperset(images)) == augmented


def test_predictions_are_made_on_plain_images():
    tasks = make_tasks(augmentation=Augmentation(crop_padding=4))
    (event,) = grown(tasks, settings(epochs=2, num_rounds=1))
    loss, _ = recomputed([event], tasks, 0, "train")
    assert event.record.train_loss[0] == pytest.approx(loss, abs=1e-5)


def test_a_learner_is_trained_by_the_recipe():
    tasks = make_tasks()
    recipe = {"lr": 0.03, "momentum": 0.8, "nesterov": False, "l2_reg": 0.002, "schedule": "constant", "batch": 5}
    chosen = settings(recipe=recipe, epochs=3)
    training = at_round(0, tasks, chosen).begin_training([0])
    optimizer = training.optimizer
    assert (training.rate, optimizer.recipe) == (0.03, chosen.recipe)
    assert len(optimizer.parameters) == len(list(training.network.parameters()))
    assert len(training) == 3 * math.ceil(12 / 5)
    assert len(list(training.steps())) == len(training)


def test_a_caller_may_stop_at_any_event_and_go_on():
    tasks, chosen = make_tasks(), settings(num_rounds=2, replay_frac=0.5)
    whole = grown(tasks, chosen)
    events = [event if isinstance(event, str) else "round" for event in ModelZoo(tasks, chosen).grow()]
    rounds = [["training"] * 2 + ["prediction"] * 2, ["training"] * 3 + ["prediction"] * 4]
    assert events == [*rounds[0], "round", *rounds[1], "round"]
    for stop_at in range(1, len(events)):
        begun, done = ModelZoo(tasks, chosen), []
        for event in itertools.islice(begun.grow(), stop_at):
            done += [event] if isinstance(event, Round) else []
        later = ModelZoo(tasks, chosen)
        later.load_state_dict(copy.deepcopy(begun.state_dict()))
        done += [event for event in later.grow() if isinstance(event, Round)]
        assert [event.record for event in done] == [event.record for event in whole]
        assert weights_digest(done[-1].learner) == weights_digest(whole[-1].learner)


@pytest.mark.parametrize("rate", [1e30, 1e18])
def test_a_learning_rate_far_too_large_is_a_mistake_of_the_users(rate):
    chosen = settings(recipe={"lr": rate, "schedule": "constant"})
    with pytest.raises(UserError, match=r"^round 0, epoch 0: the training loss is not finite"):
        grown(make_tasks(per_class=4), chosen)


# ---- the plan


PLANS = [
    settings(tasks_per_round=2),
    settings(tasks_per_round=9, num_rounds=3),
    settings(tasks_per_round=1),
    settings(continual=False, tasks_per_round=3, num_rounds=5),
    settings(continual=False, tasks_per_round=1, num_rounds=3, warm_start=True),
    settings(replay_frac=0.3, tasks_per_round=3),
    settings(replay_frac=0.0, tasks_per_round=3),
]


@pytest.mark.parametrize("chosen", PLANS, ids=lambda chosen: chosen.run_name)
def test_the_plan_is_what_the_run_does(chosen):
    tasks = make_tasks(per_class=10)
    zoo, done = ModelZoo(tasks, chosen), []
    for event in zoo.grow():
        if event == "training" and zoo.training.num_done == 1:
            num_minibatches = len(zoo.training)
        if isinstance(event, Round):
            done.append((len(event.record.tasks), num_minibatches))
    plan = list(ModelZoo(tasks, chosen).plan())
    batch = chosen.recipe.batch
    assert [(size.num_tasks, math.ceil(size.num_train / batch)) for size in plan] == done
