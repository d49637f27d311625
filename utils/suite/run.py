"""One run of a suite: a process of ``modelzoo.py`` with its own folder, begun or gone on with."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import filelock

PROGRAM = Path(__file__).resolve().parents[2] / "modelzoo.py"
POLL_SEC = 0.2
TAIL_LINES = 15
STOPPED = 3  # modelzoo.py's exit status after a signal, its state saved


@dataclass(frozen=True)
class Job:
    """A run to be done.

    Attributes:
        name: for the screen.
        run_dir: its folder.
        argv: of ``modelzoo.py``.
        num_rounds: it has when it is complete.
        kind: jobs of one kind take about the same time.
    """

    name: str
    run_dir: Path
    argv: tuple[str, ...]
    num_rounds: int
    kind: tuple[str, str]

    @property
    def log(self) -> Path:
        """What the process said, beside the run folder."""
        return self.run_dir.with_name(f"{self.run_dir.name}.log")


@dataclass(frozen=True)
class Outcome:
    """How a job ended, and why where it did not get done."""

    status: Literal["done", "failed", "stopped"]
    detail: str = ""


class Died(Exception):
    """The process was killed, so that it is worth to try again."""


def is_complete(run_dir: Path) -> bool:
    """Whether the run is done: its summary is written last."""
    return (run_dir / "summary.json").exists()


def is_locked(run_dir: Path) -> bool:
    """Whether a process is writing the run folder."""
    path = run_dir / ".lock"
    if not path.exists():
        return False
    try:
        with filelock.FileLock(path, timeout=0):
            return False
    except filelock.Timeout:
        return True


def carry_out(job: Job, environment: Mapping[str, str], stopping: Callable[[], bool]) -> Outcome:
    """Begin the run, or go on with it, and wait for its end.

    A folder that another process is writing, such as a run that outlived its suite, is waited for: then either the
    run is complete, or it is gone on with here.

    Args:
        job: the run.
        environment: variables of its process, beside this one's.
        stopping: whether it is to save its state and stop.

    Raises:
        Died: the process was killed.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    while not is_complete(job.run_dir):
        _wait_until_free(job, stopping)
        if is_complete(job.run_dir):
            break
        if stopping():
            return Outcome("stopped")
        status, said = _run_process(job, environment, stopping)
        if is_complete(job.run_dir) or is_locked(job.run_dir):
            continue  # done, or another process was quicker to take the folder
        if stopping():
            return Outcome("stopped")
        if status < 0:
            raise Died(f"killed by signal {-status}; the suite, started again, goes on with it\n{said}".strip())
        reason = "stopped by a signal, the state is saved" if status == STOPPED else f"exit status {status}"
        return Outcome("failed", f"{reason}\n{said}".strip())
    return Outcome("done")


def _wait_until_free(job: Job, stopping: Callable[[], bool]) -> None:
    if not is_locked(job.run_dir):
        return
    with open(job.log, "a", encoding="utf-8") as log:
        log.write(f"utils.suite: another process is writing {job.run_dir}: waiting for it\n")
    while is_locked(job.run_dir) and not stopping():
        time.sleep(5 * POLL_SEC)


def _run_process(job: Job, environment: Mapping[str, str], stopping: Callable[[], bool]) -> tuple[int, str]:
    """Exit status and last lines of the job's process; its output goes to the job's log."""
    with open(job.log, "a", encoding="utf-8") as log:
        log.write(f"$ {shlex.join(['python', PROGRAM.name, *job.argv])}\n")
        log.flush()
        begin = log.tell()
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *job.argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C is for the suite, which passes it on once
        )
        try:
            while process.poll() is None and not stopping():
                time.sleep(POLL_SEC)
        finally:  # also where the thread or the Ray task is interrupted: the run saves its state
            if process.poll() is None:
                process.terminate()
            process.wait()
    with open(job.log, encoding="utf-8", errors="replace") as log:
        log.seek(begin)
        return process.returncode, "\n".join(log.read().splitlines()[-TAIL_LINES:])
