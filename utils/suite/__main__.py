"""Run a suite: every method on every benchmark with every seed, each a process of ``modelzoo.py``.

    python -m utils.suite config/suite/demo.yaml --jobs 2

Complete runs are skipped, interrupted ones are resumed, and for those of another process it waits. Exit status: 0 all
runs are complete; 1 some failed; 2 a mistake in the command or its files, or data that are missing, found before any
run starts; 3 stopped by a signal, the runs' states saved.
"""

import collections
import concurrent.futures
import contextlib
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for python PROJECT/utils/suite, from any folder

from joblib import cpu_count
from tqdm import tqdm

from utils.command_line import command_line
from utils.errors import StopSignal, UserError
from utils.logger import open_screens, write_line
from utils.run_folder import is_complete
from utils.suite import file, run
from utils.suite.command import PASSED_ON, Command, read_command
from utils.suite.file import RunName
from utils.suite.on_ray import RayPool
from utils.suite.recorded import add_records, read_recorded
from utils.suite.run import Job, Outcome

POLL_SEC = 0.5


def say(line: str) -> None:
    """Show a line; a screen that is closed stops nothing."""
    write_line(line, sys.stdout)


def run_all(
    jobs: Sequence[Job], pool: run.LocalPool | RayPool, stop: StopSignal, record: Callable[[Job], None]
) -> collections.Counter[str]:
    """Run all jobs, show when each begins and how it ends, and record it; returns how many ended in each way."""
    count = collections.Counter[str]()
    waiting = {job: run.log_size(job) for job in jobs}  # a log grows when its job begins, on any machine
    told = set[Job]()  # for which other processes are waited
    job_of = {pool.submit(job): job for job in jobs}
    bar = tqdm(total=len(jobs), unit="run", disable=None, dynamic_ncols=True, smoothing=0)
    while job_of:
        if stop.received:
            pool.stop()
        ended = concurrent.futures.wait(job_of, POLL_SEC, concurrent.futures.FIRST_COMPLETED).done
        for future in sorted(job_of, key=lambda future: future not in ended):  # the ended first: they make room
            job = job_of[future]
            if job in waiting and run.log_size(job) > waiting[job]:
                del waiting[job]
                say(f"begins   {job.name}")
            if future in ended:
                del job_of[future]
                outcome = outcome_of(future, stop.received)
                if outcome.status == "waits":
                    job_of[pool.submit(job)] = job  # behind the others
                    if job not in told:
                        told.add(job)
                        say(f"waits    {job.name}, for {outcome.detail}")
                    continue
                if outcome.status == "done":
                    try:
                        record(job)
                    except (UserError, OSError) as mistake:
                        outcome = Outcome("failed", f"complete, but not recorded: {mistake}")
                count[outcome.status] += 1
                bar.update()
                say(f"{outcome.status:<7}  {job.name}   [{count.total()} of {len(jobs)}]")
                if outcome.status == "failed":
                    say(textwrap.indent(f"{outcome.detail}\nlog: {job.log}", " " * 9))
    bar.close()
    return count


def outcome_of(future: concurrent.futures.Future[Outcome], stopping: bool) -> Outcome:
    """How a job ended; an error in one job does not stop the others."""
    error = future.exception()
    if error is None:
        return future.result()
    error = getattr(error, "cause", None) or error  # Ray's own message is long
    return Outcome("stopped") if stopping else Outcome("failed", f"{type(error).__name__}: {error}")


def matches(text: str, name: str) -> bool:
    """Whether a run's name has the text in it, as whole words and numbers: ``seed 1`` is not in ``seed 10``."""
    before, after = (r"\b" if text[place : place + 1].isalnum() else "" for place in (0, len(text) - 1))
    return re.search(before + re.escape(text) + after, name, re.IGNORECASE) is not None


def choose_runs(command: Command, cells: Sequence[file.Cell], seeds: Sequence[int]) -> list[tuple[file.Cell, int]]:
    """The cells and seeds that the command asks for, one seed of the whole table after another. Raises UserError."""
    runs = [(cell, seed) for seed in dict.fromkeys(command.seeds or seeds) for cell in cells]
    chosen = [(cell, seed) for cell, seed in runs if matches(command.only, str(cell.run(seed)))]
    if not chosen:
        name = str(runs[0][0].run(runs[0][1]))
        raise UserError(f"--only: expected words of a name such as {name!r}, got {command.only!r}")
    for cell, seed in chosen:  # before anything starts
        if differing := cell.differing(seed):
            raise UserError(f"{differing}; take another --suite_dir, or move the run folder elsewhere")
    return chosen


def flags_to_pass_on(command: Command, *, device: str, threads: int) -> list[str]:
    """The flags that say where and how, the same for every run."""
    words = ["--device", device, "--threads", str(threads)]
    for key, value in command.model_dump(include=PASSED_ON, exclude_defaults=True).items():
        words += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    return words


def print_plan(jobs: Sequence[Job], recorded: Collection[RunName]) -> None:
    """Print each run's command and state."""
    num_complete = 0
    for job in jobs:
        state = "goes on" if job.run_dir.exists() else "new"
        if job.name in recorded or is_complete(job.run_dir):
            state = "recorded" if job.name in recorded else "complete"
            num_complete += 1
        say(f"# {job.name}: {state}\n{command_line(job.argv)}")
    say(f"# {len(jobs)} runs, {num_complete} of them complete")


def run_suite(command: Command, argv: Sequence[str]) -> int:
    """Check everything, then run; returns the exit status. Raises UserError."""
    folder = file.suite_folder(command.suite, command.suite_dir)
    suite = file.read_suite(command.suite)
    cells = file.read_cells(suite, command.suite, folder)
    runs = choose_runs(command, cells, suite.seeds)  # a mistake in the file is told before a GPU is looked for
    recorded = read_recorded(command.records, cells) if command.records else set()
    gpus = [] if command.ray else run.visible_gpus(command.device)
    slots = run.slots(gpus, jobs=command.jobs, per_gpu=command.per_gpu, threads=command.threads or 1)
    threads = command.threads or (max(1, cpu_count() // len(slots)) if gpus else 1)
    passed_on = flags_to_pass_on(command, device="cuda" if gpus else command.device, threads=threads)
    jobs = [Job(cell.run(seed), cell.run_dir(seed), (*cell.argv(seed), *passed_on)) for cell, seed in runs]
    if command.dry_run:
        print_plan(jobs, recorded)
        return 0

    if command.records:
        file.make_folder(command.records)

    def record(*done: Job) -> None:
        if command.records:
            add_records(command.records, {job.name: job.run_dir for job in done if job.name not in recorded})

    record(*(job for job in jobs if is_complete(job.run_dir)))
    todo = [job for job in jobs if job.name not in recorded and not is_complete(job.run_dir)]
    pool: run.LocalPool | RayPool = run.LocalPool(slots)
    if command.ray and todo:
        pool = RayPool(command, num_cpus=len(slots) * threads, threads=threads)
    stop = StopSignal()  # after Ray, which takes SIGTERM for itself
    stop.defer()
    with contextlib.closing(pool):
        if todo and not run.has_data(todo):
            raise UserError("no run was started, because the data of some are missing or damaged")
        file.make_folder(folder)
        count = run_all(todo, pool, stop, record)
    return print_end(command, argv, count, num_before=len(jobs) - len(todo))


def print_end(command: Command, argv: Sequence[str], count: collections.Counter[str], *, num_before: int) -> int:
    """Print how many runs ended how, and what to do next; returns the exit status."""
    ends = ", ".join(f"{count[status]} {status}" for status in ("done", "failed", "stopped"))
    say(f"{num_before + count.total()} runs: {num_before} were complete before, {ends}")
    if count["stopped"]:
        say(f"stopped by a signal, the states are saved; to go on: {command_line(argv, 'utils/suite')}")
        return 3
    where = ["--suite_dir", str(command.suite_dir)] if command.suite_dir else []
    where += ["--records", str(command.records)] if command.records else []
    say(f"the table: {command_line(['--suite', str(command.suite), *where], 'utils/report')}")
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
