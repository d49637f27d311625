"""The screen: results on stdout, warnings and a progress bar on stderr, and all that was said in ``log.txt``."""

import contextlib
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm


class Screen:
    """What the user sees. A screen that is closed, or that cannot show a letter, stops nothing.

    Attributes:
        log: The file that notes what is said, once there is a run folder.
    """

    def __init__(self) -> None:
        self.log: Path | None = None
        self._bar: tqdm | None = None
        self._before_round: list[int] = []

    def say(self, line: str) -> None:
        """Show a result."""
        write_line(line, sys.stdout)
        self._note(line)

    def warn(self, line: str) -> None:
        """Show a warning."""
        write_line(f"warning: {line}", sys.stderr)
        self._note(f"warning: {line}")

    def fail(self, line: str) -> None:
        """Show why the program ends here."""
        self.stop_bar()
        write_line(f"modelzoo.py: {line}", sys.stderr)
        self._note(line)

    def _note(self, line: str) -> None:
        if self.log is not None:
            with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line + "\n")

    def start_bar(self, num_minibatches: Sequence[int]) -> None:
        """Show a progress bar, if stderr is a terminal; the argument is the number of minibatches of each round."""
        if sys.stderr is not None and sys.stderr.isatty():
            self._before_round = [0, *itertools.accumulate(num_minibatches)]
            self._bar = tqdm(total=self._before_round[-1], unit="batch", dynamic_ncols=True)

    def advance(self, round_id: int, epoch: int, num_done: int) -> None:
        """Move the bar to a round's epoch, with so many minibatches of the round done."""
        if self._bar is None:
            return
        position = self._before_round[round_id] + num_done
        if self._bar.n == 0:
            self._bar.initial = position  # what an earlier process did says nothing of the speed
        self._bar.set_description(f"round {round_id}, epoch {epoch}", refresh=False)
        self._bar.update(position - self._bar.n)

    def stop_bar(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


def write_line(line: str, stream: TextIO | None) -> None:
    """Write a line to a screen, above a progress bar if there is one; letters that the screen lacks are spelled out."""
    if stream is None:  # closed before the program began
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        tqdm.write(line.encode(encoding, "backslashreplace").decode(encoding), file=stream)
        stream.flush()
    except (OSError, ValueError):  # closed since; nobody reads what is said from now on
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
