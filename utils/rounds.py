"""What a run writes as it goes on, typed: its rounds and its zoo; and how they read on the screen."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator
from tabulate import tabulate

from utils.config import Frozen, Settings

if TYPE_CHECKING:
    from torch import nn


class Record(Frozen):
    """A line of ``rounds.jsonl``: the zoo after a round. Losses and accuracies are by task id, accuracies fractions.

    A loss or an accuracy on training examples is None for a past task whose examples are not, or may not be, looked at
    again.

    Attributes:
        tasks: The tasks that the learner was trained on.
        weights: The weight of each task that could be drawn.
        scored_on: Which images ``loss`` and ``accuracy`` are of.
        epoch_loss: The mean over an epoch of the loss that is minimised (with ewc's penalty, with er's second loss).
        learner_accuracy: The learner's own accuracy on each of its tasks.
        num_parameters: Those of the learner.
        images_trained: How many images it was trained on, each counted as often as it was used.
        images_stored: How many training images of past tasks were kept in this round, to be replayed.
        replaces: Whether the learner stands in place of all learners before it.
    """

    round: int
    tasks: list[int]
    weights: dict[int, float]
    scored_on: Literal["test", "validation"]
    train_loss: dict[int, float | None]
    train_accuracy: dict[int, float | None]
    loss: dict[int, float]
    accuracy: dict[int, float]
    epoch_loss: list[float]
    learner_accuracy: dict[int, float]
    num_parameters: int
    images_trained: int
    images_stored: int
    replaces: bool = False
    seconds: dict[str, float] = Field(default_factory=dict)


class Round(NamedTuple):
    """The result of one round: a learner joined the zoo.

    Attributes:
        votes: The learner's weights in the average, by task id, in the order of its heads.
    """

    record: Record
    votes: dict[int, float]
    learner: "nn.Module"


class TaskInfo(Frozen):
    """What the zoo's users need to know of a task; ``fingerprint`` tells its data from others."""

    task_id: int
    name: str
    classes: tuple[str, ...]
    fingerprint: str


class LearnerInfo(Frozen):
    """What the zoo's users need to know of a learner: its file, its tasks in the order of its heads, its votes."""

    round: int
    file: str
    tasks: list[int]
    votes: dict[int, float]
    num_parameters: int

    @model_validator(mode="after")
    def _check(self) -> "LearnerInfo":
        if set(self.votes) != set(self.tasks) or min(self.votes.values(), default=1.0) <= 0:
            raise ValueError("votes: expected a positive vote for each task of the learner")
        return self


class ZooInfo(Frozen):
    """What ``zoo.json`` says."""

    model: str
    image_shape: tuple[int, int, int]
    tasks: tuple[TaskInfo, ...]
    learners: tuple[LearnerInfo, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> "ZooInfo":
        if [task.task_id for task in self.tasks] != list(range(len(self.tasks))):
            raise ValueError("tasks: expected the task ids 0, 1, 2, ...")
        if any(not 0 <= task_id < len(self.tasks) for learner in self.learners for task_id in learner.tasks):
            raise ValueError("learners: expected tasks that are described")
        return self


def accuracy_rows(records: Sequence[Record], num_tasks: int) -> tuple[tuple[float | None, ...], ...]:
    """R: a row a round, a column a task, None where a task has not arrived."""
    return tuple(tuple(record.accuracy.get(task_id) for task_id in range(num_tasks)) for record in records)


def round_line(record: Record, settings: Settings) -> str:
    """A round in a line."""
    train_loss, train_accuracy = (
        np.nanmean(np.array([*values.values()], dtype=float)) for values in (record.train_loss, record.train_accuracy)
    )
    return (
        f"round {record.round:>3} of {settings.total_rounds}   "
        f"{record.scored_on} {np.mean(list(record.accuracy.values())):7.2%}   "
        f"train {train_accuracy:7.2%}   loss {train_loss:.4f}   "
        f"{sum(record.seconds.values()):7.1f} s   tasks {' '.join(map(str, record.tasks))}"
    )


def table(rows: Sequence[Sequence[object]], headers: Sequence[str] = (), **options: Any) -> str:
    """Rows as text in aligned columns, None as a dash; the options are those of tabulate."""
    return tabulate(rows, headers, tablefmt="plain", missingval="-", intfmt=",", **options)


class RoundSize(NamedTuple):
    """How large a round is: its tasks, its training images an epoch, and the images that are predicted."""

    num_tasks: int
    num_train: int
    num_predicted: int


def plan_table(plan: Sequence[RoundSize]) -> str:
    """The plan of a run, a line for each stretch of rounds of one size."""
    rows = []
    for size, group in itertools.groupby(range(len(plan)), key=lambda round_id: plan[round_id]):
        first, *others = group
        rows.append((f"{first} to {others[-1]}" if others else f"{first}", *size))
    return table(rows, ["rounds", "tasks", "training images an epoch", "images predicted"])


def time_estimate(plan: Sequence[RoundSize], num_epochs: int, *, train_sec: float, predict_sec: float) -> str:
    """A line on the whole run, from the seconds that an image takes in training and in prediction."""
    num_trained = num_epochs * sum(size.num_train for size in plan)
    num_predicted = sum(size.num_predicted for size in plan)
    minutes = (num_trained * train_sec + num_predicted * predict_sec) / 60
    duration = f"{minutes:.1f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
    return (
        f"{num_trained:,} images to train on at {1 / train_sec:,.0f} a second, "
        f"{num_predicted:,} to predict at {1 / predict_sec:,.0f} a second: about {duration}"
    )
