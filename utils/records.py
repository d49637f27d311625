"""What a run found, typed: a round, the summary, the description of the zoo; and how they read on the screen."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator
from tabulate import tabulate

from utils.config import Frozen, Settings
from utils.metrics import METRIC_NAMES, summarise

if TYPE_CHECKING:
    from torch import nn


class Record(Frozen):
    """A line of ``rounds.jsonl``: the zoo after a round. Losses and accuracies are by task id, accuracies fractions.

    A loss or an accuracy on training examples is None for a past task whose examples are not, or may not be, looked at
    again. ``epoch_loss`` is the mean over an epoch of the loss that is minimised (with ewc's penalty, with er's second
    loss), ``learner_accuracy`` the learner's own test accuracy on each of its tasks.
    """

    round: int
    tasks: list[int]
    weights: dict[int, float]
    train_loss: dict[int, float | None]
    train_accuracy: dict[int, float | None]
    test_loss: dict[int, float]
    test_accuracy: dict[int, float]
    epoch_loss: list[float]
    learner_accuracy: dict[int, float]
    seconds: dict[str, float] = Field(default_factory=dict)


class Round(NamedTuple):
    """The result of one round: a learner joined the zoo.

    Attributes:
        votes: The learner's weights in the average, by task id, in the order of its heads.
        replaces: Whether it stands in place of all learners before it.
    """

    record: Record
    votes: dict[int, float]
    learner: "nn.Module"
    replaces: bool = False


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


class Invocation(Frozen):
    """An entry of ``env.json``: the command, versions, device and threads with which a run was started or resumed."""

    command: str
    commit: str | None
    python: str
    torch: str
    device: str
    threads: int
    compiled: bool

    def changes(self, before: "Invocation") -> str:
        """What is different from an earlier invocation, in words."""
        old, new = before.model_dump(exclude={"command"}), self.model_dump(exclude={"command"})
        return "; ".join(f"{key} {old[key]}, now {new[key]}" for key in new if old[key] != new[key])


class Summary(Frozen):
    """What ``summary.json`` says: the closing metrics, as fractions; None where a metric has no meaning.

    ``scored_on`` are the images that they are of: test or validation.
    """

    scored_on: Literal["test", "validation"]
    average_accuracy: float
    learning_accuracy: float | None
    forgetting: float | None
    forgetting_chaudhry: float | None
    backward_transfer: float | None
    final_accuracy: tuple[float, ...]
    num_rounds: int = Field(ge=1)
    elapsed_sec: float = Field(ge=0)
    peak_mem_gb: float = Field(ge=0)


def accuracy_matrix(records: Sequence[Record], num_tasks: int) -> np.ndarray:
    """R, float64 ``[rounds, num_tasks]``: test accuracies, NaN where a task has not arrived."""
    accuracy = np.full((len(records), num_tasks), np.nan)
    for row, record in zip(accuracy, records, strict=True):
        row[list(record.test_accuracy)] = list(record.test_accuracy.values())
    return accuracy


def make_summary(accuracy: np.ndarray, settings: Settings, *, elapsed_sec: float, peak_mem_gb: float) -> Summary:
    """The summary of a run.

    Args:
        accuracy: R, float ``[rounds, T]``, NaN where a task has not arrived.
        settings: The run's settings.
        elapsed_sec: How long the run took, in all its invocations.
        peak_mem_gb: The most memory that it held, in GB (1e9 bytes).
    """
    seen = accuracy[:, ~np.isnan(accuracy[-1])]
    return Summary(
        scored_on=settings.scored_on,
        **summarise(seen, continual=settings.continual),
        final_accuracy=tuple(seen[-1].tolist()),
        num_rounds=len(accuracy),
        elapsed_sec=elapsed_sec,
        peak_mem_gb=peak_mem_gb,
    )


def round_line(record: Record, settings: Settings) -> str:
    """A round in a line."""
    train_loss, train_accuracy = (
        np.mean([value for value in values.values() if value is not None])
        for values in (record.train_loss, record.train_accuracy)
    )
    return (
        f"round {record.round:>3} of {settings.num_rounds}   "
        f"{settings.scored_on} {np.mean(list(record.test_accuracy.values())):7.2%}   "
        f"train {train_accuracy:7.2%}   loss {train_loss:.4f}   "
        f"{sum(record.seconds.values()):7.1f} s   tasks {' '.join(map(str, record.tasks))}"
    )


def closing_table(records: Sequence[Record], settings: Settings, summary: Summary) -> str:
    """Each task's accuracy when it was first learned, at the end, and the change; then the metrics."""
    accuracy = accuracy_matrix(records, len(settings.benchmark.tasks))
    first_round = {task_id: record.round for record in reversed(records) for task_id in record.tasks}
    rows = []
    for task_id in np.flatnonzero(~np.isnan(accuracy[-1])).tolist():
        row = [task_id, settings.benchmark.names[task_id], None, accuracy[-1, task_id], None, "no learner: a guess"]
        if task_id in first_round:
            learned = accuracy[first_round[task_id], task_id]
            row[2:] = [learned, row[3], 100 * (row[3] - learned), ""]
        rows.append(row)
    metrics = [(text, value) for name, text in METRIC_NAMES.items() if (value := getattr(summary, name)) is not None]
    size = f"{len(records)} rounds, {len(first_round)} tasks"
    used = f"{summary.elapsed_sec:.1f} s, {summary.peak_mem_gb:.2f} GB of memory at most"
    headers = ["task", "name", "learned", "at end", "change", ""]
    tasks = table(rows, headers, floatfmt=("", "", ".2%", ".2%", "+.2f", ""), disable_numparse=[1])
    held_out = f"{settings.validation:.0%} of each class's training images, held out; test images were not looked at"
    scored = f"\nscored on {held_out}" if settings.validation > 0 else ""
    return f"\n{tasks}\n\n{table(metrics, floatfmt='.2%')}\n{size}, {used}{scored}"


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
        rounds = list(group)
        which = f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"
        rows.append((which, *size))
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
