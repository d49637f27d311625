"""Whether a round costs more as the zoo grows: CIFAR-100 as 50 tasks of 2 classes, one epoch, five tasks a round.

python -m benchmarks.growth
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.lanes import ROOT

EARLY, LATE = range(5, 15), range(40, 50)


def grow(folder: Path, data_dir: Path, *, num_rounds: int, threads: int) -> tuple[list[dict[str, Any]], float]:
    """The rounds of a run, and its peak memory in GB."""
    benchmark = folder / "cifar100_pairs.yaml"
    benchmark.write_text(yaml.safe_dump({"dataset": "cifar100", "tasks": [[2 * i, 2 * i + 1] for i in range(50)]}))
    run_dir = folder / f"run{num_rounds}"
    words = f"--continual --epochs 1 --num_rounds {num_rounds} --threads {threads} --no_download --seed 0"
    paths = ["--data_config", benchmark, "--hp_config", "config/hyperparam/conv.yaml", "--run_dir", run_dir]
    command = [sys.executable, "modelzoo.py", *words.split(), *map(str, paths), "--data_dir", str(data_dir.resolve())]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    rounds = [json.loads(line) for line in (run_dir / "rounds.jsonl").read_text().splitlines()]
    return rounds, json.loads((run_dir / "summary.json").read_text())["peak_mem_gb"]


def main() -> None:
    """Grow to 50 rounds and to 10, and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data", help="where cifar100.npz is (./data)")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds, memory = grow(Path(folder), arguments.data_dir, num_rounds=50, threads=arguments.threads)
        _, early_memory = grow(Path(folder), arguments.data_dir, num_rounds=10, threads=arguments.threads)
    print(f"median seconds of rounds {'5 to 14':>10} {'40 to 49':>10}")
    phases = {phase: [record["seconds"].get(phase, 0.0) for record in rounds] for phase in rounds[-1]["seconds"]}
    phases["whole"] = [sum(record["seconds"].values()) for record in rounds]
    for phase, seconds in phases.items():
        early, late = (statistics.median(seconds[index] for index in part) for part in (EARLY, LATE))
        print(f"{phase:<24} {early:>10.3f} {late:>10.3f}   ratio {late / early:.3f}")
    print(f"peak memory of 10 rounds: {early_memory:.3f} GB, of 50: {memory:.3f} GB, ratio {memory / early_memory:.3f}")


if __name__ == "__main__":
    main()
