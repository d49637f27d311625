"""Run a suite: every method on every benchmark with every seed, each a process of ``modelzoo.py``.

    python -m utils.suite config/suite/demo.yaml --jobs 2

What is complete is not run again, what was interrupted goes on. Exit status: 0 all runs are complete; 1 some failed;
2 a mistake in the command or its files, found before anything starts; 3 stopped by a signal, the runs' states saved.
"""

import argparse
import concurrent.futures
import os
import queue
import re
import shlex
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from utils.config import ConfigError
from utils.suite.file import Cell, read_cells, read_suite, suite_folder, write_benchmarks
from utils.suite.progress import Board, times_so_far
from utils.suite.run import Died, Job, Outcome, carry_out, is_complete


class Pool(Protocol):
    """Where jobs are done."""

    num_slots: int

    def submit(self, job: Job) -> Future[Outcome]:
        """Have a job done as soon as there is room."""

    def stop(self) -> None:
        """Have all jobs save their states and stop."""

    def close(self) -> None:
        """Give back what was held."""


class LocalPool:
    """This machine: a thread a slot, which waits for its process."""

    def __init__(self, slots: Sequence[Mapping[str, str]]):
        """Take the environment variables of each slot, such as the GPU it has."""
        self.num_slots = len(slots)
        self._free: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        for slot in slots:
            self._free.put(slot)
        self._threads = concurrent.futures.ThreadPoolExecutor(len(slots))
        self._stopping = threading.Event()

    def submit(self, job: Job) -> Future[Outcome]:
        """Have a job done as soon as there is room."""
        return self._threads.submit(self._work, job)

    def _work(self, job: Job) -> Outcome:
        slot = self._free.get()
        try:
            return carry_out(job, slot, self._stopping.is_set)
        finally:
            self._free.put(slot)

    def stop(self) -> None:
        """Have all jobs save their states and stop."""
        self._stopping.set()

    def close(self) -> None:
        """Wait for the threads."""
        self._threads.shutdown()


class StopSignal:
    """SIGINT, SIGTERM or SIGHUP: the first is noted, another ends the program at once."""

    def __init__(self) -> None:
        self.received = False
        self._numbers = [
            number
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN  # as nohup has it
        ]
        for number in self._numbers:
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        for each in self._numbers:
            signal.signal(each, signal.SIG_DFL)


def run_all(jobs: Sequence[Job], pool: Pool, board: Board, stop: StopSignal) -> list[Outcome]:
    """Have all jobs done; gives how each ended."""
    job_of = {pool.submit(job): job for job in jobs}
    waiting, outcomes, stopping = set(job_of), [], False
    while waiting:
        if stop.received and not stopping:
            stopping = True
            pool.stop()
        ended, waiting = concurrent.futures.wait(waiting, timeout=0.5, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in ended:
            outcome = _outcome(future, job_of[future], stopping)
            board.end(job_of[future], outcome)
            outcomes.append(outcome)
        board.look()
    return outcomes


def _outcome(future: Future[Outcome], job: Job, stopping: bool) -> Outcome:
    """What a future holds. Whatever went wrong in a job, it does not stop the others."""
    error = future.exception()
    if error is None:
        return future.result()
    error = getattr(error, "cause", None) or error  # Ray's own is long
    if is_complete(job.run_dir):
        return Outcome("done")
    if stopping:
        return Outcome("stopped")
    return Outcome("failed", str(error) if isinstance(error, Died) else f"{type(error).__name__}: {error}")


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus(device: str) -> list[str]:
    """Names of the GPUs, as CUDA_VISIBLE_DEVICES has them, that runs may use; none if they run elsewhere."""
    if device in ("cpu", "mps"):
        return []
    import torch  # here, since it takes seconds that a CPU's suite and a mistake need not wait for

    count = torch.cuda.device_count()
    if count == 0 and device != "auto":
        raise ConfigError(f"--device: expected one that is there (no GPU is), got {device!r}")
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",")[:count] if given else [str(index) for index in range(count)]
    if not device.startswith("cuda:"):
        return names
    index = int(device.removeprefix("cuda:"))
    if index >= count:
        raise ConfigError(f"--device: expected one of {count} GPUs, got {device!r}")
    return [names[index]]


def local_slots(gpus: Sequence[str], *, jobs: int | None, per_gpu: int, threads: int = 1) -> list[dict[str, str]]:
    """Environment of each process that runs at a time: its GPU, or nothing where there is none."""
    if not gpus:
        return [{} for _ in range(jobs or max(1, num_cores() // threads))]
    return [{"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} for slot in range(jobs or per_gpu * len(gpus))]


def make_jobs(cells: Sequence[Cell], seeds: Sequence[int], how: Sequence[str]) -> list[Job]:
    """The runs, one seed of the whole table after another."""
    return [
        Job(
            name=f"{cell.row} / {cell.column} / seed {seed}",
            run_dir=cell.run_dir(seed),
            argv=(*cell.flags, "--seed", str(seed), "--run_dir", str(cell.run_dir(seed)), "--resume", *how),
            num_rounds=cell.settings.num_rounds,
            kind=(cell.row, cell.group),
        )
        for seed in seeds
        for cell in cells
    ]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (--help lists the flags)")


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = _Parser(
        prog="utils.suite",
        description="Run every method of a suite on every benchmark with every seed, what is complete excepted.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("suite", type=Path, nargs="?", metavar="SUITE.yaml", help="a file as those in config/suite")
    add("--seeds", type=int, nargs="+", metavar="S", help="in place of the suite's own")
    add("--only", metavar="TEXT", help="only runs whose name, 'method / benchmark / seed 0', has this in it")
    add("--jobs", type=int, metavar="N", help="runs at a time (as fit the cores; with GPUs --per_gpu on each)")
    add("--per_gpu", type=int, metavar="N", help="runs at a time on a GPU (1)")
    add("--ray", nargs="?", const="local", metavar="ADDRESS", help="by Ray: a local cluster, or auto or an address")
    add("--suite_dir", type=Path, metavar="DIR", help="where the runs lie (runs/<name of the suite file>)")
    add("--dry_run", action="store_true", help="check everything and print the commands; write nothing")
    how = parser.add_argument_group("passed on to every run")
    how.add_argument("--data_dir", type=Path, metavar="DIR", help="where data sets are, and are put (./data)")
    how.add_argument("--no_download", action="store_true", help="never touch the network")
    how.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    how.add_argument("--threads", type=int, metavar="N", help="CPU threads of a run (1; with GPUs its share of cores)")
    how.add_argument("--compile", action="store_true", help="compile the training step: for long runs on a GPU")
    how.add_argument("--checkpoint_every_sec", type=float, metavar="N", help="training lost at most (300)")
    return parser


def read_flags(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, checked. Raises ConfigError."""
    flags = build_parser().parse_args(argv)
    if flags.suite is None and str(flags.ray).endswith((".yaml", ".yml")):  # --ray SUITE.yaml
        flags.suite, flags.ray = Path(flags.ray), "local"
    if flags.suite is None:
        raise ConfigError("SUITE.yaml: expected a suite file, got none (--help lists the flags)")
    for key in ("jobs", "per_gpu", "threads"):
        if getattr(flags, key) is not None and getattr(flags, key) < 1:
            raise ConfigError(f"--{key}: expected 1 or more, got {getattr(flags, key)}")
    if flags.seeds is not None and (min(flags.seeds) < 0 or len(set(flags.seeds)) < len(flags.seeds)):
        raise ConfigError(f"--seeds: expected numbers from 0 on, each once, got {' '.join(map(str, flags.seeds))}")
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", flags.device):
        raise ConfigError(f"--device: expected auto, cpu, cuda, cuda:<i> or mps, got {flags.device!r}")
    if flags.ray and flags.device.startswith("cuda:"):
        raise ConfigError(f"--device: expected cuda beside --ray, which gives each run its GPU, got {flags.device!r}")
    if flags.checkpoint_every_sec is not None and not flags.checkpoint_every_sec >= 0:  # nan is neither
        raise ConfigError(f"--checkpoint_every_sec: expected 0 or more, got {flags.checkpoint_every_sec:g}")
    if flags.jobs and flags.per_gpu:
        raise ConfigError("--jobs, --per_gpu: expected one of them, got both")
    if flags.jobs and flags.ray not in (None, "local"):
        raise ConfigError("--jobs: expected without an address for --ray, where the cluster decides, got both")
    return flags


def choose_jobs(flags: argparse.Namespace, how: Sequence[str]) -> tuple[list[Cell], list[Job]]:
    """The cells and jobs that the command asks for, all of it checked. Raises ConfigError."""
    suite = read_suite(flags.suite)
    folder = suite_folder(flags.suite, flags.suite_dir)
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise ConfigError(f"--suite_dir: expected a folder, or a new one in a folder, got the file {nearest}")
    cells = read_cells(suite, flags.suite, folder)
    seeds = flags.seeds or suite.seeds
    wanted = [job for job in make_jobs(cells, seeds, how) if (flags.only or "").lower() in job.name.lower()]
    if not wanted:
        name = f"{cells[0].row} / {cells[0].column} / seed {seeds[0]}"
        raise ConfigError(f"--only: expected a part of a name such as {name!r}, got {flags.only!r}")
    folders = {job.run_dir for job in wanted}
    for cell in cells:
        for seed in seeds:
            differing = cell.differing(seed) if cell.run_dir(seed) in folders else None
            if differing:
                raise ConfigError(f"{differing}; remove the folder, or take another --suite_dir")
    return cells, wanted


def words_to_pass_on(flags: argparse.Namespace, *, device: str, threads: int) -> list[str]:
    """Flags of every run that say where and how."""
    words = ["--device", device, "--threads", str(threads)]
    for key in ("data_dir", "checkpoint_every_sec"):
        if getattr(flags, key) is not None:
            words += [f"--{key}", str(getattr(flags, key))]
    return words + [f"--{key}" for key in ("no_download", "compile") if getattr(flags, key)]


def print_plan(jobs: Sequence[Job]) -> None:
    """Print each run's command and state."""
    for job in jobs:
        state = "complete" if is_complete(job.run_dir) else "goes on" if job.run_dir.exists() else "new"
        print(f"# {job.name}: {state}\n{shlex.join(['python', 'modelzoo.py', *job.argv])}")
    print(f"# {len(jobs)} runs, {sum(is_complete(job.run_dir) for job in jobs)} of them complete")


def run_suite(flags: argparse.Namespace, argv: Sequence[str]) -> int:
    """Check everything, then run; gives the exit status. Raises ConfigError."""
    choose_jobs(flags, [])  # a mistake is told before anything else is looked at
    gpus = [] if flags.ray else visible_gpus(flags.device)
    slots = local_slots(gpus, jobs=flags.jobs, per_gpu=flags.per_gpu or 1, threads=flags.threads or 1)
    threads = flags.threads or (max(1, num_cores() // len(slots)) if gpus else 1)
    device = "cuda" if gpus else flags.device
    cells, jobs = choose_jobs(flags, words_to_pass_on(flags, device=device, threads=threads))
    if flags.dry_run:
        print_plan(jobs)
        return 0
    write_benchmarks(cells)
    todo = [job for job in jobs if not is_complete(job.run_dir)]
    pool = _ray_pool(flags, threads) if flags.ray and todo else LocalPool(slots)
    stop = StopSignal()  # after Ray, which takes SIGTERM for itself
    board = Board(todo, num_slots=pool.num_slots, took=times_so_far(jobs))
    try:
        outcomes = run_all(todo, pool, board, stop)
    finally:
        board.close()
        pool.stop()
        pool.close()
    num_failed = sum(outcome.status == "failed" for outcome in outcomes)
    num_stopped = sum(outcome.status == "stopped" for outcome in outcomes)
    num_done = len(todo) - num_failed - num_stopped
    print(
        f"{len(jobs)} runs: {len(jobs) - len(todo)} were complete before, {num_done} done, {num_failed} failed"
        + (f", {num_stopped} stopped" if num_stopped else "")
    )
    if num_stopped:
        print(
            f"stopped by a signal, the states are saved; to go on: {shlex.join(['python', '-m', 'utils.suite', *argv])}"
        )
        return 3
    where = f" --suite_dir {shlex.quote(str(flags.suite_dir))}" if flags.suite_dir else ""
    print(f"the table: python -m utils.report --suite {shlex.quote(str(flags.suite))}{where}")
    return 1 if num_failed else 0


def _ray_pool(flags: argparse.Namespace, threads: int) -> Pool:
    from utils.suite.on_ray import RayPool  # here, since nothing else needs Ray

    return RayPool(
        flags.ray,
        num_slots=flags.jobs or max(1, num_cores() // threads),
        threads=threads,
        device=flags.device,
        per_gpu=flags.per_gpu or 1,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        return run_suite(read_flags(argv), argv)
    except ConfigError as mistake:
        print(f"utils.suite: {mistake}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
