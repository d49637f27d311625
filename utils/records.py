"""What a run found, typed: a round, the summary, the description of the zoo; and how they read on the screen."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, model_validator
from tabulate import tabulate

from utils.config import Frozen, Settings
from utils.metrics import METRICS, compute_metrics

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


class Invocation(Frozen):
    """An entry of ``env.json``: the command, versions, device and threads with which a run was started or resumed."""

    command: str
    commit: str | None
    python: str
    torch: str
    device: str
    threads: int
    precision: str
    compiled: bool

    def changes(self, before: Mapping[str, Any]) -> dict[str, str]:
        """By key: what is different from an earlier invocation, in words; another version may have had other keys."""
        now = self.model_dump(exclude={"command"})
        return {key: f"{key} {before[key]}, now {now[key]}" for key in now if before.get(key, now[key]) != now[key]}


class Cost(Frozen):
    """What a result costs: the networks and their parameters at test time, the images in training.

    Attributes:
        learners: Networks in the zoo.
        parameters: Their parameters, heads included.
        least_learners: The learners of the task that has the fewest; a task's prediction needs all of its learners.
        mean_learners: Learners a task, averaged over the tasks seen.
        most_learners: The learners of the task that has the most.
        images_stored: Training images of past tasks that were kept to be replayed, at most.
        images_trained: Images trained on, each counted as often as it was used.
    """

    learners: int
    parameters: int
    least_learners: int
    mean_learners: float
    most_learners: int
    images_stored: int
    images_trained: int


class Summary(Frozen):
    """What ``summary.json`` says, for people; programs compute the metrics from ``rounds.jsonl``.

    Attributes:
        scored_on: Which images the accuracies are of.
        metrics: By name, as fractions, without those that have no meaning for the run.
        final_accuracy: Of each task seen, at the end.
        elapsed_sec: How long the run took, in all its invocations.
        peak_mem_gb: The most memory that it held, in GB (1e9 bytes).
    """

    scored_on: Literal["test", "validation"]
    metrics: dict[str, float]
    final_accuracy: tuple[float, ...]
    cost: Cost
    num_rounds: int = Field(ge=1)
    elapsed_sec: float = Field(ge=0)
    peak_mem_gb: float = Field(ge=0)


def accuracy_matrix(records: Sequence[Record], num_tasks: int) -> np.ndarray:
    """R, float64 ``[rounds, num_tasks]``: the accuracies, NaN where a task has not arrived."""
    accuracy = np.full((len(records), num_tasks), np.nan)
    for row, record in zip(accuracy, records, strict=True):
        row[list(record.accuracy)] = list(record.accuracy.values())
    return accuracy


def make_cost(records: Sequence[Record]) -> Cost:
    """The cost of a run, from all its rounds."""
    last = records[-1]
    kept = [last] if last.replaces else records
    predicting = [task_id for record in kept for task_id in (record.accuracy if record.replaces else record.tasks)]
    learners = [predicting.count(task_id) for task_id in last.accuracy]
    return Cost(
        learners=len(kept),
        parameters=sum(record.num_parameters for record in kept),
        least_learners=min(learners),
        mean_learners=sum(learners) / len(learners),
        most_learners=max(learners),
        images_stored=max(record.images_stored for record in records),
        images_trained=sum(record.images_trained for record in records),
    )


def make_summary(records: Sequence[Record], settings: Settings, *, elapsed_sec: float, peak_mem_gb: float) -> Summary:
    """The summary of a complete run."""
    accuracy = accuracy_matrix(records, len(settings.benchmark.tasks))
    return Summary(
        scored_on=records[-1].scored_on,
        metrics=compute_metrics(accuracy, continual=settings.continual),
        final_accuracy=tuple(records[-1].accuracy.values()),
        cost=make_cost(records),
        num_rounds=len(records),
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
        f"round {record.round:>3} of {settings.total_rounds}   "
        f"{record.scored_on} {np.mean(list(record.accuracy.values())):7.2%}   "
        f"train {train_accuracy:7.2%}   loss {train_loss:.4f}   "
        f"{sum(record.seconds.values()):7.1f} s   tasks {' '.join(map(str, record.tasks))}"
    )


def closing_table(records: Sequence[Record], settings: Settings, summary: Summary) -> str:
    """Each task's accuracy when it was first learned, at the end, and the change; then the metrics and the cost."""
    first_round = {task_id: record for record in reversed(records) for task_id in record.tasks}
    rows = []
    for task_id, at_end in records[-1].accuracy.items():
        row = [task_id, settings.benchmark.names[task_id], None, at_end, None, "no learner: a guess"]
        if task_id in first_round:
            learned = first_round[task_id].accuracy[task_id]
            row[2:] = [learned, at_end, 100 * (at_end - learned), ""]
        rows.append(row)
    headers = ["task", "name", "learned", "at end", "change", ""]
    tasks = table(rows, headers, floatfmt=("", "", ".2%", ".2%", "+.2f", ""), disable_numparse=[1])
    metrics = table([(METRICS[name].label, value) for name, value in summary.metrics.items()], floatfmt=".2%")
    held_out = f"{settings.validation:.0%} of each class's training images, held out; test images were not looked at"
    scored = f"\nscored on {held_out}" if settings.validation > 0 else ""
    cost = summary.cost
    return (
        f"\n{tasks}\n\n{metrics}\n\n"
        f"at test time: learners {cost.learners:,}, parameters in all {cost.parameters:,}, "
        f"learners a task {cost.least_learners} to {cost.most_learners} (mean {cost.mean_learners:.1f})\n"
        f"in training: images trained on {cost.images_trained:,}, images stored for replay {cost.images_stored:,}\n"
        f"{len(records)} rounds, {len(first_round)} tasks, "
        f"{summary.elapsed_sec:.1f} s, {summary.peak_mem_gb:.2f} GB of memory at most{scored}"
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
