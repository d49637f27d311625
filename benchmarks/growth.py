"""Whether a round costs more as the zoo grows: CIFAR-100 as 50 tasks of 2 classes, one epoch, five tasks a round.

python -m benchmarks.growth

Rounds 40 to 49 of one run take turns with rounds 5 to 14 of an equal one, each stopped while the other goes on, so that
a machine that slows down slows both.
"""

import argparse
import contextlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.lanes import ROOT

EARLY, LATE, COUNT = 5, 40, 10  # first rounds, and how many are compared


class Run:
    """A run of 50 rounds that stands still but for the time of ``next_round``."""

    def __init__(self, folder: Path, name: str, *, data_dir: Path, threads: int):
        benchmark = folder / "cifar100_pairs.yaml"
        benchmark.write_text(yaml.safe_dump({"dataset": "cifar100", "tasks": [[2 * i, 2 * i + 1] for i in range(50)]}))
        words = (
            f"--continual --epochs 1 --threads {threads} --no_download --seed 0 --hp_config config/hyperparam/conv.yaml"
        )
        paths = ["--data_config", benchmark, "--run_dir", folder / name, "--data_dir", data_dir.resolve()]
        command = [sys.executable, "modelzoo.py", *words.split(), *map(str, paths)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.process.send_signal(signal.SIGSTOP)

    def next_round(self) -> float:
        """Seconds until the next round is done."""
        assert self.process.stdout is not None
        began = time.perf_counter()
        self.process.send_signal(signal.SIGCONT)
        line = self.process.stdout.readline()
        self.process.send_signal(signal.SIGSTOP)
        if not line.startswith("round"):
            raise SystemExit(f"the run ended early: {line}")
        return time.perf_counter() - began

    def peak_mem_gb(self) -> float:
        """Most memory that it has held so far (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def main() -> None:
    """Grow to 50 rounds, and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data", help="where cifar100.npz is (./data)")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as at_the_end:
        late_run, early_run = (
            Run(Path(folder), name, data_dir=arguments.data_dir, threads=arguments.threads) for name in ("a", "b")
        )
        for run in (late_run, early_run):
            at_the_end.callback(run.process.kill)
        for _ in range(EARLY):
            early_run.next_round()
        memory = []
        for _ in range(LATE):
            late_run.next_round()
            memory.append(late_run.peak_mem_gb())
        pairs = [(early_run.next_round(), late_run.next_round()) for _ in range(COUNT)]
        memory.append(late_run.peak_mem_gb())
    early, late = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    ratio = statistics.median(b / a for a, b in pairs)
    print(f"median seconds of rounds 5 to 14: {early:.3f}, of rounds 40 to 49: {late:.3f}, paired ratio {ratio:.3f}")
    print(f"peak memory after round 9: {memory[9]:.3f} GB, after the last: {memory[-1]:.3f} GB, ", end="")
    print(f"ratio {memory[-1] / memory[9]:.3f}")


if __name__ == "__main__":
    main()
