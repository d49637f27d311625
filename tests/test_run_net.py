"""Training a learner, against SGD and its schedule written out, and taken up again at any minibatch."""

import copy
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from net.build_net import build_net
from tests.small_runs import class_images, digest, settings
from utils.device import choose_device, describe_device, is_out_of_memory, resolve_precision
from utils.errors import UserError
from utils.run_net import Minibatch, Training

RECIPE = {"lr": 0.05, "momentum": 0.9, "nesterov": True, "l2_reg": 0.05, "schedule": "cosine", "precision": "fp32"}


class Batches:
    """Two heads' examples in an order of the epoch's own; the last minibatch is smaller."""

    def __init__(self, num_per_class=5, batch=6):
        self.images = torch.cat([torch.from_numpy(class_images(c, num_per_class)) for c in range(5)])
        self.heads = torch.repeat_interleave(torch.tensor([0, 0, 1, 1, 1]), num_per_class)
        self.labels = torch.repeat_interleave(torch.tensor([0, 1, 0, 1, 2]), num_per_class)
        self.batch = batch

    def __len__(self):
        return math.ceil(len(self.labels) / self.batch)

    def epoch(self, epoch, first):
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(self.batch)[first:]:
            yield Minibatch(self.images[rows], self.heads[rows], self.labels[rows], rows, rows)


@pytest.fixture
def in_float64():
    """Training amplifies a last digit that CPUs round differently: in float64 even that stays out of sight."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(model="conv", *, dropout=0.0):
    return build_net(model, image_shape=(1, 22, 22), num_classes=[2, 3], dropout=dropout, seed=3)


def training(net, batches=None, *, num_epochs=3, seed=7, state=None, **changes):
    batches = batches or Batches()
    recipe = settings(recipe=RECIPE | changes).recipe
    return Training(net, batches, recipe=recipe, num_epochs=num_epochs, seed=seed, name="round 4", state=state)


def weights_digest(net):
    return digest(net.state_dict().items())


def trained_plainly(net, batches, *, num_epochs, lr, momentum, nesterov, l2_reg, schedule, precision):
    """The recipe written out: contiguous images, one parameter after the other; gives the losses."""
    net = net.train()
    velocity = {name: torch.zeros_like(parameter) for name, parameter in net.named_parameters()}
    losses, step, num_steps = [], 0, num_epochs * len(batches)
    for epoch in range(num_epochs):
        for images, heads, labels, *_ in batches.epoch(epoch, 0):
            pixels = images.permute(0, 3, 1, 2).contiguous().to(torch.get_default_dtype()) / 255
            scores = net.heads(net.backbone((pixels - 0.5) / 0.25))
            own = [row[:2] if head == 0 else row[2:] for row, head in zip(scores, heads.tolist(), strict=True)]
            each = [F.cross_entropy(row[None], label[None]) for row, label in zip(own, labels, strict=True)]
            loss = torch.stack(each).mean()
            net.zero_grad()
            loss.backward()
            rate = lr * (1 + math.cos(math.pi * step / num_steps)) / 2 if schedule == "cosine" else lr
            with torch.no_grad():
                for name, parameter in net.named_parameters():
                    gradient = parameter.grad + l2_reg * parameter
                    velocity[name] = momentum * velocity[name] + gradient
                    parameter -= rate * (gradient + momentum * velocity[name] if nesterov else velocity[name])
            losses.append(loss.item())
            step += 1
    return losses


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nesterov": False},
        {"schedule": "constant"},
        {"momentum": 0.0, "nesterov": False},
        {"l2_reg": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["conv", "wrn10_1"])
def test_training_equals_the_recipe_written_out(in_float64, model, changes):
    net = network(model)
    plain = copy.deepcopy(net).to(memory_format=torch.contiguous_format)
    batches = Batches()
    learner = training(net, batches, **changes)
    assert list(learner.steps()) == list(range(1, 16))
    losses = trained_plainly(plain, batches, num_epochs=3, **RECIPE | changes)
    assert sum(learner.epoch_loss) * len(learner.examples) == pytest.approx(sum(losses), rel=1e-9)
    for (name, ours), theirs in zip(net.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-7, atol=1e-9), name


def test_training_learns():
    net = network()
    first = sum(F.cross_entropy(net(*batch[:2]), batch[2]).item() for batch in Batches().epoch(0, 0))
    for _ in training(net, num_epochs=20, lr=0.01).steps():
        pass
    last = sum(F.cross_entropy(net(*batch[:2]), batch[2]).item() for batch in Batches().epoch(0, 0))
    assert last < first / 4


def test_the_schedule_reaches_zero_after_the_last_minibatch_and_not_before():
    learner = training(network())
    rates = []
    for _ in learner.steps():
        rates.append(learner.rate)
    assert rates == pytest.approx([0.05 * (1 + math.cos(math.pi * step / 15)) / 2 for step in range(1, 16)], abs=1e-9)
    assert min(rates[:-1]) > 0


@pytest.mark.parametrize("model", ["conv", "wrn10_1"])
def test_training_taken_up_again_at_any_minibatch_is_the_same_to_the_bit(model):
    net = network(model, dropout=0.3)
    begun = copy.deepcopy(net)
    learner = training(net, num_epochs=2)
    states = [copy.deepcopy(learner.state_dict())]
    for _ in learner.steps():
        states.append(copy.deepcopy(learner.state_dict()))
    assert len(states) == 11
    for num_done, state in enumerate(states):
        again_net = copy.deepcopy(begun)
        torch.manual_seed(num_done)  # what the process drew before does not matter
        again = training(again_net, num_epochs=2, state=state)
        assert again.num_done == num_done
        assert list(again.steps()) == list(range(num_done + 1, 11))
        assert weights_digest(again_net) == weights_digest(net)
        assert torch.equal(again.loss_sum, learner.loss_sum)


def test_dropout_draws_from_its_own_seed():
    results = []
    for seed in (7, 7, 8):
        net = network("wrn10_1", dropout=0.3)
        torch.manual_seed(seed * 100 + len(results))
        list(training(net, num_epochs=1, seed=seed).steps())
        results.append(weights_digest(net))
    assert results[0] == results[1] != results[2]


def test_trainings_side_by_side_and_other_draws_change_nothing_and_are_not_changed():
    alone = [network("wrn10_1", dropout=0.3) for _ in range(2)]
    for seed, net in enumerate(alone):
        list(training(net, num_epochs=1, seed=seed).steps())
    torch.manual_seed(0)
    expected = torch.rand(5)
    torch.manual_seed(0)
    together = [network("wrn10_1", dropout=0.3) for _ in range(2)]
    trainings = [training(net, num_epochs=1, seed=seed) for seed, net in enumerate(together)]
    drawn = [torch.rand(1) for _ in zip(*(each.steps() for each in trainings), strict=True)]
    assert [weights_digest(net) for net in together] == [weights_digest(net) for net in alone]
    assert torch.equal(torch.cat(drawn), expected)


@pytest.mark.parametrize(("first", "then"), [("fp32", "fp16"), ("fp16", "fp32"), ("bf16", "fp16")])
def test_a_training_goes_on_with_another_precision(first, then):
    learner = training(network(), num_epochs=2, precision=first)
    for _ in itertools.islice(learner.steps(), 3):
        pass
    again = training(learner.network, num_epochs=2, precision=then, state=copy.deepcopy(learner.state_dict()))
    assert list(again.steps()) == list(range(4, 11))
    assert len(again.epoch_loss) == 2


def test_a_state_of_another_kind_of_device_leaves_its_random_numbers_behind():
    learner = training(network(), num_epochs=2)
    state = learner.state_dict()
    state["random"] = {"cpu": state["random"]["cpu"], "cuda": torch.zeros(16, dtype=torch.uint8)}
    again = training(network(), num_epochs=2, state=state)
    assert again.random.states.keys() == {"cpu"}


@pytest.mark.parametrize("model", ["conv", "wrn10_1"])
def test_a_loss_that_is_not_finite_raises_and_names_learner_epoch_and_remedy(model):
    learner = training(network(model), lr=1e30)
    with pytest.raises(UserError, match=r"^round 4, epoch \d: the training loss is not finite.*smaller --lr"):
        list(learner.steps())


@pytest.mark.parametrize("spoil", [lambda learner: learner.loss_sum, lambda learner: learner.network.heads.weight])
def test_a_state_that_is_not_finite_is_not_given_away(spoil):
    learner = training(network())
    next(learner.steps())
    with torch.no_grad():
        spoil(learner).add_(math.inf)
    with pytest.raises(UserError, match="not finite"):
        learner.state_dict()


def test_bf16_on_the_cpu_is_near_fp32_and_leaves_weights_in_fp32():
    nets = network(), network()
    for net, precision in zip(nets, ("fp32", "bf16"), strict=True):
        list(training(net, Batches(batch=13), num_epochs=1, precision=precision, lr=0.01).steps())
    weights = [net.heads.weight for net in nets]
    assert weights[1].dtype == torch.float32
    assert not torch.equal(*weights)
    assert torch.allclose(*weights, atol=0.01)


def test_fp16_scales_its_loss_and_skips_a_step_that_overflows():
    net = network()
    learner = training(net, precision="fp16", lr=0.01)
    before = weights_digest(net)
    scales, moved = [], []
    for _ in learner.steps():
        scales.append(learner.scaler.get_scale())
        moved.append(weights_digest(net) != before)
        before = weights_digest(net)
        if len(scales) == 3:
            learner.scaler.update(2.0**40)  # gradients overflow
    assert scales[0] == 2.0**16
    assert scales[3] == 2.0**39
    assert moved[:3] == [True] * 3
    assert torch.isfinite(net.heads.weight).all()


def test_fp16_that_overflows_in_its_first_step_begins_with_the_second():
    net = network()
    learner = training(net, precision="fp16", lr=0.01)
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = [parameter.clone() for parameter in net.parameters()]
    steps = learner.steps()
    next(steps)
    assert all(map(torch.equal, net.parameters(), before))
    assert not any(velocity.any() for velocity in learner.optimizer.velocities)
    learner.scaler.update(2.0**10)
    next(steps)
    assert not any(map(torch.equal, net.parameters(), before))
    assert max(float(velocity.abs().max()) for velocity in learner.optimizer.velocities) < 100


def test_fp32_is_fp32_on_a_gpu_and_tf32_is_asked_for(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)  # the switches are there without a GPU
    seen = []

    def note():
        places = (torch.backends.cudnn, torch.backends.cuda.matmul)
        seen.append(({place.allow_tf32 for place in places}, torch.backends.cudnn.deterministic))

    default = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    for precision, expected in (("fp32", False), ("tf32", True), ("bf16", False)):
        net = network()
        net.backbone.register_forward_hook(lambda *_: note())
        next(training(net, precision=precision).steps())
        assert seen[-1] == ({expected}, True)
        net.probabilities(Batches().images, 0)
        assert seen[-1] == ({False}, True)
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == default
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert [resolve_precision(gpu, name) for name in ("auto", "fp32", "tf32")] == ["fp16", "fp32", "tf32"]
    assert [resolve_precision(cpu, name) for name in ("auto", "fp32", "tf32")] == ["fp32"] * 3


def test_auto_precision_on_the_cpu_is_fp32():
    nets = network(), network()
    for net, precision in zip(nets, ("fp32", "auto"), strict=True):
        list(training(net, precision=precision).steps())
    assert weights_digest(nets[0]) == weights_digest(nets[1])


def test_the_length_of_an_epoch_counts_the_last_smaller_minibatch():
    learner = training(network(), Batches(num_per_class=5, batch=6), num_epochs=2)
    assert len(learner) == 2 * 5
    assert len(list(learner.steps())) == 10


@pytest.mark.parametrize("name", ["cuda:99", "quantum", "", "cpu:1", "mps:7"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(UserError, match=f"--device: expected .*got '{name}'"):
        choose_device(name)


def test_a_failed_allocation_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
    for raised in (
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] data. DefaultCPUAllocator: not enough memory"),
    ):
        assert is_out_of_memory(raised)
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_a_gpu_that_is_not_there_is_refused_with_the_reason_of_torch():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises((RuntimeError, AssertionError)) as of_torch:
        torch.empty(0, device="cuda")
    with pytest.raises(UserError) as refused:
        choose_device("cuda")
    assert str(of_torch.value)[:30] in str(refused.value)


def test_auto_and_the_name_of_the_gpu_are_the_same_device(monkeypatch):
    gpu = torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(torch, "empty", lambda *_, device: SimpleNamespace(device=gpu))
    words = {describe_device(choose_device(name)) for name in ("auto", "cuda", "cuda:0")}
    assert words == {"cuda (NVIDIA H100)"}


def test_the_cpu_is_there():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
