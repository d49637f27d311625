"""Other methods on one network: each update worked by hand, what is remembered, and stopping at any event."""

import copy
import itertools
import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from baselines import ExperienceReplay, penalty, project
from datasets.data import Augmentation
from modelzoo import METHOD_CLASSES
from net.build_net import build_net
from net.multihead import normalise
from tests.small_runs import FOUR_TASKS, digest, settings
from tests.tiny_zoo import make_tasks, weights_digest
from utils.rounds import Round
from utils.run_net import Minibatch, Training, cross_entropy
from utils.seeding import child_seed

BASELINES = [name for name in METHOD_CLASSES if name != "modelzoo"]
PLAIN = {"lr": 0.1, "l2_reg": 0.0, "momentum": 0.0, "nesterov": False, "schedule": "constant"}


def chosen(method, tasks=FOUR_TASKS, *, recipe=None, **changes):
    return settings(tasks, tasks_per_round=5, method=method, recipe=PLAIN | (recipe or {}), **changes)


class TwoDraws(ExperienceReplay):
    """Two minibatches of the memory in each step; of the second one example counts."""

    def loss(self, training, batch):
        loss = super().loss(training, batch)
        if len(self.past):
            loss += cross_entropy(training, Minibatch(*(part[:1] for part in self.sample_memory(training))))
        return loss


def learner(method, *, tasks=None, classes=FOUR_TASKS, **changes):
    method_class = (METHOD_CLASSES | {"two draws": TwoDraws})[method]
    return method_class(tasks or make_tasks(classes), chosen(method_class.name, classes, **changes))


def rounds(method):
    return [event for event in method.grow() if isinstance(event, Round)]


@pytest.fixture
def in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ---- one step on two parameters


class TwoParameters(nn.Module):
    """The scores of an image of one pixel of the value x: (a x, b x)."""

    def __init__(self, a, b):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([a, b]))

    def forward(self, images, heads):
        return images.flatten(1).to(self.theta.dtype) * self.theta


class Same:
    """Examples that always give the same minibatch."""

    def __init__(self, minibatch):
        self.minibatch = minibatch

    def __len__(self):
        return 1

    def epoch(self, epoch, first=0):
        return [self.minibatch]


def one_pixel(x, label):
    zero = torch.zeros(1, dtype=torch.int64)
    return Minibatch(torch.full((1, 1, 1, 1), x, dtype=torch.uint8), zero, torch.tensor([label]), zero, zero)


def gradient_by_hand(a, b, x, label):
    """Of -log softmax((a x, b x))[label]."""
    p = 1 / (1 + math.exp((b - a) * x))  # of label 0
    return [(p - (label == 0)) * x, (1 - p - (label == 1)) * x]


def step(method, network, minibatch):
    """The parameters after one step of the method."""
    list(method.train_network(network, Same(minibatch)).steps())
    return network.theta.tolist()


START = 0.5, -0.25
NEW = one_pixel(2, label=1)


def descended(*gradients, lr=0.1):
    """A step from the start against a sum of gradients."""
    return pytest.approx([value - lr * sum(parts) for value, *parts in zip(START, *gradients, strict=True)])


@pytest.mark.usefixtures("in_float64")
def test_a_step_of_sgd_worked_by_hand():
    # p = 1 / (1 + e^-1.5) = 0.817574; the gradient is (1.635149, -1.635149).
    assert gradient_by_hand(*START, 2, 1) == pytest.approx([1.635149, -1.635149], abs=1e-6)
    assert step(learner("sgd"), TwoParameters(*START), NEW) == descended(gradient_by_hand(*START, 2, 1))


@pytest.mark.usefixtures("in_float64")
def test_a_step_of_ewc_worked_by_hand():
    method = learner("ewc", ewc_weight=2.0)
    method.network, method.fisher = TwoParameters(0.25, 0.75), [torch.tensor([3.0, 0.5])]
    # 2 w F (theta - theta*): 2 x 2 x 3 x 0.25 = 3, and 2 x 2 x 0.5 x (-1) = -2.
    assert step(method, TwoParameters(*START), NEW) == descended(gradient_by_hand(*START, 2, 1), [3.0, -2.0])
    loss = method.loss(method.train_network(TwoParameters(*START), Same(NEW)), NEW)
    assert loss.item() == pytest.approx(-math.log(1 - 0.8175745) + 2 * (3 * 0.0625 + 0.5 * 1), abs=1e-6)


@pytest.mark.usefixtures("in_float64")
def test_ewc_clips_the_gradient_at_a_norm_of_100():
    steep = one_pixel(255, label=1)  # its gradient is 255 (1, -1)
    assert step(learner("ewc"), TwoParameters(*START), steep) == descended([100 / 2**0.5, -100 / 2**0.5])
    assert step(learner("sgd"), TwoParameters(*START), steep) == descended([255, -255])


@pytest.mark.usefixtures("in_float64")
def test_a_step_of_er_worked_by_hand():
    method = learner("er")
    method.past = Same(one_pixel(3, label=0))
    both = gradient_by_hand(*START, 2, 1), gradient_by_hand(*START, 3, 0)
    assert step(method, TwoParameters(*START), NEW) == descended(*both)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("label", [0, 1], ids=["against", "with"])
def test_a_step_of_agem_worked_by_hand(label):
    method = learner("agem")
    method.past = Same(one_pixel(3, label))
    g, r = gradient_by_hand(*START, 2, 1), gradient_by_hand(*START, 3, label)
    # Both gradients lie along (1, -1): against the reference nothing is left of a step, with it all.
    product = g[0] * r[0] + g[1] * r[1]
    assert (product < 0) == (label == 0)
    assert step(method, TwoParameters(*START), NEW) == (descended([0, 0]) if product < 0 else descended(g))


def test_a_projection_worked_by_hand():
    g, r = [torch.tensor([1.0]), torch.tensor([2.0])], [torch.tensor([1.0]), torch.tensor([-1.0])]
    project(g, r)  # g.r = -1, r.r = 2: (1, 2) + (1, -1) / 2
    assert torch.cat(g).tolist() == [1.5, 1.5]
    zero = [torch.zeros(1), torch.zeros(1)]
    project(g, zero)
    assert torch.cat(g).tolist() == [1.5, 1.5]


vectors = st.lists(st.integers(-1000, 1000), min_size=3, max_size=3)


@given(vectors, vectors)
def test_the_product_with_the_reference_is_never_negative_after_the_projection(g, r):
    g, r = (torch.tensor(values, dtype=torch.float64) for values in (g, r))
    before = g.clone()
    project([g], [r])
    assert float(g @ r) >= -1e-9 * float(before.norm() * r.norm())
    if before @ r >= 0:
        assert torch.equal(g, before)


def test_the_products_of_a_run_are_never_negative_and_some_would_have_been(monkeypatch):
    products = []

    def watched(gradient, reference):
        before, after = [], []
        for found in (before, after):
            found.append(sum(float((g * r).sum()) for g, r in zip(gradient, reference, strict=True)))
            if found is before:
                project(gradient, reference)
        products.append((before[0], after[0]))

    monkeypatch.setattr("baselines.project", watched)
    rounds(learner("agem", tasks=make_tasks(per_class=30)))
    assert any(before < -1e-3 for before, _ in products)
    assert all(after > -1e-5 for _, after in products)


# ---- EWC's importance


def test_the_penalty_is_zero_at_its_anchor_and_not_beside_it():
    anchor = build_net("conv", (1, 22, 22), [2], dropout=0.0, seed=0)
    network = build_net("conv", (1, 22, 22), [2, 3], dropout=0.0, seed=1)
    fisher = [torch.ones_like(parameter) for parameter in anchor.parameters()]
    assert penalty(network, anchor, fisher) > 1
    network.take_over(anchor)
    assert penalty(network, anchor, fisher) == 0
    with torch.no_grad():
        network.heads.weight[2:] += 7  # the new head's rows are free
        assert penalty(network, anchor, fisher) == 0
        network.heads.weight[0, 0] += 2
    assert penalty(network, anchor, fisher).item() == pytest.approx(4)


def test_importance_is_the_mean_over_tasks_of_squared_gradients():
    method = learner("ewc", classes=((0, 1), (2, 3, 4)))
    expected = None
    for event in method.grow():
        if isinstance(event, Round):
            net, t = event.learner.eval(), event.record.round
            net.zero_grad()
            train = method.tasks[t].train  # of fewer than 200 examples: all
            scores = net.heads(net.backbone(normalise(train.images[train.rows])))
            own = scores[:, :2] if t == 0 else scores[:, 2:]
            F.cross_entropy(own, train.labels).backward()
            squares = [parameter.grad.square() for parameter in net.parameters()]
            if t == 1:
                for square, before in zip(squares, expected, strict=True):
                    square[: len(before)] += before
                squares = [square / 2 for square in squares]
            expected = [square.clone() for square in squares]
            for got, wanted in zip(method.fisher, expected, strict=True):
                assert torch.allclose(got, wanted, rtol=1e-3, atol=1e-10)


# ---- what is remembered


@pytest.mark.parametrize("num_epochs", [1, 2])
def test_agem_remembers_the_newest_examples_of_each_class(num_epochs):
    method = learner("agem", memory=2, classes=((0, 1), (2, 3, 4)), epochs=num_epochs)
    stream = {}
    begin_training = method.begin_training

    def watched(heads):
        training = begin_training(heads)
        stream[method.round_id] = method.new.order(num_epochs - 1)
        return training

    method.begin_training = watched
    rounds(method)
    assert [len(positions) for positions in method.memory] == [4, 6]
    for t, positions in enumerate(method.memory):
        labels = method.tasks[t].train.labels
        for label in labels.unique():
            newest = [p for p in stream[t].tolist() if labels[p] == label][-2:]
            assert sorted(newest) == sorted(p for p in positions.tolist() if labels[p] == label)


def reservoir_of(method):
    """What the memory holds after all tasks, without training."""
    method.end_task(method.last_training())
    return [(t, position) for t, positions in enumerate(method.memory) for position in positions.tolist()]


def test_the_reservoir_holds_so_many_examples_a_class_and_never_one_twice():
    tasks = make_tasks(per_class=10)
    for memory in (1, 3):
        kept = reservoir_of(learner("er", tasks=tasks, memory=memory))
        assert len(kept) == len(set(kept)) == 8 * memory
    everything = reservoir_of(learner("er", tasks=tasks, memory=100))
    assert sorted(everything) == [(t, position) for t in range(4) for position in range(20)]


def test_the_reservoir_keeps_each_example_of_the_stream_with_the_same_probability():
    tasks = make_tasks(((0, 1), (2, 3)), per_class=6)
    times = Counter()
    for seed in range(600):
        times.update(reservoir_of(learner("er", tasks=tasks, classes=((0, 1), (2, 3)), seed=seed)))
    expected = [(t, position) for t in range(2) for position in range(12)]
    assert times.keys() == set(expected)
    assert chisquare([times[key] for key in expected]).pvalue > 0.001  # 4 of 24, 600 times: 100 each
    assert sum(times.values()) == 4 * 600


def test_a_dry_run_times_the_last_task_with_a_memory_and_a_plan_remembers_nothing():
    class Looks(ExperienceReplay):
        def remember(self):
            heads.append(len(self.training.network.num_classes))
            super().remember()

    heads, zoo = [], Looks(make_tasks(), chosen("er"))
    list(Looks(make_tasks(), chosen("er")).plan())
    assert heads == []
    assert next(zoo.last_training().steps()) == 1
    assert (heads, len(zoo.past.rows), len(zoo.network.num_classes)) == ([1, 2, 3], 8, 3)


@pytest.mark.parametrize("method", ["agem", "er"])
def test_what_is_recalled_are_past_examples_under_their_own_heads(method):
    tasks = make_tasks(per_class=10)
    zoo = learner(method, tasks=tasks, memory=3)
    recalled, *others = (zoo.sample_memory(training) for training in [zoo.last_training()] * 4)
    assert len({tuple(batch.places.tolist()) for batch in (recalled, *others)}) == 4
    assert len(recalled.images) == zoo.settings.recipe.batch
    known = {}
    for t, positions in enumerate(zoo.memory):
        for row, label in zip(tasks[t].train.rows[positions], tasks[t].train.labels[positions], strict=True):
            known[digest([("", tasks[t].train.images[row])])] = (t, int(label))
    rows = torch.cat([tasks[t].train.rows[positions] for t, positions in enumerate(zoo.memory)])
    assert torch.equal(rows[recalled.places], recalled.rows)
    for image, head, label, row in zip(*recalled[:4], strict=True):
        assert known[digest([("", image)])] == (int(head), int(label))
        assert torch.equal(image, tasks[0].train.images[row])  # the same images for all tasks


@pytest.mark.parametrize(("num_epochs", "plain"), [(1, True), (2, False)])
def test_recalled_images_are_augmented_as_new_ones_are(num_epochs, plain):
    tasks = make_tasks(augmentation=Augmentation(crop_padding=4))
    zoo = learner("er", tasks=tasks, epochs=num_epochs)
    images = zoo.sample_memory(zoo.last_training()).images
    originals = {digest([("", image)]) for image in tasks[0].train.images}
    assert ({digest([("", image)]) for image in images} <= originals) == plain


# ---- the whole of a run


@pytest.mark.usefixtures("in_float64")
def test_stable_sgd_is_the_plain_loop_with_a_rate_that_falls_by_task():
    method = learner("sgd", tasks=make_tasks(per_class=10), recipe={"lr_decay": 0.5, "batch": 6})
    network = None
    for event in method.grow():
        if isinstance(event, Round):
            t = event.record.round
            wide = build_net("conv", (1, 22, 22), [2] * (t + 1), dropout=0.0, seed=child_seed(0, "round", t, "init"))
            if network is not None:
                wide.take_over(network)
            network = wide.train()
            optimizer = torch.optim.SGD(network.parameters(), lr=0.1 * 0.5**t)
            for images, heads, labels, *_ in method.new.epoch(0):
                assert (heads == t).all()
                optimizer.zero_grad()
                F.cross_entropy(network(images, heads), labels).backward()
                optimizer.step()
            for mine, theirs in zip(network.parameters(), event.learner.parameters(), strict=True):
                assert torch.allclose(mine, theirs, atol=1e-9)


@pytest.mark.parametrize("method", BASELINES)
def test_each_method_learns_its_tasks_and_yields_what_a_zoo_yields(method):
    done = rounds(learner(method, tasks=make_tasks(per_class=30), recipe={"lr": 0.02}, epochs=3))
    assert [event.record.round for event in done] == [0, 1, 2, 3]
    assert [event.record.tasks for event in done] == [[0], [1], [2], [3]]
    assert [list(event.record.accuracy) for event in done] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]
    assert all(event.record.accuracy[event.record.round] > 0.8 for event in done)
    assert list(done[2].record.train_loss.values())[:2] == [None, None]
    assert done[2].votes == {0: 1.0, 1: 1.0, 2: 1.0}
    assert all(event.record.replaces for event in done)


def test_the_methods_differ():
    tasks = make_tasks(per_class=20)
    ends = {weights_digest(rounds(learner(method, tasks=tasks))[-1].learner) for method in BASELINES}
    assert len(ends) == 4


class Waits(TorchDispatchMode):
    """Notes operations that wait for a GPU to know a number or a size."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.nonzero,
            torch.ops.aten.equal,
        ):
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("method", METHOD_CLASSES)
def test_no_step_waits_for_the_device(method, precision, monkeypatch):
    plain_step, waits = Training._step, Waits()

    def watched(training, batch):
        with waits:
            plain_step(training, batch)

    monkeypatch.setattr(Training, "_step", watched)
    grown = rounds(learner(method, classes=FOUR_TASKS[:2], recipe={"model": "resnet18_2", "precision": precision}))
    assert (len(grown), waits.found) == (2, [])
    with waits:
        torch.ones(1).item()
    assert len(waits.found) == 1


@pytest.mark.parametrize("method", BASELINES)
def test_other_tasks_to_come_change_nothing_before(method):
    first, second = (make_tasks(classes, per_class=8) for classes in (FOUR_TASKS, ((0, 1), (2, 3), (6, 7), (4, 5))))
    ours, theirs = (rounds(learner(method, tasks=tasks)) for tasks in (first, second))
    for before, after in zip(ours[:2], theirs[:2], strict=True):
        assert before.record == after.record
        assert weights_digest(before.learner) == weights_digest(after.learner)


@pytest.mark.parametrize("method", [*BASELINES, "two draws"])
def test_a_caller_may_stop_at_any_event_and_go_on(method):
    classes = ((0, 1), (2, 3))
    options = {"tasks": make_tasks(classes), "classes": classes, "recipe": {"model": "resnet18_2", "dropout": 0.2}}
    whole = rounds(learner(method, **options))
    for stop_at in range(1, len(list(learner(method, **options).grow()))):
        begun, later = learner(method, **options), learner(method, **options)
        done = [event for event in itertools.islice(begun.grow(), stop_at) if isinstance(event, Round)]
        later.load_state_dict(copy.deepcopy(begun.state_dict()))
        assert later.network is None or not later.network.training  # as the loop leaves it
        done += rounds(later)
        assert [event.record for event in done] == [event.record for event in whole]
        assert weights_digest(done[-1].learner) == weights_digest(whole[-1].learner)


@pytest.mark.parametrize(
    ("method", "trained", "stored"),
    [("sgd", [12, 12, 12, 12], 0), ("agem", [12, 18, 24, 24], 6), ("er", [12, 24, 24, 24], 8)],
)
def test_images_of_the_memory_count_as_trained_on_and_as_stored(method, trained, stored):
    done = rounds(learner(method, recipe={"batch": 4}))  # three minibatches a task, and three of the memory
    assert [event.record.images_trained for event in done] == trained  # agem's first memory has two examples
    assert done[-1].record.images_stored == stored  # of past tasks: one a class, or the whole reservoir


@pytest.mark.parametrize("method", BASELINES)
def test_the_plan_is_what_the_run_does(method):
    plan = list(learner(method).plan())
    assert [size.num_train for size in plan] == [12] * 4
    assert [size.num_predicted for size in plan] == [22, 32, 42, 52]
