"""Measure images per second against bare training steps, a whole run by phases, and rounds as the zoo grows.

python -m benchmarks.throughput --quick
"""

import argparse
import functools
import itertools
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from tabulate import tabulate

from datasets.build_dataset import build_dataset
from datasets.data import Task
from modelzoo import METHOD_CLASSES, ModelZoo
from net.average import PREDICTION_BATCH
from net.multihead import MultiHead
from utils.command_line import Grow, read_command
from utils.config import Options, Settings
from utils.device import choose_device, describe_device, set_up_process, synchronise
from utils.process import ROOT, commit
from utils.records import Record
from utils.run_folder import read_rounds, read_summary

BATCH = 16
CHOSEN = [0, 1, 2, 3, 4]  # a learner's tasks
COARSE = "--data_config config/dataset/coarse_cifar100.yaml"
Lane = Callable[[], float]  # does its work for a turn; returns images a second
Row = tuple[str, int, float, float, float, int, str]


def row(what: str, threads: int, values: Sequence[float], unit: str) -> Row:
    """A line of the table: median, least, most and number of the values."""
    return what, threads, statistics.median(values), min(values), max(values), len(values), unit


def timed(steps: Iterator[object], *, count: int, batch: int, device: torch.device) -> float:
    """Do so many steps of ``batch`` images; returns images a second."""
    synchronise(device)
    began = time.perf_counter()
    for _ in itertools.islice(steps, count):
        pass
    synchronise(device)
    return count * batch / (time.perf_counter() - began)


def program_steps(settings: Settings, tasks: Sequence[Task], *, augment: str) -> Iterator[object]:
    """The program's own training of one learner."""
    recipe = settings.recipe.model_copy(update={"augment": augment})
    zoo = METHOD_CLASSES[settings.method](tasks, settings.model_copy(update={"recipe": recipe}))
    zoo.meet_tasks()
    return iter(zoo.begin_training(CHOSEN).steps())


def bare_steps(net: MultiHead, images: torch.Tensor) -> Iterator[object]:
    """Forward, loss, backward, update on one minibatch that is there already, and nothing else."""
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-5, fused=True)
    heads = torch.arange(BATCH, device=images.device) % len(CHOSEN)
    for done in itertools.count():
        loss = F.cross_entropy(net(images, heads), heads)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield done


def training_lanes(recipe: str, data_dir: Path, device: torch.device, *, count: int) -> dict[str, Lane]:
    """The lanes of a recipe with its flags: bare step, training with and without augmentation, prediction."""
    words = f"{COARSE} --epochs 10000 --no_download --hp_config config/hyperparam/{recipe}".split()
    command = read_command([*words, "--data_dir", str(data_dir)])
    assert isinstance(command, Grow), "no zoo is used here"
    tasks = build_dataset(command.settings, command.options, device)
    bare, learner = (ModelZoo(tasks, command.settings).build_learner(CHOSEN) for _ in range(2))
    images = tasks[0].train.images[tasks[0].train.rows[:PREDICTION_BATCH]]
    training = {
        "bare step": bare_steps(bare.train(), images[:BATCH]),
        "training, not augmented": program_steps(command.settings, tasks, augment="none"),
        "training, augmented": program_steps(command.settings, tasks, augment="auto"),
    }
    turn = functools.partial(timed, device=device)
    lanes = {name: functools.partial(turn, steps, count=count, batch=BATCH) for name, steps in training.items()}
    predictions = (learner.probabilities(images, 0) for _ in itertools.count())
    num_batches = max(1, count * BATCH // PREDICTION_BATCH)
    lanes["prediction"] = functools.partial(turn, predictions, count=num_batches, batch=PREDICTION_BATCH)
    return {f"{command.settings.recipe.model}: {name}": lane for name, lane in lanes.items()}


def interleave(lanes: Mapping[str, Lane], repeats: int) -> dict[str, list[float]]:
    """Each lane's images a second, in turn, so that a machine that slows down slows all of them; one turn warms up."""
    turns = [{name: lane() for name, lane in lanes.items()} for _ in range(repeats + 1)][1:]
    return {name: [turn[name] for turn in turns] for name in lanes}


def loop_rows(data_dir: Path, threads: int, repeats: int) -> list[Row]:
    """Bare step, training and prediction of each network, training also in parts of the bare step of the same turn."""
    device = set_up_process(Options(threads=threads))
    rows = []
    one_network = "conv.yaml --model resnet18_20 --continual --method sgd"
    for recipe, count in (("conv.yaml", 40), ("wrn.yaml", 2), (one_network, 10)):
        rates = interleave(training_lanes(recipe, data_dir, device, count=count), repeats)
        (_, bare), *others = rates.items()
        rows += [row(name, threads, values, "images/s") for name, values in rates.items()]
        for name, values in others[:2]:
            ratios = [value / base for value, base in zip(values, bare, strict=True)]
            rows.append(row(name, threads, ratios, "of the bare step"))
    return rows


def grow(run_dir: Path, words: str, *paths: str | Path) -> tuple[float, list[Record]]:
    """Grow a zoo for one epoch in a process of its own; returns the seconds that it took, and its rounds."""
    flags = f"--continual --epochs 1 --no_download --seed 0 --hp_config config/hyperparam/conv.yaml {words}".split()
    began = time.perf_counter()
    command = [sys.executable, "modelzoo.py", *flags, *map(str, paths), "--run_dir", str(run_dir)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began, read_rounds(run_dir)


def whole_run(data_dir: Path, folder: Path, threads: int, tasks_per_round: int) -> list[Row]:
    """Seconds of a one-epoch run on Coarse-CIFAR100 by phases, and its peak memory, in GB."""
    run_dir = folder / f"b{tasks_per_round}-{threads}"
    words = f"{COARSE} --tasks_per_round {tasks_per_round} --threads {threads} --data_dir"
    whole_sec, rounds = grow(run_dir, words, data_dir.resolve())
    summary = read_summary(run_dir)
    names = dict.fromkeys(phase for record in rounds for phase in record.seconds)
    phases = {phase: sum(record.seconds.get(phase, 0.0) for record in rounds) for phase in names}
    phases |= {"imports and exit": whole_sec - summary.elapsed_sec, "whole": whole_sec, "GB": summary.peak_mem_gb}
    return [row(f"one epoch, b = {tasks_per_round}: {key}", threads, [value], "") for key, value in phases.items()]


def growth_rows(folder: Path, num_tasks: int) -> list[Row]:
    """Seconds of rounds early, in between and late, with many tasks of two classes of noise, 22 x 22 pixels."""
    random, classes = np.random.default_rng(0), np.arange(2 * num_tasks)
    train, test = (random.integers(0, 256, (count * len(classes), 22, 22), np.uint8) for count in (4, 2))
    np.savez(folder / "noise.npz", x_train=train, y_train=classes.repeat(4), x_test=test, y_test=classes.repeat(2))
    benchmark = {"dataset": "npz", "root": "noise.npz", "tasks": classes.reshape(-1, 2).tolist()}
    (folder / "noise.yaml").write_text(yaml.safe_dump(benchmark))
    _, rounds = grow(folder / "noise", "--threads 1 --data_config", folder / "noise.yaml")
    rows = []
    for middle in (5, num_tasks // 5, num_tasks - 10):
        near = rounds[middle - 3 : middle + 4]  # the first rounds draw the figure
        for phase in ("training", "prediction", "writing"):
            seconds = [record.seconds[phase] for record in near]
            rows.append(row(f"{num_tasks} tasks, around round {middle}: {phase}", 1, seconds, "s"))
    return rows


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data", help="where cifar100.npz is (./data)")
    parser.add_argument("--quick", action="store_true", help="10 turns of the loops in place of 25, and a shorter run")
    parser.add_argument("--only", choices=("loops", "runs", "growth"), help="a part of it (all)")
    flags = parser.parse_args()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, commit {commit()}"
    print(f"{describe_device(choose_device('auto'))}, {platform.machine()}, {versions}")
    rows: list[Row] = []
    if flags.only in (None, "loops"):
        for threads in (1, 2):
            rows += loop_rows(flags.data_dir, threads, 10 if flags.quick else 25)
    with tempfile.TemporaryDirectory() as folder:
        if flags.only in (None, "runs"):
            for threads, tasks_per_round in ((1, 1), (2, 1 if flags.quick else 5)):
                rows += whole_run(flags.data_dir, Path(folder), threads, tasks_per_round)
        if flags.only in (None, "growth"):
            rows += growth_rows(Path(folder), 50 if flags.quick else 500)
    print(tabulate(rows, ["", "threads", "median", "min", "max", "n", ""], floatfmt=",.3f"))


if __name__ == "__main__":
    main()
