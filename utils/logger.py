"""The screen: results on stdout, warnings and a progress bar on stderr, and all that was said in ``log.txt``."""

import contextlib
import io
import os
import sys
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
