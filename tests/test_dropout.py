"""Dropout on a CPU: how often it drops, that it does so independently, its gradient, and that it can be repeated."""

import pytest
import torch

from net.build_net import build_net
from net.dropout import Dropout

MANY = 10**7


def mask_of(p, num=MANY, *, seed=0):
    torch.manual_seed(seed)
    return Dropout(p)(torch.ones(num))


@pytest.mark.parametrize("p", [0.2, 0.5, 0.013])
def test_the_share_of_zeros_is_the_probability_and_the_mean_is_kept(p):
    mask = mask_of(p)
    assert float((mask == 0).double().mean()) == pytest.approx(p, abs=4 * (p * (1 - p) / MANY) ** 0.5 + 2**-17)
    assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=2**-15)
    assert float(mask.double().mean()) == pytest.approx(1, abs=4 * (p / (1 - p) / MANY) ** 0.5)


@pytest.mark.parametrize("apart", [1, 2, 3, 4, 64])
def test_neighbours_are_dropped_independently(apart):
    dropped = (mask_of(0.2) == 0).double()
    both = float((dropped[apart:] * dropped[:-apart]).mean())
    assert both == pytest.approx(0.04, abs=4 * (0.04 * 0.96 / MANY) ** 0.5)
    for place in range(4):  # of the four numbers that are drawn at once
        assert float(dropped[place::4].mean()) == pytest.approx(0.2, abs=4 * (0.16 * 4 / MANY) ** 0.5)


@pytest.mark.parametrize("p", [1e-9, 1 - 1e-9])
def test_a_probability_next_to_0_or_1_is_rounded_to_a_level(p):
    kept = float((mask_of(p) > 0).double().mean())
    assert kept == pytest.approx(1 - p, abs=2**-15)
    assert p > 0.5 or kept == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_is_the_mask_and_type_and_memory_format_are_kept(dtype, memory_format):
    x = torch.rand(5, 3, 7, 9).add_(1).to(dtype).to(memory_format=memory_format).requires_grad_()
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert (y.dtype, y.stride(), x.grad.stride()) == (dtype, x.stride(), x.stride())
    assert torch.equal(y, x * x.grad)
    assert 0 < (x.grad == 0).double().mean() < 0.5


def test_gradcheck_with_a_fixed_mask():
    def dropped(x):
        torch.manual_seed(1)
        return Dropout(0.4)(x)

    assert torch.autograd.gradcheck(dropped, torch.rand(3, 5, dtype=torch.float64, requires_grad=True))


def test_the_mask_does_not_depend_on_the_number_of_threads_type_or_memory_format():
    masks, before = [], torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        masks.append(mask_of(0.2, num=300_001))
    torch.set_num_threads(before)
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], mask_of(0.2, num=300_001, seed=1))


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_nothing_is_drawn_where_all_is_kept_or_dropped(p):
    state = torch.get_rng_state()
    assert torch.equal(Dropout(p)(torch.ones(9)), torch.full((9,), 1 - p))
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_dropped_in_evaluation():
    x = torch.rand(9)
    assert Dropout(0.5).eval()(x) is x


@pytest.mark.parametrize("model", ["wrn10_1", "resnet18_4"])
def test_networks_with_dropout_use_it(model):
    net = build_net(model, (3, 16, 16), [2], dropout=0.5, seed=0)
    parts = [part for part in net.modules() if isinstance(part, torch.nn.Dropout)]
    assert parts
    assert all(type(part) is Dropout and part.p == 0.5 for part in parts)
