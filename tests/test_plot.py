import struct

import numpy as np
import pytest

from tests.make_runs import continual
from utils.plot import Curve, accuracy_figure, competition_figure, rounds_figure, spread_out, sweep_figure

NAMES = ("a", "b", "c")
R = np.array(continual(0.5, 0.6, 0.7))


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_evolution_in_both_modes():
    plain = accuracy_figure(R, NAMES, continual=True)
    assert size(plain) == (1170, 585)
    assert size(accuracy_figure(R[-1:].repeat(2, axis=0), NAMES, continual=False)) == (1170, 585)


def test_evolution_shows_isolated_tasks_as_crosses():
    assert accuracy_figure(R, NAMES, continual=True) != accuracy_figure(
        R, NAMES, continual=True, isolated=np.array([0.5, 0.5, 0.5])
    )


@pytest.mark.parametrize("accuracy", [[[0.5]], [[0.5, float("nan"), float("nan")]], [[0.5, 0.5, 0.5]]])
def test_evolution_of_a_single_round(accuracy):
    size(accuracy_figure(np.array(accuracy), NAMES[: len(accuracy[0])], continual=True))


def test_evolution_of_a_run_that_stopped_early_names_the_tasks_seen_only():
    size(accuracy_figure(R[:2], NAMES, continual=True, isolated=np.array([0.4, 0.5, np.nan])))


def test_rounds_with_levels_and_published_curves():
    x = np.array([1, 2, 3])
    ours = Curve("ours", x, np.array([0.5, 0.6, 0.7]), np.array([0.1, 0.0, 0.1]))
    level = Curve("all at once", np.array([0]), np.array([0.8]))
    theirs = Curve("theirs", x, np.array([0.4, 0.4, 0.4]))
    size(rounds_figure([ours], [level], [theirs], title="title", source="a source"))


def test_sweep():
    curve = Curve("ours", np.array([0, 1]), np.array([0.5, 0.6]), np.array([0.0, 0.1]))
    size(sweep_figure([curve], xlabel="fraction", ticks=["0 %", "100 %"], title="title"))


def test_competition_with_a_pair_that_was_not_run():
    ours = np.array([[0, 0.02, np.nan], [-0.01, 0, 0.03], [np.nan, 0.01, 0]])
    size(competition_figure(ours, np.nan_to_num(ours) + 0.01, NAMES, source="a source", rho=0.5, num_seeds=1))


@pytest.mark.parametrize(
    ("heights", "places"),
    [
        ([0.5, 0.1], [0.5, 0.1]),  # apart already
        ([0.5, 0.5], [0.45, 0.55]),
        ([1.0, 1.0, 0.0], [0.9, 1.0, 0.0]),  # pushed down from the upper edge
        ([-0.2, 0.0], [0.0, 0.1]),
        ([0.3], [0.3]),
        ([0.5] * 21, [place / 20 for place in range(21)]),  # too many for the gap
    ],
)
def test_names_are_spread_out(heights, places):
    np.testing.assert_allclose(spread_out(np.array(heights), gap=0.1), places, atol=1e-12)
