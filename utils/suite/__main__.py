"""Run a suite: every method on every benchmark with every seed, each a process of ``modelzoo.py``.

    python -m utils.suite config/suite/demo.yaml --jobs 2

Complete runs are skipped, interrupted ones are resumed. Exit status: 0 all runs are complete; 1 some failed;
2 a mistake in the command or its files, found before anything starts; 3 stopped by a signal, the runs' states saved.
"""

import collections
import concurrent.futures
import itertools
import re
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import Future

from tqdm import tqdm

from utils.errors import StopSignal, UserError
from utils.logger import open_screens, write_line
from utils.run_folder import is_complete
from utils.suite import file, run
from utils.suite.command import PASSED_ON, Command, read_command
from utils.suite.on_ray import RayPool
from utils.suite.run import Job, Outcome

POLL_SEC = 0.5


def say(line: str) -> None:
    """Show a line; a screen that is closed stops nothing."""
    write_line(line, sys.stdout)


class Board:
    """What is seen of a suite while it runs."""

    def __init__(self, jobs: Sequence[Job]):
        self.waiting = {job: run.log_size(job) for job in jobs}  # a log grows when its job begins, on any machine
        self.bar = tqdm(total=len(jobs), unit="run", disable=None, dynamic_ncols=True, smoothing=0)

    def look(self, jobs: Sequence[Job]) -> None:
        """See which of these runs began."""
        for job in [job for job in jobs if job in self.waiting and run.log_size(job) > self.waiting[job]]:
            del self.waiting[job]
            say(f"begins   {job.name}")

    def end(self, job: Job, outcome: Outcome, num_ended: int) -> None:
        """Show that a job ended, and how many of the suite have."""
        self.look([job])
        self.bar.update()
        say(f"{outcome.status:<7}  {job.name}   [{num_ended} of {self.bar.total}]")
        if outcome.status == "failed":
            for line in (*outcome.detail.splitlines(), f"log: {job.log}"):
                say(f"         {line}")


def run_all(jobs: Sequence[Job], pool: run.LocalPool | RayPool, stop: StopSignal) -> list[Outcome]:
    """Do all jobs; returns how each ended."""
    board = Board(jobs)
    job_of = {pool.submit(job): job for job in jobs}
    waiting, outcomes, stopping = set(job_of), [], False
    while waiting:
        if stop.received and not stopping:
            stopping = True
            pool.stop()
        ended, waiting = concurrent.futures.wait(waiting, POLL_SEC, concurrent.futures.FIRST_COMPLETED)
        for future in ended:  # before the look: in their places the next may have begun by now
            outcomes.append(outcome_of(future, stopping))
            board.end(job_of[future], outcomes[-1], len(outcomes))
        board.look(list(board.waiting))
    board.bar.close()
    return outcomes


def outcome_of(future: Future[Outcome], stopping: bool) -> Outcome:
    """How a job ended. Whatever went wrong in it, it does not stop the others."""
    error = future.exception()
    if error is None:
        return future.result()
    error = getattr(error, "cause", None) or error  # Ray's own message is long
    return Outcome("stopped") if stopping else Outcome("failed", f"{type(error).__name__}: {error}")


def matches(text: str, name: str) -> bool:
    """Whether a run's name has the text in it, as whole words and numbers: ``seed 1`` is not in ``seed 10``."""
    before, after = (r"\b" if text[place : place + 1].isalnum() else "" for place in (0, len(text) - 1))
    return re.search(before + re.escape(text) + after, name, re.IGNORECASE) is not None


def choose_runs(command: Command) -> list[tuple[file.Cell, int]]:
    """The cells and seeds that the command asks for, one seed of the whole table after another. Raises UserError."""
    suite = file.read_suite(command.suite)
    cells = file.read_cells(suite, command.suite, file.suite_folder(command.suite, command.suite_dir))
    runs = [(cell, seed) for seed in dict.fromkeys(command.seeds or suite.seeds) for cell in cells]
    chosen = [(cell, seed) for cell, seed in runs if matches(command.only, cell.run_name(seed))]
    if not chosen:
        name = runs[0][0].run_name(runs[0][1])
        raise UserError(f"--only: expected words of a name such as {name!r}, got {command.only!r}")
    for cell, seed in chosen:  # before anything starts
        if differing := cell.differing(seed):
            raise UserError(f"{differing}; remove the folder, or take another --suite_dir")
    return chosen


def make_job(cell: file.Cell, seed: int, passed_on: Sequence[str]) -> Job:
    """A run as a job, with the flags that are passed on to every run."""
    run_dir = cell.run_dir(seed)
    argv = (*cell.flags, "--seed", str(seed), "--run_dir", str(run_dir), "--resume", *passed_on)
    return Job(cell.run_name(seed), run_dir, argv)


def flags_to_pass_on(command: Command, *, device: str, threads: int) -> list[str]:
    """The flags of every run that say where and how."""
    given = command.model_dump(include=PASSED_ON, exclude_defaults=True)
    values = {"device": device, "threads": threads} | given
    words = ([f"--{key}"] if value is True else [f"--{key}", str(value)] for key, value in values.items())
    return list(itertools.chain.from_iterable(words))


def print_plan(jobs: Sequence[Job]) -> None:
    """Print each run's command and state."""
    for job in jobs:
        state = "complete" if is_complete(job.run_dir) else "goes on" if job.run_dir.exists() else "new"
        say(f"# {job.name}: {state}\n{shlex.join(['python', 'modelzoo.py', *job.argv])}")
    say(f"# {len(jobs)} runs, {sum(is_complete(job.run_dir) for job in jobs)} of them complete")


def run_suite(command: Command, argv: Sequence[str]) -> int:
    """Check everything, then run; returns the exit status. Raises UserError."""
    runs = choose_runs(command)  # first: a mistake in the file is told before a GPU is looked for
    gpus = [] if command.ray else run.visible_gpus(command.device)
    slots = run.slots(gpus, jobs=command.jobs, per_gpu=command.per_gpu, threads=command.threads or 1)
    threads = command.threads or (max(1, run.num_cores() // len(slots)) if gpus else 1)
    passed_on = flags_to_pass_on(command, device="cuda" if gpus else command.device, threads=threads)
    jobs = [make_job(cell, seed, passed_on) for cell, seed in runs]
    if command.dry_run:
        print_plan(jobs)
        return 0
    file.make_folder(file.suite_folder(command.suite, command.suite_dir))
    todo = [job for job in jobs if not is_complete(job.run_dir)]
    pool: run.LocalPool | RayPool = run.LocalPool(slots)
    if command.ray and todo:
        pool = RayPool(command, num_cpus=len(slots) * threads, threads=threads)
    stop = StopSignal()  # after Ray, which takes SIGTERM for itself
    stop.defer()
    try:
        outcomes = run_all(todo, pool, stop)
    finally:
        pool.stop()
        pool.close()
    return print_end(command, argv, outcomes, num_before=len(jobs) - len(todo))


def print_end(command: Command, argv: Sequence[str], outcomes: Sequence[Outcome], *, num_before: int) -> int:
    """Print how many runs ended how, and what to do next; returns the exit status."""
    count = collections.Counter(outcome.status for outcome in outcomes)
    line = f"{num_before + len(outcomes)} runs: {num_before} were complete before"
    say(f"{line}, " + ", ".join(f"{count[status]} {status}" for status in ("done", "failed", "stopped")))
    if count["stopped"]:
        again = shlex.join(["python", "-m", "utils.suite", *argv])
        say(f"stopped by a signal, the states are saved; to go on: {again}")
        return 3
    where = ["--suite_dir", str(command.suite_dir)] if command.suite_dir else []
    say(f"the table: {shlex.join(['python', '-m', 'utils.report', '--suite', str(command.suite), *where])}")
    return 1 if count["failed"] else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else list(argv)
    open_screens()
    try:
        return run_suite(read_command(argv), argv)
    except UserError as mistake:
        write_line(f"utils.suite: {mistake}", sys.stderr)
        return mistake.exit_status


if __name__ == "__main__":
    sys.exit(main())
