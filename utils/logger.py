"""The screen: results on stdout, warnings and a progress bar on stderr, and all that was said in ``log.txt``."""

import contextlib
import itertools
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    from utils.config import Settings
    from utils.method import Method
    from utils.rounds import RoundSize

LINE_EVERY_SEC = 300
LOSS_EVERY_SEC = 10  # on a bar


class Screen:
    """What the user sees. A screen that is closed, or that cannot show a letter, stops nothing.

    Attributes:
        log: The file that notes what is said, once there is a run folder.
    """

    def __init__(self) -> None:
        self.log: Path | None = None

    def say(self, line: str) -> None:
        """Show a result."""
        self._show(line, sys.stdout)

    def warn(self, line: str) -> None:
        """Show a warning."""
        self._show(f"warning: {line}", sys.stderr)

    def inform(self, line: str) -> None:
        """Show how far a run is."""
        self._show(line, sys.stderr)

    def fail(self, line: str) -> None:
        """Show why the program ends here."""
        self._show(line, sys.stderr, begins="modelzoo.py: ")

    def _show(self, line: str, stream: TextIO, begins: str = "") -> None:
        """Show a line and note it in the log; on the screen it is preceded by ``begins``."""
        write_line(begins + line, stream)
        if self.log is not None:
            with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line + "\n")


def open_screens() -> None:
    """Make printing safe: closed streams lead to the null device, and characters a stream cannot encode are escaped."""
    for name in ("stdin", "stdout", "stderr"):  # in the order of their descriptors, so that no other file gets these
        stream = getattr(sys, name) or open(os.devnull, "r+")  # noqa: SIM115 (it stays open)
        setattr(sys, name, stream)
        if hasattr(stream, "reconfigure"):  # not one that a caller put in place
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Write a line to standard output, as ``write_line`` does."""
    write_line(line, sys.stdout)


def write_line(line: str, stream: TextIO) -> None:
    """Write a line to a screen, above a progress bar if there is one. A screen that is closed by now stops nothing."""
    try:
        tqdm.write(line, file=stream)
        stream.flush()
    except (OSError, ValueError):  # closed since; nobody reads what is said from now on
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Progress(contextlib.AbstractContextManager["Progress"]):
    """How far a run is: a bar if stderr is a terminal, else a line every five minutes and at the end of a round."""

    def __init__(self, screen: Screen, plan: "Iterable[RoundSize]", settings: "Settings"):
        self.screen, self.settings = screen, settings
        self.before_round = [0, *itertools.accumulate(settings.epochs * size.num_train for size in plan)]
        self.bar = tqdm(total=self.before_round[-1], unit=" images", dynamic_ncols=True, disable=None)
        self.every_sec = LINE_EVERY_SEC if self.bar.disable else LOSS_EVERY_SEC
        self.began = self.looked = time.monotonic()
        self.first: int | None = None  # images done before this process began; they do not count for the speed
        self.last_round = -1  # the last one whose end was shown

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def show(self, method: "Method") -> None:
        """Show where a method is; called after each of its minibatches."""
        training, round_id = method.training, method.round_id
        if training is None:
            return
        before, after = self.before_round[round_id : round_id + 2]
        done = before + (after - before) * training.num_done // len(training)
        if self.first is None:
            self.first = self.bar.initial = done
        self.bar.update(done - self.bar.n)
        ends = training.epoch == training.num_epochs and round_id > self.last_round
        if not ends and time.monotonic() - self.looked < self.every_sec:
            return  # since reading the loss waits for a GPU
        self.looked = time.monotonic()
        self.last_round = round_id if ends else self.last_round
        if not self.bar.disable:
            self.bar.set_description(f"round {round_id}, epoch {training.epoch}", refresh=False)
            self.bar.set_postfix_str(f"loss {training.loss:.4f}")
            return
        speed = (done - self.first) / (self.looked - self.began)
        left = f", {tqdm.format_interval((self.before_round[-1] - done) / speed)} left" if speed else ""
        where = f"round {round_id} of {self.settings.total_rounds}, {training.epoch} of {training.num_epochs} epochs"
        self.screen.inform(f"{where} done: learner's loss {training.loss:.4f}, {speed:,.0f} images a second{left}")
