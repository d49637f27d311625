"""The program as it runs: its folder and commit, its seconds by phase, and the most memory that it has held."""

import contextlib
import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGAN = time.perf_counter()  # when the program began, not counting its first imports


class Stopwatch:
    """Seconds by phase. A lap adds the time since the one before it; the first counts from the start of the program."""

    def __init__(self, seconds: dict[str, float]):
        self.seconds, self._last = seconds, BEGAN

    def lap(self, phase: str) -> None:
        """Add the time since the last lap to a phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        self._last = now


def peak_mem_gb() -> float:
    """The most memory that this process has held so far, in GB (1e9 bytes), without a GPU's; 0 if that is not known."""
    with contextlib.suppress(OSError, KeyError):  # Linux alone has the file
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) * 1024 / 1e9
    return 0.0


def commit() -> str | None:
    """The commit of the program's own repository, ``-dirty`` if it has changes; None if there is none."""
    # The repository is named: it may belong to another user, as in containers, and one around it is not meant.
    command = "git --git-dir=.git --work-tree=. describe --always --dirty --abbrev=12 --exclude=*".split()
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        described = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return described.stdout.strip() or None
