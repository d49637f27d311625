"""How far a run is: lines where stderr is no terminal, else a bar with the loss."""

import io
import sys

import pytest

from tests.small_runs import settings
from utils import logger
from utils.logger import Progress, Screen
from utils.rounds import RoundSize

PLAN = [RoundSize(1, 100, 0), RoundSize(2, 300, 0)]
CHOSEN = settings(((0, 1), (2, 3)), epochs=2)


class Training:
    """A learner's training, 2 epochs of 10 minibatches, of which so many are done."""

    num_epochs = 2
    looks = 0

    def __init__(self, num_done):
        self.num_done, self.epoch = num_done, num_done // 10

    def __len__(self):
        return 20

    @property
    def loss(self):
        Training.looks += 1
        return 0.25


class Method:
    def __init__(self, round_id, num_done):
        self.round_id, self.training = round_id, None if num_done is None else Training(num_done)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The seconds that have passed, to be set by hand."""
    now = [1000.0]
    monkeypatch.setattr(logger.time, "monotonic", lambda: now[0])
    Training.looks = 0
    return now


def test_without_a_terminal_there_is_a_line_every_five_minutes_and_at_the_end_of_a_round(clock, capsys, tmp_path):
    screen = Screen()
    screen.log = tmp_path / "log.txt"
    with Progress(screen, PLAN, CHOSEN) as shown:
        for round_id, num_done, second in [
            (0, 4, 0),  # where an earlier process stopped: 40 of 200 images
            (0, 5, 299),
            (0, 8, 300),
            (0, 9, 301),
            (0, 20, 500),
            (0, 20, 501),
            (1, None, 502),
            (1, 10, 800),
            (1, 20, 900),
        ]:
            clock[0] = 1000.0 + second
            shown.show(Method(round_id, num_done))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [  # 40 images in 300 s, 720 to come; 160 in 500 s; 460 in 800 s
        "round 0 of 2, 0 of 2 epochs done: learner's loss 0.2500, 0 images a second, 1:30:00 left",
        "round 0 of 2, 2 of 2 epochs done: learner's loss 0.2500, 0 images a second, 31:15 left",
        "round 1 of 2, 1 of 2 epochs done: learner's loss 0.2500, 1 images a second, 08:41 left",
        "round 1 of 2, 2 of 2 epochs done: learner's loss 0.2500, 1 images a second, 00:00 left",
    ]
    assert Training.looks == 4  # a look waits for a GPU
    assert screen.log.read_text().splitlines() == lines


def test_on_a_terminal_there_is_a_bar_with_the_loss(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress(Screen(), PLAN, CHOSEN) as shown:
        for num_done in range(1, 20):
            clock[0] += 1.0
            shown.show(Method(1, num_done))
        assert shown.bar.n == 200 + 19 * 30
        assert Training.looks == 1
        assert "loss 0.2500" in shown.bar.postfix
        assert shown.bar.desc == "round 1, epoch 1: "
    text = sys.stderr.getvalue()
    assert "images" in text
    assert "loss 0.2500" in text
