import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.seeding import ambient_seed, child_seed, generator

NAMES = st.lists(st.one_of(st.text(max_size=8), st.integers(0, 99)), max_size=4).map(tuple)


def test_golden_seeds_do_not_move():
    assert child_seed(0) == 7210762507766007076
    assert child_seed(100, "round", 3, "init") == 215258859905930922


@given(st.integers(0, 2**40), NAMES)
def test_a_seed_fits_a_signed_int64(root, name):
    assert 0 <= child_seed(root, *name) < 2**63


@given(st.lists(st.tuples(st.integers(0, 5), NAMES), min_size=2, max_size=20, unique=True))
def test_other_names_have_other_seeds(consumers):
    assert len({child_seed(root, *name) for root, name in consumers}) == len(consumers)


def test_a_number_and_its_text_are_other_names():
    assert child_seed(0, "round", 1) != child_seed(0, "round", "1")


def test_a_generator_draws_the_same_whatever_was_drawn_before():
    first = torch.rand(3, generator=generator(5, "draw"))
    torch.rand(7)
    assert torch.equal(torch.rand(3, generator=generator(5, "draw")), first)
    assert not torch.equal(torch.rand(3, generator=generator(6, "draw")), first)


def test_an_ambient_seed_lasts_for_its_block_only():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    with ambient_seed(9):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    torch.manual_seed(9)
    assert torch.equal(torch.rand(2), inside)


def test_an_ambient_seed_ends_with_its_block_also_when_that_fails():
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), ambient_seed(9):
        1 / 0  # noqa: B018
    assert torch.equal(torch.get_rng_state(), state)
