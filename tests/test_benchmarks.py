"""The benchmarks' lanes do their work, and what is made of their rates is right; no speed is asserted."""

from itertools import repeat

import numpy as np
import pandas as pd
import torch

from benchmarks import throughput
from tests.make_data import random_arrays


def test_every_lane_gives_a_rate(tmp_path, monkeypatch):
    arrays = random_arrays(num_train=400, num_test=100, num_classes=100)
    np.savez(tmp_path / "cifar100.npz", **arrays)
    device = torch.device("cpu")
    flags = f"{throughput.RECIPES['conv'][0]} --model wrn10_1 --dropout 0.2"
    lanes = throughput.training_lanes(flags, "fp32", tmp_path, device)
    everywhere = ["bare step", "training, not augmented", "training, augmented", "prediction"]
    assert list(lanes) == [*everywhere, "bare step, torch's dropout"]
    assert all(rate > 0 for rate in throughput.one_turn(lanes, 2, device).values())


def test_lanes_take_turns_of_so_many_steps(monkeypatch):
    order = []
    monkeypatch.setattr(throughput, "seconds_each", lambda steps, device: order.append("".join(steps)) or 0.5)
    lanes = {"a": (repeat("a"), 16), "b": (repeat("b"), 100)}
    assert [throughput.one_turn(lanes, 3, None) for _ in range(2)] == [{"a": 32.0, "b": 200.0}] * 2
    assert order == ["aaa", "bbb"] * 2


def test_a_ratio_is_of_the_same_turn_and_the_first_turn_warms_up(monkeypatch):
    rates = {"bare step": [7.0, 2.0, 4.0, 100.0], "training": [7.0, 1.0, 4.0, 90.0], "prediction": [7.0, 9.0, 9.0, 9.0]}
    turns = iter(pd.DataFrame(rates).to_dict("records"))
    monkeypatch.setattr(throughput, "RECIPES", {"conv": ("", 3)})
    monkeypatch.setattr(throughput, "training_lanes", lambda *_: {})
    monkeypatch.setattr(throughput, "one_turn", lambda *_: next(turns))
    monkeypatch.setattr(throughput, "set_up_process", lambda _: None)
    rows = [tuple(row) for row in pd.concat(throughput.loops(None, "fp32", 1, 3)).itertuples()]
    assert ("conv: training", 1, 0.9, 0.5, 1.0, 3, "of the bare step") in rows
    assert ("conv: prediction", 1, 9.0, 9.0, 9.0, 3, "images/s") in rows
    assert len(rows) == 4
