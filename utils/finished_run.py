"""A finished run in one file, ``run.json``: all that suites, reports and comparisons need of it.

Letters: T tasks.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from utils.config import FORMAT, Frozen, Settings, TaskKey
from utils.metrics import METRICS, compute_metrics
from utils.rounds import Record, ZooInfo, accuracy_rows, table

Fraction = Annotated[float, Field(ge=0, le=1)]


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


class FinishedRun(Frozen):
    """What ``run.json`` says. Its metrics are for people; programs compute them from ``accuracy``.

    Attributes:
        format: The number of this format.
        settings: The run's settings, but for the place of the user's own data.
        invocations: How the run was started and resumed, as in ``env.json``.
        scored_on: Which images the accuracies are of.
        data: The fingerprint of each task's data.
        accuracy: R, fractions: a row a round, a column a task; None where a task has not arrived.
        tasks_drawn: The tasks that each round's learner was trained on; None if that was not noted.
        metrics: By name, as fractions, without those that have no meaning for the run.
        elapsed_sec: How long the run took, in all its invocations.
        peak_mem_gb: The most memory that it held, in GB (1e9 bytes).
    """

    format: int = FORMAT
    settings: Settings
    invocations: tuple[dict[str, Any], ...]
    scored_on: Literal["test", "validation"]
    data: tuple[str, ...]
    accuracy: tuple[tuple[Fraction | None, ...], ...]
    tasks_drawn: tuple[tuple[int, ...], ...] | None
    metrics: dict[str, float]
    cost: Cost
    elapsed_sec: float = Field(ge=0)
    peak_mem_gb: float = Field(ge=0)

    @model_validator(mode="after")
    def _check(self) -> "FinishedRun":
        num_tasks, num_rounds = len(self.settings.benchmark.tasks), self.settings.total_rounds
        num_seen = [round_id + 1 if self.settings.continual else num_tasks for round_id in range(num_rounds)]
        arrived = [[task_id < seen for task_id in range(num_tasks)] for seen in num_seen]
        if [[value is not None for value in row] for row in self.accuracy] != arrived:
            raise ValueError("accuracy: expected a row a round, and in it an accuracy of each task that has arrived")
        drawn = self.tasks_drawn if self.tasks_drawn is not None else [()] * num_rounds
        if len(drawn) != num_rounds or any(not {*ids} <= {*range(n)} for ids, n in zip(drawn, num_seen, strict=True)):
            raise ValueError("tasks_drawn: expected a list a round, of tasks that have arrived")
        if len(self.data) != num_tasks:
            raise ValueError(f"data: expected the fingerprints of {num_tasks} tasks, got {len(self.data)}")
        return self

    @property
    def matrix(self) -> np.ndarray:
        """R, float64 ``[rounds, T]``, NaN where a task has not arrived."""
        return np.array(self.accuracy, dtype=float)

    @property
    def data_of_tasks(self) -> list[tuple[TaskKey, str]]:
        """Each task with the fingerprint of its data."""
        return list(zip(self.settings.benchmark.keys, self.data, strict=True))

    @property
    def seen(self) -> list[int]:
        """The tasks that have arrived by the end."""
        return [task_id for task_id, value in enumerate(self.accuracy[-1]) if value is not None]

    @property
    def first_round(self) -> dict[int, int]:
        """The round in which each task was first learned; a task without a learner is not in it.

        Where it was not noted, a task counts as learned in the round of its arrival.
        """
        if self.tasks_drawn is None:
            return {task_id: task_id if self.settings.continual else 0 for task_id in self.seen}
        rounds = list(enumerate(self.tasks_drawn))
        return {task_id: round_id for round_id, drawn in reversed(rounds) for task_id in drawn}

    def to_json(self) -> str:
        """The content of ``run.json``, a line a key."""
        values = self.model_dump(mode="json", exclude={"settings": {"benchmark": {"root"}}})
        lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in values.items()]
        return "{" + ",\n ".join(lines) + "}\n"

    def closing_table(self) -> str:
        """Each task's accuracy when it was first learned, at the end, and the change; then the metrics and the cost."""
        names, validation, cost = self.settings.benchmark.names, self.settings.validation, self.cost
        accuracy, first_round, rows = self.matrix, self.first_round, []
        for task_id in self.seen:
            at_end = accuracy[-1, task_id]
            learned = accuracy[first_round[task_id], task_id] if task_id in first_round else None
            change = (None, "no learner: a guess") if learned is None else (100 * (at_end - learned), "")
            rows.append([task_id, names[task_id], learned, at_end, *change])
        headers = ["task", "name", "learned", "at end", "change", ""]
        tasks = table(rows, headers, floatfmt=("", "", ".2%", ".2%", "+.2f", ""), disable_numparse=[1])
        metrics = table([(METRICS[name].label, value) for name, value in self.metrics.items()], floatfmt=".2%")
        held_out = f"{validation:.0%} of each class's training images, held out; test images were not looked at"
        scored = f"\nscored on {held_out}" if validation > 0 else ""
        return (
            f"\n{tasks}\n\n{metrics}\n\n"
            f"at test time: learners {cost.learners:,}, parameters in all {cost.parameters:,}, "
            f"learners a task {cost.least_learners} to {cost.most_learners} (mean {cost.mean_learners:.1f})\n"
            f"in training: images trained on {cost.images_trained:,}, images stored for replay {cost.images_stored:,}\n"
            f"{len(accuracy)} rounds, {len(first_round)} tasks, "
            f"{self.elapsed_sec:.1f} s, {self.peak_mem_gb:.2f} GB of memory at most{scored}"
        )


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


def finish(
    records: Sequence[Record], settings: Settings, zoo: ZooInfo, invocations: Sequence[Mapping[str, Any]], **used: float
) -> FinishedRun:
    """The finished run of these rounds; ``used`` are ``elapsed_sec`` and ``peak_mem_gb``."""
    accuracy = accuracy_rows(records, len(settings.benchmark.tasks))
    return FinishedRun(
        settings=settings,
        invocations=tuple(map(dict, invocations)),
        scored_on=records[-1].scored_on,
        data=tuple(task.fingerprint for task in zoo.tasks),
        accuracy=accuracy,
        tasks_drawn=tuple(tuple(record.tasks) for record in records),
        metrics=compute_metrics(np.array(accuracy, dtype=float), continual=settings.continual),
        cost=make_cost(records),
        **used,
    )
