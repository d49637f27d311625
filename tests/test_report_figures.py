"""What the figures of a report show."""

import numpy as np
import pytest

from tests.make_runs import continual
from tests.small_reports import result
from utils.report.figures import averages, draw_rounds, draw_sweep, published_curves, round_curves, sweep_table
from utils.suite.file import Curves

ALONE = ("--tasks_per_round", "1")
ZOO = ("--tasks_per_round", "3")


def test_lines_and_crosses_are_of_the_seeds_that_both_have():
    zoo = result("Zoo", {0: continual(*[0.8] * 5), 1: continual(*[0.4] * 5), 2: continual(*[0.3] * 5)}, *ZOO)
    alone = result("Isolated", {0: continual(*[0.6] * 5), 1: continual(*[0.4] * 5), 7: continual(*[0.1] * 5)}, *ALONE)
    accuracy, isolated, num_seeds = averages(zoo, alone)
    assert num_seeds == 2
    np.testing.assert_allclose(isolated, [0.5] * 5)
    np.testing.assert_allclose(accuracy, continual(*[0.6] * 5))


@pytest.mark.parametrize("alone", [{7: continual(*[0.1] * 5)}, None])
def test_without_a_common_run_there_are_no_crosses_and_all_seeds_count(alone):
    zoo = result("Zoo", {0: continual(*[0.8] * 5), 1: continual(*[0.4] * 5)}, *ZOO)
    accuracy, isolated, num_seeds = averages(zoo, result("Isolated", alone, *ALONE) if alone else None)
    assert (isolated, num_seeds) == (None, 2)
    np.testing.assert_allclose(accuracy.iloc[-1], [0.6] * 5)


def test_a_curve_is_the_mean_over_tasks_seen_for_each_seed():
    accuracy = {0: continual(0.5, 0.7, 0.6, 0.6, 0.6), 1: continual(0.7, 0.7, 0.6, 0.6, 0.6)}
    curves = round_curves(result("Zoo", accuracy, *ZOO))
    assert curves.index.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(curves.iloc[:2], [[0.5, 0.7], [0.6, 0.7]])


def test_a_method_with_all_tasks_at_once_is_a_level_at_its_end():
    accuracy = {0: [[0.1] * 5, [0.5] * 5], 1: [[0.1] * 5, [0.7] * 5]}
    head = result("Multi-Head", accuracy, "--continual", "false", "--num_rounds", "2")
    level = round_curves(head)
    assert level.index.tolist() == [0]
    np.testing.assert_allclose(level, [[0.5, 0.7]])
    (axes,) = draw_rounds([head, result("Zoo", {0: continual(*[0.5] * 5)}, *ZOO)], None, "test").axes
    assert [line.get_linestyle() for line in axes.lines] == [":", "-"]


def test_published_curves_are_fractions_where_they_have_a_number(tmp_path):
    (tmp_path / "x.csv").write_text("method,ep1,ep2,ep3\nOne,50,60,\nTwo,,40,45\nNone,,,\n")
    curves = published_curves(Curves(column="Digits", file=tmp_path / "x.csv", source="a page"))
    assert {name: curve.to_dict() for name, curve in curves.items()} == {
        "One": {1: 0.5, 2: 0.6},
        "Two": {2: 0.4, 3: 0.45},
    }


def test_a_sweep_has_a_point_a_value_with_a_bar_where_seeds_allow():
    replay = ("--replay_frac",)
    results = [
        result("All", {0: continual(*[0.7] * 5), 1: continual(*[0.9] * 5)}, *replay, "1"),
        result("None", {0: continual(*[0.5] * 5)}, *replay, "0"),
        result("None", {0: continual(*[0.3] * 5)}, *replay, "0", benchmark="Others"),
    ]
    found = sweep_table(results, "replay_frac")
    assert found["mean"].index.tolist() == ["0.0", "1.0"]
    np.testing.assert_allclose(found["mean"], [[0.5, 0.3], [0.8, np.nan]])
    np.testing.assert_allclose(found["std"], [[np.nan, np.nan], [0.2 / 2**0.5, np.nan]])
    (axes,) = draw_sweep(results, "replay_frac", "title", "test").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.0", "1.0"]


@pytest.mark.parametrize(
    ("setting", "values", "ticks"),
    [
        ("model", ["wrn16_4", "conv"], ["wrn16_4", "conv"]),  # words: in the order of the rows
        ("nesterov", ["true", "false"], ["False", "True"]),
        ("samples", ["all", "20", "5"], ["5", "20", "all"]),
        ("tasks_per_round", ["1", "all", "2"], ["1", "2", "5"]),
        ("l2_reg", ["0.02", "0.01"], ["0.01", "0.02"]),
    ],
)
def test_values_stand_in_their_order(setting, values, ticks):
    results = [result(value, {0: continual(*[0.5] * 5)}, f"--{setting}", value) for value in values]
    assert sweep_table(results, setting)["mean"].index.tolist() == ticks


def test_methods_with_the_same_value_are_curves_of_their_own():
    rows = [(b, rate) for b in (1, 3) for rate in (0.1, 0.01)]
    results = [
        result(
            f"b {b}, lr {rate}", {0: continual(*[0.1 * b + rate] * 5)}, "--tasks_per_round", str(b), "--lr", str(rate)
        )
        for b, rate in rows
    ]
    means = sweep_table(results, "lr")["mean"]
    assert means.columns.tolist() == ["Digits, tasks_per_round 1", "Digits, tasks_per_round 3"]
    np.testing.assert_allclose(means, [[0.11, 0.31], [0.2, 0.4]])
