"""How large a run will be, before it is done: the rounds' sizes, and the time from a few timed steps."""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from utils.config import Settings

STEPS_TIMED = 20
STEPS_TO_WARM_UP = 3


class TaskSize(NamedTuple):
    """Examples of a task."""

    train: float
    test: float


class RoundSize(NamedTuple):
    """A round's learner: its number of tasks, its training images an epoch, and the images predicted."""

    num_tasks: int
    train: int
    predicted: int

    def num_minibatches(self, settings: Settings) -> int:
        """Minibatches of its training."""
        return settings.epochs * math.ceil(self.train / settings.recipe.batch)


def plan_rounds(sizes: Sequence[TaskSize], settings: Settings) -> list[RoundSize]:
    """How large each round will be: exact where tasks are of one size, else the mean over uniform draws."""
    plan = []
    for round_id in range(settings.num_rounds):
        new = sizes[round_id] if settings.continual else TaskSize(0, 0)
        past = sizes[:round_id] if settings.continual else sizes
        num_drawn = _num_drawn(round_id, len(past), settings)
        drawn = TaskSize(*(num_drawn * statistics.fmean(part) for part in zip(*past, strict=True))) if past else new
        replayed = settings.replay_frac * drawn.train if num_drawn else 0.0
        repeated = max(replayed, new.train) if num_drawn and settings.replay_frac < 1 else replayed
        tested = new.test + (drawn.test if num_drawn else 0.0)
        num_tasks = num_drawn + settings.continual
        plan.append(RoundSize(num_tasks, round(new.train + repeated), round(new.train + replayed + tested)))
    return plan


def _num_drawn(round_id: int, num_past: int, settings: Settings) -> int:
    if settings.warm_start and round_id == 0:
        return num_past
    if settings.replay_frac == 0:
        return 0
    return min(settings.tasks_per_round - settings.continual, num_past)


def plan_table(plan: Sequence[RoundSize]) -> str:
    """The plan, a line for each run of rounds of one size."""
    lines = ["rounds       tasks   training images an epoch   images predicted"]
    for size, rounds in itertools.groupby(range(len(plan)), key=lambda round_id: plan[round_id]):
        first, *_, last = [*rounds] * 2
        which = f"{first}" if first == last else f"{first} to {last}"
        lines.append(f"{which:<10}  {size.num_tasks:>6}   {size.train:>24,}   {size.predicted:>16,}")
    return "\n".join(lines)


def seconds_each(steps: Iterable[object], synchronise: Callable[[], None]) -> float:
    """Median seconds of a step, of a few; ``synchronise`` waits until the device has done it."""
    seconds = []
    began = time.perf_counter()
    for _ in itertools.islice(steps, STEPS_TO_WARM_UP + STEPS_TIMED):
        synchronise()
        now = time.perf_counter()
        seconds.append(now - began)
        began = now
    return statistics.median(seconds[STEPS_TO_WARM_UP:] or seconds)


def time_estimate(plan: Sequence[RoundSize], settings: Settings, *, train_sec: float, predict_sec: float) -> str:
    """A line on the whole run from the seconds that an image takes in training and in prediction."""
    num_trained = settings.epochs * sum(size.train for size in plan)
    num_predicted = sum(size.predicted for size in plan)
    minutes = (num_trained * train_sec + num_predicted * predict_sec) / 60
    duration = f"{minutes:.1f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
    return (
        f"{num_trained:,} images to train on at {1 / train_sec:,.0f} a second, "
        f"{num_predicted:,} to predict at {1 / predict_sec:,.0f} a second: about {duration}"
    )
