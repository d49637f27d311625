"""What is timed: each lane does so many minibatches of one kind of work, again and again."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from datasets.data import Task
from modelzoo import RunningAverage, learner_examples, load_tasks, new_learner, new_training
from net.multihead import MultiHead
from net.zoo import PREDICTION_BATCH
from utils.config import Grow, read_command
from utils.run_net import set_up_process, synchronise

ROOT = Path(__file__).resolve().parent.parent
BATCH = 16
NUM_HEADS = 5

Lane = Callable[[], float]  # does its work once; gives images a second


def command(model: str, data_dir: Path, *words: str) -> Grow:
    """The settings of a run on Coarse-CIFAR100 with five tasks a learner."""
    recipe = ROOT / "config" / "hyperparam" / ("conv.yaml" if model == "conv" else "wrn.yaml")
    benchmark = ROOT / "config" / "dataset" / "coarse_cifar100.yaml"
    paths = ["--data_config", str(benchmark), "--hp_config", str(recipe), "--data_dir", str(data_dir)]
    grow = read_command(["--no_download", *paths, *words])
    assert isinstance(grow, Grow), "no zoo is used here"
    return grow


def program_loop(grow: Grow, tasks: Sequence[Task], *, augmented: bool) -> Iterator[int]:
    """The program's own training, endless for the purpose: a minibatch at each step."""
    settings = grow.settings.model_copy(update={"epochs": 10_000})
    if not augmented:
        recipe = settings.recipe.model_copy(update={"augment": "none"})
        settings = settings.model_copy(update={"recipe": recipe})
    chosen = list(range(NUM_HEADS))
    averages = {task_id: RunningAverage.of(tasks[task_id]) for task_id in chosen}
    learner = new_learner(0, chosen, tasks, settings)
    examples = learner_examples(chosen[-1], chosen, tasks, averages, settings)
    return new_training(0, learner, examples, settings, compiled=grow.options.compile).steps()


def bare_step(grow: Grow, tasks: Sequence[Task]) -> Iterator[int]:
    """Forward, loss, backward, update on one resident minibatch, and nothing else."""
    learner = new_learner(0, list(range(NUM_HEADS)), tasks, grow.settings).train()
    device = learner.heads.weight.device
    recipe = grow.settings.recipe
    optimizer = torch.optim.SGD(
        learner.parameters(), lr=recipe.lr, momentum=0.9, nesterov=True, weight_decay=recipe.l2_reg, fused=True
    )
    images = tasks[0].train.images[tasks[0].train.rows[:BATCH]]
    heads = torch.arange(BATCH, device=device) % NUM_HEADS
    for done in itertools.count(1):
        loss = F.cross_entropy(learner(images, heads), heads)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield done


def timed(steps: Iterator[int], *, count: int, batch: int, device: torch.device) -> Lane:
    """A lane of ``count`` steps of ``batch`` images."""

    def run() -> float:
        synchronise(device)
        began = time.perf_counter()
        for _ in itertools.islice(steps, count):
            pass
        synchronise(device)
        return count * batch / (time.perf_counter() - began)

    return run


def predictions(learner: MultiHead, tasks: Sequence[Task]) -> Iterator[int]:
    """Class probabilities of one resident batch."""
    images = tasks[0].train.images[tasks[0].train.rows[:PREDICTION_BATCH]]
    for done in itertools.count(1):
        learner.probabilities(images, 0)
        yield done


def training_lanes(model: str, data_dir: Path, device: torch.device, *, count: int) -> dict[str, Lane]:
    """The lanes of one network: bare step, program's loop with and without augmentation, prediction."""
    grow = command(model, data_dir)
    tasks = load_tasks(grow.settings, grow.options, device)
    learner = new_learner(0, list(range(NUM_HEADS)), tasks, grow.settings)
    steps = {
        f"{model}: bare step": bare_step(grow, tasks),
        f"{model}: training, not augmented": program_loop(grow, tasks, augmented=False),
        f"{model}: training, augmented": program_loop(grow, tasks, augmented=True),
    }
    lanes = {name: timed(each, count=count, batch=BATCH, device=device) for name, each in steps.items()}
    predicting = predictions(learner, tasks)
    batches = max(1, count * BATCH // PREDICTION_BATCH)
    lanes[f"{model}: prediction"] = timed(predicting, count=batches, batch=PREDICTION_BATCH, device=device)
    return lanes


def interleave(lanes: Mapping[str, Lane], repeats: int) -> dict[str, list[float]]:
    """Each lane's images a second, in turn, so that a machine that slows down slows all of them; one turn warms up."""
    rates: dict[str, list[float]] = {name: [] for name in lanes}
    for turn in range(repeats + 1):
        for name, lane in lanes.items():
            rate = lane()
            if turn:
                rates[name].append(rate)
    return rates


def paired_ratio(rates: Mapping[str, Sequence[float]], name: str, base: str) -> float:
    """Median over the turns of one lane's rate to another's in the same turn."""
    return statistics.median(a / b for a, b in zip(rates[name], rates[base], strict=True))


def set_threads(num_threads: int) -> None:
    """Threads of this process from now on."""
    set_up_process(num_threads)
