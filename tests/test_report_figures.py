"""What the figures of a report show, before it is drawn."""

import numpy as np
import pytest

from tests.make_runs import CONV, DIGITS, continual
from utils.command_line import read_command
from utils.report.figures import averages, published_curves, round_curve, sweep_curves
from utils.report.records import Result
from utils.suite.file import Curves


def result(row, flags, accuracy_by_seed, column="Digits"):
    """A method with the accuracies R of each seed."""
    base = ["--data_config", str(DIGITS), "--hp_config", str(CONV), "--epochs", "1"]
    settings = read_command([*base, *flags]).settings
    return Result(column, row, settings, {seed: np.array(r) for seed, r in accuracy_by_seed.items()})


ALONE = ["--continual", "--tasks_per_round", "1"]
ZOO = ["--continual", "--tasks_per_round", "3"]


def test_lines_and_crosses_are_of_the_seeds_that_both_have():
    zoo = result("Zoo", ZOO, {0: continual(*[0.8] * 5), 1: continual(*[0.4] * 5), 2: continual(*[0.3] * 5)})
    alone = result("Isolated", ALONE, {0: continual(*[0.6] * 5), 1: continual(*[0.4] * 5), 7: continual(*[0.1] * 5)})
    accuracy, isolated, num_seeds = averages(zoo, alone)
    assert num_seeds == 2
    np.testing.assert_allclose(isolated, [0.5] * 5)
    np.testing.assert_allclose(accuracy, continual(*[0.6] * 5))


@pytest.mark.parametrize("seeds", [{}, {7: continual(*[0.1] * 5)}, {0: continual(0.1, 0.1, 0.1)}])
def test_without_a_common_run_there_are_no_crosses_and_all_seeds_count(seeds):
    zoo = result("Zoo", ZOO, {0: continual(*[0.8] * 5), 1: continual(*[0.4] * 5)})
    accuracy, isolated, num_seeds = averages(zoo, result("Isolated", ALONE, seeds))
    assert (isolated, num_seeds) == (None, 2)
    np.testing.assert_allclose(accuracy[-1], [0.6] * 5)


def test_a_curve_is_the_mean_over_tasks_seen_then_over_seeds_with_its_spread():
    zoo = result("Zoo", ZOO, {0: continual(0.5, 0.7, 0.6, 0.6, 0.6), 1: continual(0.7, 0.7, 0.6, 0.6, 0.6)})
    curve = round_curve(zoo)
    assert curve.label == "Zoo"
    assert curve.x.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(curve.y[:2], [0.6, 0.65])
    np.testing.assert_allclose(curve.std[:2], [0.2 / 2**0.5, 0.1 / 2**0.5])


def test_a_method_with_all_tasks_at_once_is_a_level_at_its_end():
    head = result("Multi-Head", ["--num_rounds", "2"], {0: [[0.1] * 5, [0.5] * 5], 1: [[0.1] * 5, [0.7] * 5]})
    level = round_curve(head)
    assert (level.label, level.x.tolist(), level.y.tolist()) == ("Multi-Head", [0], [pytest.approx(0.6)])


def test_published_curves_are_fractions_where_they_have_a_number(tmp_path):
    (tmp_path / "x.csv").write_text("method,1,2,3\nOne,50,60,\nTwo,,40,45\nNone,,,\n")
    one, two = published_curves(Curves(column="Digits", file=tmp_path / "x.csv", source="a page"))
    assert (one.label, one.x.tolist(), one.y.tolist()) == ("One", [1, 2], [0.5, 0.6])
    assert (two.label, two.x.tolist(), two.y.tolist()) == ("Two", [2, 3], [0.4, 0.45])


def test_a_sweep_has_a_point_a_value_with_a_bar_where_seeds_allow():
    flags = ["--continual", "--replay_frac"]
    results = [
        result("All", [*flags, "1"], {0: continual(*[0.7] * 5), 1: continual(*[0.9] * 5)}),
        result("None", [*flags, "0"], {0: continual(*[0.5] * 5)}),
        result("None", [*flags, "0"], {0: continual(*[0.3] * 5)}, column="Others"),
    ]
    (digits, others), ticks, numeric = sweep_curves(results, "replay_frac")
    assert (ticks, numeric) == ({0.0: "0.0", 1.0: "1.0"}, True)
    assert digits.x.tolist() == [0, 1]
    np.testing.assert_allclose(digits.y, [0.5, 0.8])
    np.testing.assert_allclose(digits.std, [np.nan, 0.2 / 2**0.5])
    assert (others.x.tolist(), np.isnan(others.std).all()) == ([0], True)


def test_all_samples_stand_last():
    results = [result(row, flags, {0: continual(*[0.5] * 5)}) for row, flags in (("A", []), ("B", ["--samples", "5"]))]
    (curve,), ticks, numeric = sweep_curves(results, "samples")
    assert (ticks, numeric) == ({0: "5", 1: "all"}, False)
    assert curve.x.tolist() == [0, 1]
