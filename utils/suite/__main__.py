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
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # for python PROJECT/utils/suite, from any folder

from joblib import cpu_count
from tqdm import tqdm

from utils.command_line import command_line, exit_status
from utils.errors import StopSignal, UserError
from utils.files import make_folder
from utils.logger import say
from utils.run_folder import is_complete, settings_of
from utils.suite.command import PASSED_ON, Command, read_command
from utils.suite.file import Run, read_plan
from utils.suite.on_ray import RayPool
from utils.suite.run import POLL_SEC, LocalPool, Outcome, has_data, log_size, slots_of, visible_gpus


def run_all(runs: Sequence[Run], pool: LocalPool | RayPool, stop: StopSignal) -> collections.Counter[str]:
    """Do all runs, and show when each begins and how it ends; returns how many ended in each way."""
    count = collections.Counter[str]()
    waiting = {run: log_size(run) for run in runs}  # a log grows when its run begins, on any machine
    told = set[Run]()  # for which other processes are waited
    run_of = {pool.submit(run): run for run in runs}
    with tqdm(total=len(runs), unit="run", disable=None, dynamic_ncols=True, smoothing=0) as bar:
        while run_of:
            if stop.received:
                pool.stop()
            ended = concurrent.futures.wait(run_of, POLL_SEC, concurrent.futures.FIRST_COMPLETED).done
            for run in [run for run, size in waiting.items() if log_size(run) > size]:
                del waiting[run]
                say(f"begins   {run}")
            for future in ended:
                run, outcome = run_of.pop(future), outcome_of(future, stop.received)
                if outcome.status == "waits":
                    run_of[pool.submit(run)] = run  # behind the others
                    if run not in told:
                        told.add(run)
                        say(f"waits    {run}, for {outcome.detail}")
                    continue
                count[outcome.status] += 1
                bar.update()
                say(f"{outcome.status:<7}  {run}   [{count.total()} of {len(runs)}]")
                if outcome.status == "failed":
                    say(textwrap.indent(f"{outcome.detail}\nlog: {run.log}", " " * 9))
    return count


def outcome_of(future: concurrent.futures.Future[Outcome], stopping: bool) -> Outcome:
    """How a run ended; an error in one run does not stop the others."""
    error = future.exception()
    if error is None:
        return future.result()
    error = getattr(error, "cause", None) or error  # Ray's own message is long
    return Outcome("stopped") if stopping else Outcome("failed", f"{type(error).__name__}: {error}")


def matches(text: str, name: str) -> bool:
    """Whether a run's name has the text in it, as whole words and numbers: ``seed 1`` is not in ``seed 10``."""
    before, after = (r"\b" if text[place : place + 1].isalnum() else "" for place in (0, len(text) - 1))
    return re.search(before + re.escape(text) + after, name, re.IGNORECASE) is not None


def choose_runs(command: Command) -> list[Run]:
    """The runs that the command asks for, one seed of the whole table after another. Raises UserError."""
    plan = read_plan(command.suite, command.suite_dir)
    runs = [cell.with_seed(seed) for seed in dict.fromkeys(command.seeds or plan.suite.seeds) for cell in plan.cells]
    chosen = [run for run in runs if matches(command.only, str(run))]
    if not chosen:
        raise UserError(f"--only: expected words of a name such as {str(runs[0])!r}, got {command.only!r}")
    for run in chosen:  # before anything starts
        begun = is_complete(run.run_dir) or (run.run_dir / "config.yaml").exists()
        if begun and (differing := run.settings.differences(settings_of(run.run_dir))):
            problem = f"not the suite's settings, which differ in {', '.join(differing)}"
            raise UserError(f"{run.run_dir}: {problem}; take another --suite_dir, or move the run folder elsewhere")
    return chosen


def flags_to_pass_on(command: Command, *, device: str, threads: int) -> list[str]:
    """The flags that say where and how, the same for every run."""
    words = ["--device", device, "--threads", str(threads)]
    for key, value in command.model_dump(include=PASSED_ON, exclude_defaults=True).items():
        words += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    return words


def print_plan(runs: Sequence[Run]) -> None:
    """Print each run's command and state."""
    states = ["complete" if is_complete(run.run_dir) else "goes on" if run.run_dir.exists() else "new" for run in runs]
    for run, state in zip(runs, states, strict=True):
        say(f"# {run}: {state}\n{command_line(run.argv)}")
    say(f"# {len(runs)} runs, {states.count('complete')} of them complete")


def check_data(runs: Sequence[Run], stop: StopSignal) -> None:
    """Load the data of each benchmark file, for the run with most of its tasks. Raises UserError if any are missing."""
    # By benchmark file.
    largest = {run.argv[1]: run for run in sorted(runs, key=lambda run: len(run.settings.benchmark.tasks))}
    missing = [path for path, run in largest.items() if not has_data(run, lambda: stop.received)]
    if stop.received:
        raise UserError("stopped by a signal before any run was started", exit_status=3)
    if missing:
        raise UserError(f"no run was started, because data are missing or damaged: {', '.join(missing)}")


def run_suite(command: Command, argv: Sequence[str]) -> int:
    """Check everything, then run; returns the exit status. Raises UserError."""
    chosen = choose_runs(command)  # a mistake in the file is told before a GPU is looked for
    gpus = [] if command.ray else visible_gpus(command.device)
    slots = slots_of(gpus, jobs=command.jobs, per_gpu=command.per_gpu, threads=command.threads or 1)
    threads = command.threads or (max(1, cpu_count() // len(slots)) if gpus else 1)
    passed_on = flags_to_pass_on(command, device="cuda" if gpus else command.device, threads=threads)
    runs = [run._replace(flags=(*run.flags, *passed_on)) for run in chosen]
    if command.dry_run:
        print_plan(runs)
        return 0

    todo = [run for run in runs if not is_complete(run.run_dir)]
    by_ray = command.ray and todo
    pool = RayPool(command, num_cpus=len(slots) * threads, threads=threads) if by_ray else LocalPool(slots)
    stop = StopSignal()  # after Ray, which takes SIGTERM for itself
    stop.defer()
    with contextlib.closing(pool):
        check_data(todo, stop)
        for run in todo:
            make_folder(run.folder)
        count = run_all(todo, pool, stop)
    return print_end(command, argv, count, num_before=len(runs) - len(todo))


def print_end(command: Command, argv: Sequence[str], count: collections.Counter[str], *, num_before: int) -> int:
    """Print how many runs ended how, and what to do next; returns the exit status."""
    ends = ", ".join(f"{count[status]} {status}" for status in ("done", "failed", "stopped"))
    say(f"{num_before + count.total()} runs: {num_before} were complete before, {ends}")
    if count["stopped"]:
        say(f"stopped by a signal, the states are saved; to go on: {command_line(argv, 'utils/suite')}")
        return 3
    where = ["--suite_dir", str(command.suite_dir)] if command.suite_dir else []
    say(f"the table: {command_line(['--suite', str(command.suite), *where], 'utils/report')}")
    return 1 if count["failed"] else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    return exit_status("utils.suite", lambda: run_suite(read_command(words), words))


if __name__ == "__main__":
    sys.exit(main())
