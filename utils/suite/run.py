"""One run of a suite: a process of ``modelzoo.py`` with its own folder, begun or gone on with.

On this machine a thread for each run at a time waits for the run's process.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

from joblib import cpu_count  # by the affinity and the container's quota

from utils.command_line import command_line
from utils.errors import UserError
from utils.program import ROOT
from utils.run_folder import is_complete, is_locked, lock_holder
from utils.suite.file import RunName

PROGRAM = ROOT / "modelzoo.py"
POLL_SEC = 0.2


class Job(NamedTuple):
    """A run to be done.

    Attributes:
        name: The run's name.
        run_dir: The run's folder.
        argv: The words after ``modelzoo.py`` on its command line.
    """

    name: RunName
    run_dir: Path
    argv: tuple[str, ...]

    @property
    def log(self) -> Path:
        """The file with the output of the run's process; it lies beside the run folder."""
        return self.run_dir.with_name(f"{self.run_dir.name}.log")


class Outcome(NamedTuple):
    """How a job ended, and the reason if it was not done; a job that waits is to be submitted again."""

    status: Literal["done", "failed", "stopped", "waits"]
    detail: str = ""


def log_size(job: Job) -> int:
    """The size of the job's log, in bytes; 0 if there is none."""
    return job.log.stat().st_size if job.log.exists() else 0


def has_data(jobs: Sequence[Job]) -> bool:
    """Load the data of all jobs, in a process that downloads what it may and prints a line for each mistake."""
    look = [sys.executable, "-P", "-W", "ignore", "-m", "datasets.build_dataset"]  # the runs themselves will warn
    words, path = json.dumps([job.argv for job in jobs]), {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(look, input=words, text=True, env=path, check=False, start_new_session=True).returncode <= 0


class Died(Exception):
    """The process was killed, so that it is worth trying again."""


def run_command(job: Job, environment: Mapping[str, str], stopping: Callable[[], bool]) -> Outcome:
    """Begin the run, or go on with it, and wait for its end.

    If another process is writing the folder, such as a run that outlived its suite, the job waits: after that the run
    is complete, or it goes on here.

    Args:
        job: The run.
        environment: Variables of its process, beside those of this one.
        stopping: Whether the run is to save its state and stop.

    Raises:
        Died: The process was killed.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    while not is_complete(job.run_dir):
        if stopping():
            return Outcome("stopped")
        if is_locked(job.run_dir):
            time.sleep(25 * POLL_SEC)
            return Outcome("waits", lock_holder(job.run_dir))
        status, said = _run_process(job, environment, stopping)
        if is_complete(job.run_dir) or is_locked(job.run_dir) or stopping():
            continue  # is_locked: another process was quicker to take the folder
        if status < 0:
            raise Died(f"killed by signal {-status}; the suite, started again, goes on with it\n{said}".strip())
        return Outcome("failed", f"exit status {status}\n{said}".strip())
    return Outcome("done")


def _run_process(job: Job, environment: Mapping[str, str], stopping: Callable[[], bool]) -> tuple[int, str]:
    """Run the job's process, its output going to the job's log; returns its exit status and its last lines."""
    with open(job.log, "a", encoding="utf-8", errors="backslashreplace") as log:
        print(f"$ {command_line(job.argv)}", file=log, flush=True)
        begin = log_size(job)
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
        finally:  # also if the thread or the Ray task is interrupted: the run saves its state
            process.terminate()  # if it has not ended
            process.wait()
    said = job.log.read_bytes()[begin:].decode(errors="replace").splitlines()
    return process.returncode, "\n".join(said[-15:])


class LocalPool:
    """This machine. A slot is a place for one run at a time: the environment variables that give it its GPU."""

    def __init__(self, slots: Sequence[Mapping[str, str]]):
        self._free = list(slots)
        self._threads = ThreadPoolExecutor(len(slots))
        self._stopping = threading.Event()

    def submit(self, job: Job) -> Future[Outcome]:
        """Run a job as soon as a slot is free."""
        return self._threads.submit(self._work, job)

    def _work(self, job: Job) -> Outcome:
        slot = self._free.pop(0)  # there is one: as many threads as slots
        try:
            return run_command(job, slot, self._stopping.is_set)
        finally:
            self._free.append(slot)

    def stop(self) -> None:
        """Let all jobs save their states and stop."""
        self._stopping.set()

    def close(self) -> None:
        """Stop what still runs, and wait for it."""
        self.stop()
        self._threads.shutdown()


def visible_gpus(device: str) -> list[str]:
    """The GPUs that runs may use, named as in CUDA_VISIBLE_DEVICES; none if they run elsewhere. Raises UserError."""
    if device in ("cpu", "mps"):
        return []
    import torch  # here, since it takes seconds that a suite on the CPU, or with a mistake, need not wait for

    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",")[:count] if given else [str(index) for index in range(count)]
    if device.startswith("cuda:"):
        names = names[int(device.removeprefix("cuda:")) :][:1]
    if not names and device != "auto":
        raise UserError(f"--device: expected one that is there ({count or 'no'} GPUs are), got {device!r}")
    return names


def slots(gpus: Sequence[str], *, jobs: int | None, per_gpu: int, threads: int = 1) -> list[dict[str, str]]:
    """The slots of this machine: as many as the cores allow; with GPUs ``per_gpu`` on each; or ``jobs``."""
    if not gpus:
        return [{} for _ in range(jobs or max(1, cpu_count() // threads))]
    return [{"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} for slot in range(jobs or per_gpu * len(gpus))]
