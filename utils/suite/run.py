"""One run of a suite: a process of ``modelzoo.py`` with its own folder, begun or gone on with.

On this machine a thread for each run at a time waits for the run's process.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple

from joblib import cpu_count  # by the affinity and the container's quota

from utils.command_line import command_line
from utils.errors import UserError
from utils.program import ROOT
from utils.run_folder import is_complete, is_locked, lock_holder
from utils.suite.file import Run

PROGRAM = ROOT / "modelzoo.py"
POLL_SEC = 0.2


class Outcome(NamedTuple):
    """How a run ended, and the reason if it was not done; a run that waits is to be submitted again."""

    status: Literal["done", "failed", "stopped", "waits"]
    detail: str = ""


def log_size(run: Run) -> int:
    """The size of the run's log, in bytes; 0 if there is none."""
    return run.log.stat().st_size if run.log.exists() else 0


def has_data(run: Run, stopping: Callable[[], bool]) -> bool:
    """Whether a run's data can be loaded, by a process that downloads what it may and prints a line if they cannot."""
    # Without warnings, which the runs will give.
    look = [sys.executable, "-W", "ignore", str(PROGRAM), *run.argv, "--device", "cpu", "--check_data"]
    return _wait_for(subprocess.Popen(look, start_new_session=True), stopping) == 0


class Died(Exception):
    """The process was killed, so that it is worth trying again."""


def run_command(run: Run, environment: Mapping[str, str], stopping: Callable[[], bool]) -> Outcome:
    """Begin the run, or go on with it, and wait for its end.

    If another process is writing the folder, such as a run that outlived its suite, it waits: after that the run
    is complete, or it goes on here.

    Args:
        run: The run.
        environment: Variables of its process, beside those of this one.
        stopping: Whether the run is to save its state and stop.

    Raises:
        Died: The process was killed.
    """
    while not is_complete(run.run_dir):
        if stopping():
            return Outcome("stopped")
        if is_locked(run.run_dir):
            time.sleep(25 * POLL_SEC)
            return Outcome("waits", lock_holder(run.run_dir))
        status, said = _run_process(run, environment, stopping)
        if is_complete(run.run_dir) or is_locked(run.run_dir) or stopping():
            continue  # is_locked: another process was quicker to take the folder
        if status < 0:
            raise Died(f"killed by signal {-status}; the suite, started again, goes on with it\n{said}".strip())
        return Outcome("failed", f"exit status {status}\n{said}".strip())
    return Outcome("done")


def _run_process(run: Run, environment: Mapping[str, str], stopping: Callable[[], bool]) -> tuple[int, str]:
    """Run the run's process, its output going to its log; returns its exit status and its last lines."""
    with open(run.log, "a", encoding="utf-8", errors="backslashreplace") as log:
        print(f"$ {command_line(run.argv)}", file=log, flush=True)
        begin = log_size(run)
        command, env = [sys.executable, str(PROGRAM), *run.argv], {**os.environ, **environment}
        # In a session of its own, since Ctrl-C is for the suite, which passes it on once.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )
        status = _wait_for(process, stopping)
    said = run.log.read_bytes()[begin:].decode(errors="replace").splitlines()
    return status, "\n".join(said[-15:])


def _wait_for(process: subprocess.Popen[bytes], stopping: Callable[[], bool]) -> int:
    """Wait for the end of a process, or make it stop; returns its exit status."""
    try:
        while process.poll() is None and not stopping():
            time.sleep(POLL_SEC)
    finally:  # also if the thread or the Ray task is interrupted: a run saves its state
        process.terminate()  # if it has not ended
        process.wait()
    return process.returncode


class LocalPool:
    """This machine. A slot is a place for one run at a time: the environment variables that give it its GPU."""

    def __init__(self, slots: Sequence[Mapping[str, str]]):
        self._free = list(slots)
        self._threads = ThreadPoolExecutor(len(slots))
        self._stopping = threading.Event()

    def submit(self, run: Run) -> Future[Outcome]:
        """Do a run as soon as a slot is free."""
        return self._threads.submit(self._work, run)

    def _work(self, run: Run) -> Outcome:
        slot = self._free.pop(0)  # there is one: as many threads as slots
        try:
            return run_command(run, slot, self._stopping.is_set)
        finally:
            self._free.append(slot)

    def stop(self) -> None:
        """Let all runs save their states and stop."""
        self._stopping.set()

    def close(self) -> None:
        """Stop what still runs, and wait for it."""
        self.stop()
        self._threads.shutdown()


def visible_gpus(device: str) -> list[str]:
    """The GPUs that runs may use, named as in CUDA_VISIBLE_DEVICES; none if they run elsewhere. Raises UserError."""
    if device in ("cpu", "mps"):
        return []
    import torch  # imported here: it takes seconds, and a suite on the CPU does not need it

    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",")[:count] if given else [str(index) for index in range(count)]
    if device.startswith("cuda:"):
        names = names[int(device.removeprefix("cuda:")) :][:1]
    if not names and device != "auto":
        raise UserError(f"--device: expected one that is there ({count or 'no'} GPUs are), got {device!r}")
    return names


def slots_of(gpus: Sequence[str], *, jobs: int | None, per_gpu: int, threads: int = 1) -> list[dict[str, str]]:
    """The slots of this machine: as many as the cores allow; with GPUs ``per_gpu`` on each; or ``jobs``."""
    num_slots = jobs or per_gpu * len(gpus) or max(1, cpu_count() // threads)
    return [{"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {} for slot in range(num_slots)]
