"""The benchmarks' lanes do their work, and what is made of their rates is right; no speed is asserted."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from benchmarks.lanes import ROOT, interleave, paired_ratio, training_lanes
from benchmarks.throughput import row, table
from tests.make_data import random_arrays


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "cifar100.npz", **random_arrays(num_train=400, num_test=100, num_classes=100))
    return folder


def test_every_lane_gives_a_rate(data_dir):
    lanes = training_lanes("conv", data_dir, torch.device("cpu"), count=2)
    kinds = ("bare step", "training, not augmented", "training, augmented", "prediction")
    assert list(lanes) == [f"conv: {kind}" for kind in kinds]
    rates = interleave(lanes, 1)
    assert all(len(values) == 1 and values[0] > 0 for values in rates.values())


@pytest.mark.parametrize("kind", ["plain", "loop"])
def test_a_lane_in_a_process_of_its_own_prints_its_rate(kind, data_dir):
    command = [sys.executable, "-m", "benchmarks.child", kind, "1", str(data_dir), "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) > 0


def test_lanes_take_turns_and_the_first_turn_warms_up():
    order = []
    lanes = {name: lambda name=name: float(len(order) + (order.append(name) is None)) for name in "ab"}
    assert interleave(lanes, 2) == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert order == list("ababab")


def test_a_ratio_is_of_the_same_turn():
    assert paired_ratio({"a": [1.0, 4.0, 90.0], "b": [2.0, 4.0, 100.0]}, "a", "b") == pytest.approx(0.9)


def test_the_table_has_the_spread_and_the_comparison():
    line = table([row("conv: training", 2, [800.0, 790.0, 810.0], "images/s", **{"of bare step": 0.98})]).splitlines()[
        1
    ]
    assert line.split() == "conv: training 2 800 790 810 3 images/s 98.0% of bare step".split()
    assert json.dumps(row("x", 1, [1.0], "s")) == (
        '{"what": "x", "threads": 1, "unit": "s", "median": 1.0, "min": 1.0, "max": 1.0, "n": 1}'
    )
