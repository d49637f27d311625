"""The screen: results on stdout, warnings and a progress bar on stderr, and all that was said in ``log.txt``."""

import contextlib
import io
import itertools
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    from utils.config import Settings
    from utils.method import Method
    from utils.records import RoundSize
    from utils.run_net import Training

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
        write_line(line, sys.stdout)
        self._note(line)

    def warn(self, line: str) -> None:
        """Show a warning."""
        write_line(f"warning: {line}", sys.stderr)
        self._note(f"warning: {line}")

    def inform(self, line: str) -> None:
        """Show how far a run is."""
        write_line(line, sys.stderr)
        self._note(line)

    def fail(self, line: str) -> None:
        """Show why the program ends here."""
        write_line(f"modelzoo.py: {line}", sys.stderr)
        self._note(line)

    def _note(self, line: str) -> None:
        if self.log is not None:
            with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line + "\n")


def open_screens() -> None:
    """Make printing safe: closed streams lead to the null device, and characters a stream cannot encode are escaped."""
    for name in ("stdin", "stdout", "stderr"):  # in the order of their descriptors, so that no other file gets these
        stream = getattr(sys, name) or open(os.devnull, "r+")  # noqa: SIM115 (it stays open)
        setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_line(line: str, stream: TextIO) -> None:
    """Write a line to a screen, above a progress bar if there is one. A screen that is closed by now stops nothing."""
    try:
        tqdm.write(line, file=stream)
        stream.flush()
    except (OSError, ValueError):  # closed since; nobody reads what is said from now on
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Progress:
    """How far a run is: a bar if stderr is a terminal, else a line every five minutes and at the end of a round."""

    def __init__(self, screen: Screen, plan: "Iterable[RoundSize]", settings: "Settings"):
        self.screen, self.settings = screen, settings
        self.before_round = [0, *itertools.accumulate(settings.epochs * size.num_train for size in plan)]
        self.bar: tqdm | None = None
        if sys.stderr.isatty():
            self.bar = tqdm(total=self.before_round[-1], unit=" images", dynamic_ncols=True)
        self.began = self.looked = time.monotonic()
        self.first: int | None = None  # what an earlier process did says nothing of the speed
        self.last_round = -1  # whose end was told

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, method: "Method") -> None:
        """Show where a method is; called after each of its minibatches."""
        training = method.training
        if training is None:
            return
        before, after = self.before_round[method.round_id : method.round_id + 2]
        done = before + (after - before) * training.num_done // len(training)
        if self.first is None:
            self.first = done
        ends = training.epoch == training.num_epochs and method.round_id > self.last_round
        if self.bar is not None:
            self.bar.initial = self.first
            self.bar.update(done - self.bar.n)
        if ends or time.monotonic() - self.looked >= (LINE_EVERY_SEC if self.bar is None else LOSS_EVERY_SEC):
            self.last_round = method.round_id if ends else self.last_round
            self._look(method.round_id, training, done - self.first, self.before_round[-1] - done)

    def _look(self, round_id: int, training: "Training[Any]", num_images: int, num_left: int) -> None:
        """Read the loss, which waits for a GPU, and show it; ``num_images`` are those of this process."""
        self.looked = time.monotonic()
        if self.bar is not None:
            self.bar.set_description(f"round {round_id}, epoch {training.epoch}", refresh=False)
            self.bar.set_postfix_str(f"loss {training.loss:.4f}")
            return
        speed = num_images / (self.looked - self.began)
        left = f", {tqdm.format_interval(num_left / speed)} left" if speed else ""
        where = f"round {round_id} of {self.settings.num_rounds}, {training.epoch} of {training.num_epochs} epochs done"
        self.screen.inform(f"{where}: learner's loss {training.loss:.4f}, {speed:,.0f} images a second{left}")
