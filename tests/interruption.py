"""Kill real runs at random instants, resume them, and compare with runs that were left alone, bit for bit.

python -m tests.interruption                         20 kills in each mode, some twenty minutes
python -m tests.interruption --kills 5 --seed 3
"""

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.small_runs import digits_flags, results_of, start, wait_for, without_progress
from utils.config import METHODS

MODES = {
    "continual": ["--continual"],
    "multi-task": ["--tasks_per_round", "2"],
    "limited replay": ["--continual", "--replay_frac", "0.2"],
    **{method: ["--continual", "--method", method] for method in METHODS if method != "modelzoo"},
}


def kill_at_random(flags, run_dir, *, work_sec, num_kills, seed):
    """Start the run again and again, and kill it so many times, or until it is done; gives the number of kills.

    An instant lies before or after the process touches its folder, or, mostly, after it has trained on. It is so
    chosen that the kills are spread over the whole of the work.
    """
    instants = random.Random(seed)
    flags = [*flags, "--run_dir", run_dir, "--resume", "--checkpoint_every_sec", "0.05"]
    for num_done in range(num_kills):
        before = newest_change(run_dir)
        process = start(*flags)
        kind = instants.random()
        if kind < 0.1:
            time.sleep(instants.uniform(1, 5))
        else:
            files = "env.json" if kind < 0.3 else "checkpoint/state_*.pt"
            while process.poll() is None and newest_change(run_dir, files) <= before:
                time.sleep(0.002)
            time.sleep(instants.random() * (1.0 if kind < 0.3 else 1.5 * work_sec / num_kills))
        process.kill()
        out, err = process.communicate()
        if process.returncode == 0:
            return num_done
        assert process.returncode == -signal.SIGKILL, out + err
        assert not ((run_dir / "run.json").exists() and (run_dir / "checkpoint").exists())
    return num_kills


def newest_change(folder, files="**/*"):
    """When a file of the folder was last changed, nanoseconds; 0 where there is none."""
    changes = [0]
    for path in folder.glob(files):
        with contextlib.suppress(FileNotFoundError):  # removed in the meantime
            changes.append(path.stat().st_mtime_ns)
    return max(changes)


def compare(folder, mode_flags, *, num_kills, seed):
    """Do a run on the digits without kills, and with so many, in several runs if one is done before.

    Returns:
        The number of runs with kills, and whether the results of all are equal.
    """
    flags = [*digits_flags(samples=None, epochs=2), *mode_flags]
    process = start(*flags, "--run_dir", folder / "whole", "--checkpoint_every_sec", "0.05")
    wait_for(process, lambda: any((folder / "whole").glob("checkpoint/state_*.pt")))
    began = time.monotonic()
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    work_sec = time.monotonic() - began
    num_done, runs = 0, []
    while num_done < num_kills:
        runs.append(folder / f"killed_{len(runs)}")
        left = num_kills - num_done
        num_done += kill_at_random(flags, runs[-1], work_sec=work_sec, num_kills=left, seed=seed + num_done)
        process = start(*flags, "--run_dir", runs[-1], "--resume")
        out, err = process.communicate()
        assert (process.returncode, without_progress(err)) == (0, []), out + err
    whole = results_of(folder / "whole")
    return len(runs), all(results_of(run_dir) == whole for run_dir in runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    num_differing = 0
    for mode, mode_flags in MODES.items():
        with tempfile.TemporaryDirectory() as folder:
            num_runs, equal = compare(Path(folder), mode_flags, num_kills=chosen.kills, seed=chosen.seed)
        num_differing += not equal
        verdict = "equal" if equal else "NOT EQUAL"
        print(
            f"{mode}: killed {chosen.kills} times, in {num_runs} run(s); numbers and weights are {verdict}", flush=True
        )
    return 1 if num_differing else 0


if __name__ == "__main__":
    sys.exit(main())
