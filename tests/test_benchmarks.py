"""The benchmarks' lanes do their work, and what is made of their rates is right; no speed is asserted."""

import numpy as np
import torch

from benchmarks import throughput
from tests.make_data import random_arrays


def test_every_lane_gives_a_rate(tmp_path, monkeypatch):
    arrays = random_arrays(num_train=400, num_test=100, num_classes=100)
    np.savez(tmp_path / "cifar100.npz", **arrays)
    lanes = throughput.training_lanes("conv.yaml", tmp_path, torch.device("cpu"), count=2)
    kinds = ("bare step", "training, not augmented", "training, augmented", "prediction")
    assert list(lanes) == [f"conv: {kind}" for kind in kinds]
    rates = throughput.interleave(lanes, 1)
    assert all(len(values) == 1 and values[0] > 0 for values in rates.values())


def test_lanes_take_turns_and_the_first_turn_warms_up():
    order = []
    lanes = {name: lambda name=name: float(len(order) + (order.append(name) is None)) for name in "ab"}
    assert throughput.interleave(lanes, 2) == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert order == list("ababab")


def test_a_ratio_is_of_the_same_turn(monkeypatch):
    rates = {"bare": [2.0, 4.0, 100.0], "plain": [1.0, 4.0, 90.0], "augmented": [2.0, 2.0, 2.0], "prediction": [9.0]}
    monkeypatch.setattr(throughput, "training_lanes", lambda *_, **__: {})
    monkeypatch.setattr(throughput, "interleave", lambda *_: rates)
    monkeypatch.setattr(throughput, "set_up_process", lambda _: None)
    rows = throughput.loop_rows(None, 1, 3)
    assert ("plain", 1, 0.9, 0.5, 1.0, 3, "of the bare step") in rows
    assert ("prediction", 1, 9.0, 9.0, 9.0, 1, "images/s") in rows
