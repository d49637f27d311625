"""Measure images per second against bare training steps, and seconds of rounds as the zoo grows.

python -m benchmarks.throughput --quick
"""

import argparse
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice, repeat
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from tabulate import tabulate
from torch import nn

from datasets.build_dataset import build_dataset
from modelzoo import METHOD_CLASSES
from net.average import PREDICTION_BATCH
from net.dropout import Dropout
from net.multihead import MultiHead
from utils.command_line import Grow, read_command
from utils.config import Options
from utils.device import choose_device, describe_device, seconds_each, set_up_process
from utils.program import ROOT, commit
from utils.run_folder import read_rounds
from utils.run_net import Training

BATCH = 16
CHOSEN = [0, 1, 2, 3, 4]  # a learner's tasks
RECIPES = {  # with their flags, and how many steps a turn has
    "conv": ("config/hyperparam/conv.yaml", 20),
    "wrn16_4": ("config/hyperparam/wrn.yaml", 2),
    "resnet18_20": ("config/hyperparam/conv.yaml --model resnet18_20 --continual --method sgd", 10),
}
Lane = tuple[Iterator[object], int]  # steps, and how many images a step has


def summarise(values: pd.DataFrame, unit: str, threads: int) -> pd.DataFrame:
    """A line for each column of measurements: their median, least, most and number."""
    found = {"median": values.median(), "min": values.min(), "max": values.max(), "n": len(values)}
    return pd.DataFrame({"threads": threads, **found, "unit": unit})


def bare_steps(training: Training[MultiHead], images: torch.Tensor, *, own_dropout: bool = True) -> Iterator[object]:
    """Forward, loss, backward, update on one prepared minibatch, and nothing else; or torch's dropout."""
    net = training.network
    for part in net.modules():
        if isinstance(part, Dropout) and not own_dropout:
            part.__class__ = nn.Dropout  # type: ignore[assignment]
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, nesterov=True, weight_decay=1e-5, fused=True)
    heads = torch.arange(BATCH, device=images.device) % len(CHOSEN)
    while True:
        with training.autocast:
            loss = F.cross_entropy(net(images, heads), heads)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss


def training_lanes(recipe: str, precision: str, data_dir: Path, device: torch.device) -> dict[str, Lane]:
    """What is measured of a recipe, on Coarse-CIFAR100: bare step, training, augmented or not, and prediction."""
    words = f"--epochs 10000 --no_download --precision {precision} --hp_config {recipe}".split()
    command = read_command([*words, "--data_dir", str(data_dir)])
    assert isinstance(command, Grow), "no zoo is used here"
    settings, tasks = command.settings, build_dataset(command.settings, command.options, device)

    def training(augment: str) -> Training[MultiHead]:
        """The program's own training of one learner."""
        recipe = settings.recipe.model_copy(update={"augment": augment})
        method = METHOD_CLASSES[settings.method](tasks, settings.model_copy(update={"recipe": recipe}))
        method.meet_tasks()
        return method.begin_training(CHOSEN)

    images, learner = tasks[0].train.images[tasks[0].train.rows[:PREDICTION_BATCH]], training("none").network
    predictions = (learner.probabilities(images, 0) for _ in repeat(None))
    lanes = {
        "bare step": (bare_steps(training("none"), images[:BATCH]), BATCH),
        "training, not augmented": (iter(training("none").steps()), BATCH),
        "training, augmented": (iter(training("auto").steps()), BATCH),
        "prediction": (predictions, PREDICTION_BATCH),
    }
    if settings.recipe.dropout > 0:
        lanes["bare step, torch's dropout"] = bare_steps(training("none"), images[:BATCH], own_dropout=False), BATCH
    return lanes


def one_turn(lanes: dict[str, Lane], count: int, device: torch.device) -> dict[str, float]:
    """Each lane's images a second over a few steps, in turn, so that a machine that slows down slows all of them."""
    return {name: batch / seconds_each(islice(steps, count), device) for name, (steps, batch) in lanes.items()}


def loops(data_dir: Path, precision: str, threads: int, repeats: int) -> list[pd.DataFrame]:
    """Bare step, training and prediction of each network; training as a fraction of the bare step too."""
    device = set_up_process(Options(threads=threads))
    tables = []
    for model, (recipe, count) in RECIPES.items():
        lanes = training_lanes(recipe, precision, data_dir, device)
        rates = pd.DataFrame([one_turn(lanes, count, device) for _ in range(repeats + 1)][1:])  # one turn warms up
        ratios = rates.filter(like="training").div(rates["bare step"], axis=0)
        for values, unit in ((rates, "images/s"), (ratios, "of the bare step")):
            tables.append(summarise(values.add_prefix(f"{model}: "), unit, threads))
    return tables


def growth(num_tasks: int) -> list[pd.DataFrame]:
    """Seconds of rounds early, in between and late, with many small tasks."""
    flags = "--continual --epochs 1 --samples 4 --validation 0.01 --threads 1 --hp_config config/hyperparam/conv.yaml"
    with tempfile.TemporaryDirectory() as folder:
        benchmark, run_dir = Path(folder, "digits.yaml"), Path(folder, "run")
        benchmark.write_text(f"dataset: digits\ntasks: {[[0, 1]] * num_tasks}")
        paths = ["--data_config", str(benchmark), "--run_dir", str(run_dir)]
        command = [sys.executable, "modelzoo.py", *flags.split(), *paths]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        seconds = pd.DataFrame([record.seconds for record in read_rounds(run_dir)])
    phases = seconds[["training", "prediction", "writing"]].add_prefix(f"{num_tasks} tasks: ")
    middles = (5, num_tasks // 5, num_tasks - 10)  # the first rounds draw the figure
    return [summarise(phases[m - 3 : m + 4].add_suffix(f", around round {m}"), "s", threads=1) for m in middles]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__)
    parser.add_argument("--data_dir", type=Path, default=ROOT / "data", help="where cifar100.npz is (./data)")
    parser.add_argument("--quick", action="store_true", help="10 turns of the loops, not 25; 50 tasks, not 500")
    parser.add_argument("--precision", default="fp32", help="of the loops (fp32)")
    parser.add_argument("--only", choices=("loops", "growth"), help="a part of it (all)")
    flags = parser.parse_args()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, commit {commit()}"
    print(f"{describe_device(choose_device('auto'))}, {platform.machine()}, {versions}")
    tables = []
    if flags.only != "growth":
        for threads in (1, 2):
            tables += loops(flags.data_dir, flags.precision, threads, 10 if flags.quick else 25)
    if flags.only != "loops":
        tables += growth(50 if flags.quick else 500)
    print(tabulate(pd.concat(tables), headers="keys", floatfmt=",.3f"))


if __name__ == "__main__":
    main()
