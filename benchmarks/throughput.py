"""Images a second, against the bare arithmetic of this machine; memory; a whole run by phases.

python -m benchmarks.throughput --quick --json throughput.json
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.lanes import ROOT, interleave, paired_ratio, set_threads, training_lanes
from utils.run_net import choose_device, describe_device

Row = dict[str, Any]  # of the table and the JSON: what, threads, median, min, max, n, and what it is compared with


def row(what: str, threads: int, values: Sequence[float], unit: str, **more: float) -> Row:
    """A line of the table."""
    spread = {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}
    return {"what": what, "threads": threads, "unit": unit} | spread | more


def loop_rows(data_dir: Path, threads: int, repeats: int) -> list[Row]:
    """Bare step, training and prediction of each network."""
    set_threads(threads)
    rows = []
    device = choose_device("auto")
    for model, count in (("conv", 40), ("wrn16_4", 2)):
        rates = interleave(training_lanes(model, data_dir, device, count=count), repeats)
        bare = f"{model}: bare step"
        for name, values in rates.items():
            compared = {} if "prediction" in name else {"of bare step": paired_ratio(rates, name, bare)}
            rows.append(row(name, threads, values, "images/s", **compared))
    return rows


def child_rates(kind: str, threads: int, data_dir: Path, *, processes: int, count: int) -> float:
    """Images a second of one lane in so many processes at once, together."""
    command = [sys.executable, "-m", "benchmarks.child", kind, str(threads), str(data_dir), str(count)]
    children = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    return sum(float(child.communicate()[0]) for child in children)


def process_rows(data_dir: Path, repeats: int) -> list[Row]:
    """The network written the plain way, and two processes of one thread against one of two."""
    lanes = {
        "conv: bare step, written the plain way": lambda: child_rates("plain", 1, data_dir, processes=1, count=200),
        "one process of two threads": lambda: child_rates("loop", 2, data_dir, processes=1, count=400),
        "two processes of one thread": lambda: child_rates("loop", 1, data_dir, processes=2, count=400),
    }
    rates = interleave(lanes, repeats)
    ratio = paired_ratio(rates, "two processes of one thread", "one process of two threads")
    plain, one, two = rates
    return [
        row(plain, 1, rates[plain], "images/s"),
        row(one, 2, rates[one], "images/s"),
        row(two, 2, rates[two], "images/s", **{"of one of two": ratio}),
    ]


def whole_run(data_dir: Path, threads: int, tasks_per_round: int) -> dict[str, float]:
    """Seconds of a one-epoch run on Coarse-CIFAR100 by phases, and its peak memory in GB."""
    with tempfile.TemporaryDirectory() as folder:
        words = f"--continual --epochs 1 --tasks_per_round {tasks_per_round} --threads {threads} --no_download --seed 0"
        paths = ["--data_config", "config/dataset/coarse_cifar100.yaml", "--hp_config", "config/hyperparam/conv.yaml"]
        where = ["--data_dir", str(data_dir.resolve()), "--run_dir", f"{folder}/run"]
        began = time.perf_counter()
        command = [sys.executable, "modelzoo.py", *words.split(), *paths, *where]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        wall_sec = time.perf_counter() - began
        summary = json.loads(Path(folder, "run", "summary.json").read_text())
        rounds = [json.loads(line) for line in Path(folder, "run", "rounds.jsonl").read_text().splitlines()]
    phases: dict[str, float] = {"imports and exit": wall_sec - summary["elapsed_sec"]}
    for record in rounds:
        for phase, seconds in record["seconds"].items():
            phases[phase] = phases.get(phase, 0.0) + seconds
    phases["figure and summary"] = wall_sec - sum(phases.values())
    other = wall_sec - phases["training"] - phases["prediction"]
    return phases | {
        "whole": wall_sec,
        "neither training nor prediction": other / wall_sec,
        "peak memory": summary["peak_mem_gb"],
    }


def run_rows(data_dir: Path, threads: int, tasks_per_round: int, repeats: int) -> list[Row]:
    """A whole run, several times."""
    runs = [whole_run(data_dir, threads, tasks_per_round) for _ in range(repeats)]
    units = {"peak memory": "GB", "neither training nor prediction": "of the whole"}
    name = f"one epoch, b = {tasks_per_round}"
    return [row(f"{name}: {key}", threads, [run[key] for run in runs], units.get(key, "s")) for key in runs[0]]


def processor() -> str:
    """The processor by name, where the system tells."""
    with contextlib.suppress(OSError):  # Linux alone has the file
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def environment() -> dict[str, str]:
    """Where the figures were taken."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "device": describe_device(choose_device("auto")),
        "cores": str(os.cpu_count()),
        "processor": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit.stdout.strip(),
    }


def table(rows: Sequence[Row]) -> str:
    """The rows, aligned."""
    lines = [f"{'':<52} {'threads':>7} {'median':>10} {'min':>10} {'max':>10}  n"]
    known = {"what", "threads", "unit", "median", "min", "max", "n"}
    for each in rows:
        numbers = " ".join(f"{each[key]:>10,.{0 if each[key] >= 100 else 3}f}" for key in ("median", "min", "max"))
        compared = "".join(f"   {value:.1%} {key}" for key, value in each.items() if key not in known)
        lines.append(f"{each['what']:<52} {each['threads']:>7} {numbers}  {each['n']} {each['unit']}{compared}")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data", help="where cifar100.npz is (./data)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows and the environment to it")
    parser.add_argument("--repeats", type=int, help="short turns of the loops (25; 10 if quick); whole runs get three")
    parser.add_argument(
        "--quick", action="store_true", help="within 10 minutes on two cores: one whole run of each kind"
    )
    parser.add_argument("--only", choices=("loops", "processes", "runs"), help="a part of it (all)")
    arguments = parser.parse_args()
    repeats = arguments.repeats or (10 if arguments.quick else 25)
    about = environment()
    print("\n".join(f"{key:<10} {value}" for key, value in about.items()))
    rows = []
    if arguments.only in (None, "loops"):
        for threads in (1, 2):
            rows += loop_rows(arguments.data_dir, threads, repeats)
    if arguments.only in (None, "processes"):
        rows += process_rows(arguments.data_dir, 1 if arguments.quick else 5)
    if arguments.only in (None, "runs"):
        for threads, tasks_per_round in ((1, 1), (2, 1)) if arguments.quick else ((1, 1), (2, 5)):
            rows += run_rows(arguments.data_dir, threads, tasks_per_round, 1 if arguments.quick else 3)
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps({"environment": about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
