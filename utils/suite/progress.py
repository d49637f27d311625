"""What is seen of a suite while it runs: a line a running run on a terminal, else a line where one begins or ends."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from utils.suite.run import Job, Outcome


def rounds_done(run_dir: Path) -> int:
    """Rounds that a run has finished."""
    try:
        with open(run_dir / "rounds.jsonl", "rb") as file:
            return sum(1 for _ in file)
    except OSError:
        return 0


def elapsed_of(run_dir: Path) -> float | None:
    """Seconds that a complete run took; None where its summary is damaged, of which the report tells."""
    try:
        return float(json.loads((run_dir / "summary.json").read_text())["elapsed_sec"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def seconds_left(
    took: Mapping[tuple[str, str], Sequence[float]],
    left: Sequence[tuple[tuple[str, str], float]],
    num_slots: int,
) -> float | None:
    """Time until all is done, if runs of a kind take what those took that are complete, and others their mean.

    Args:
        took: seconds of each complete run, by kind.
        left: kind of each run that is not complete, and the fraction of it that is still to be done.
        num_slots: runs at a time.

    Returns:
        None as long as no run is complete.
    """
    mean = {kind: sum(seconds) / len(seconds) for kind, seconds in took.items() if seconds}
    if not mean:
        return None
    other = sum(mean.values()) / len(mean)
    each = [mean.get(kind, other) * fraction for kind, fraction in left]
    return max([sum(each) / num_slots, *each])


def duration(seconds: float | None) -> str:
    """A time in words."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Board:
    """The screen of a suite."""

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        num_slots: int,
        took: Mapping[tuple[str, str], Sequence[float]],
        live: bool | None = None,
    ):
        """Show nothing yet.

        Args:
            jobs: that are to be done.
            num_slots: runs at a time.
            took: seconds of runs that were complete before, by kind.
            live: whether lines change in place; whether stderr is a terminal, if not given.
        """
        self.num_slots = num_slots
        self.live = sys.stderr.isatty() if live is None else live
        self.waiting = {job: _size(job.log) for job in jobs}  # a log grows when its job begins
        self.running: dict[Job, tqdm | None] = {}
        self.took = {kind: list(seconds) for kind, seconds in took.items()}
        self.count = {"done": 0, "failed": 0, "stopped": 0}
        self.places = list(range(num_slots, 0, -1))
        self.foot = tqdm(total=0, bar_format="{desc}", position=0, disable=not self.live)
        self._looked = 0.0

    def look(self) -> None:
        """See what began, and how far what runs has come; once a second at most."""
        if time.monotonic() - self._looked < 1:
            return
        self._looked = time.monotonic()
        for job, size in list(self.waiting.items()):
            if _size(job.log) > size:
                self._begin(job)
        for job, bar in self.running.items():
            if bar is not None:
                bar.n = rounds_done(job.run_dir)
                bar.refresh()
        self.foot.set_description_str(self._state())

    def end(self, job: Job, outcome: Outcome) -> None:
        """A job came to its end."""
        if job in self.waiting:
            self._begin(job)
        bar = self.running.pop(job)
        if bar is not None:
            self.places.append(-bar.pos)
            bar.close()
        self.count[outcome.status] += 1
        line = f"{outcome.status:<7}  {job.name}"
        if outcome.status == "done":
            seconds = elapsed_of(job.run_dir)
            if seconds is not None:
                self.took.setdefault(job.kind, []).append(seconds)
            line += f"  {duration(seconds)}"
        self._say(f"{line}   [{self._state()}]")
        if outcome.status == "failed":
            self._say("\n".join(f"         {text}" for text in [*outcome.detail.splitlines(), f"log: {job.log}"]))

    def close(self) -> None:
        """Take away the lines that change."""
        for bar in (*self.running.values(), self.foot):
            if bar is not None:
                bar.close()

    def _begin(self, job: Job) -> None:
        del self.waiting[job]
        bar = None
        if self.live and self.places:
            bar = tqdm(
                total=job.num_rounds,
                desc=job.name,
                unit="round",
                position=self.places.pop(),
                leave=False,
                dynamic_ncols=True,
                bar_format="{desc} |{bar}| round {n_fmt} of {total_fmt}, {elapsed}",
            )
        self.running[job] = bar
        if not self.live:
            self._say(f"{'begins':<7}  {job.name}")

    def _state(self) -> str:
        left = [(job.kind, 1.0) for job in self.waiting]
        left += [(job.kind, 1 - rounds_done(job.run_dir) / job.num_rounds) for job in self.running]
        ended = ", ".join(f"{count} {status}" for status, count in self.count.items() if count or status == "done")
        seconds = seconds_left(self.took, left, self.num_slots)
        return f"{ended}, {len(self.running)} running, {len(self.waiting)} to come; time left: {duration(seconds)}"

    def _say(self, text: str) -> None:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def times_so_far(jobs: Sequence[Job]) -> dict[tuple[str, str], list[float]]:
    """Seconds that complete runs took, by kind."""
    took: dict[tuple[str, str], list[float]] = {}
    for job in jobs:
        seconds = elapsed_of(job.run_dir)
        if seconds is not None:
            took.setdefault(job.kind, []).append(seconds)
    return took
