"""Continual-learning metrics computed from R: R[i, j] is the accuracy on task j after round i, a fraction; T tasks.

Tools differ in these formulas, so each names its source.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


def average_accuracy(accuracy: np.ndarray) -> float:
    """Mean accuracy over all tasks after the last round: 1/T * sum_j R[-1, j].

    Args:
        accuracy: R, float ``[rounds, T]``.
    """
    return float(accuracy[-1].mean())


def learning_accuracy(accuracy: np.ndarray) -> float:
    """Mean accuracy of each task in the round it arrives: 1/T * sum_j R[j, j].

    Args:
        accuracy: R, float ``[T, T]``.

    Raises:
        ValueError: ``accuracy`` is not square.

    Source: Riemer et al. 2019; the paper's authors call it forward transfer.
    """
    return float(np.diagonal(_square(accuracy)).mean())


def forgetting(accuracy: np.ndarray) -> float:
    """Mean drop from each task's best accuracy to its final one: 1/T * sum_j (max_{i>=j} R[i, j] - R[T-1, j]).

    Args:
        accuracy: R, float ``[T, T]``. Entries with j > i are not read.

    Returns:
        A fraction in [0, 1].

    Raises:
        ValueError: ``accuracy`` is not square.

    Source: the authors' demonstration notebook.
    """
    return float(np.mean(_best(_square(accuracy), after=len(accuracy)) - accuracy[-1]))


def forgetting_chaudhry(accuracy: np.ndarray) -> float | None:
    """Mean drop over the first T-1 tasks, the best taken over the rounds before the last.

    1/(T-1) * sum_{j<T-1} (max_{j<=i<T-1} R[i, j] - R[T-1, j])

    Args:
        accuracy: R, float ``[T, T]``. Entries with j > i are not read.

    Returns:
        A fraction in [-1, 1], negative where tasks improve to the end; None with one task.

    Raises:
        ValueError: ``accuracy`` is not square.

    Source: Chaudhry et al. 2018.
    """
    num_tasks = len(_square(accuracy))
    if num_tasks == 1:
        return None
    return float(np.mean(_best(accuracy, after=num_tasks - 1)[:-1] - accuracy[-1, :-1]))


def backward_transfer(accuracy: np.ndarray) -> float | None:
    """Mean change since arrival, of all tasks but the last: 1/(T-1) * sum_{j<T-1} (R[T-1, j] - R[j, j]).

    Args:
        accuracy: R, float ``[T, T]``.

    Returns:
        A fraction in [-1, 1]; None with one task.

    Raises:
        ValueError: ``accuracy`` is not square.

    Source: Lopez-Paz and Ranzato 2017.
    """
    if len(_square(accuracy)) == 1:
        return None
    return float(np.mean(accuracy[-1, :-1] - np.diagonal(accuracy)[:-1]))


def _square(accuracy: np.ndarray) -> np.ndarray:
    if accuracy.ndim != 2 or accuracy.shape[0] != accuracy.shape[1]:
        raise ValueError(f"accuracy: expected a row a round and a column a task, as many, got {accuracy.shape}")
    return accuracy


def _best(accuracy: np.ndarray, *, after: int) -> np.ndarray:
    """Each task's highest accuracy from its arrival to before round ``after``; minus infinity where there is none."""
    arrived = np.tril(np.ones_like(accuracy, dtype=bool))[:after]
    return np.where(arrived, accuracy[:after], -np.inf).max(axis=0)


class Metric(NamedTuple):
    """A function of R ``[rounds, T]`` over the tasks seen, and its name for people."""

    function: Callable[[np.ndarray], float | None]
    label: str
    needs_arrival: bool = True  # whether it has a meaning only where tasks arrive one at a time
    least: float = 0.0  # the smallest value that is possible; the largest is 1


METRICS = {
    "average_accuracy": Metric(average_accuracy, "average accuracy", needs_arrival=False),
    "learning_accuracy": Metric(learning_accuracy, "learning accuracy (Riemer et al. 2019)"),
    "forgetting": Metric(forgetting, "forgetting (the authors')"),
    "forgetting_chaudhry": Metric(forgetting_chaudhry, "forgetting (Chaudhry et al. 2018)", least=-1.0),
    "backward_transfer": Metric(backward_transfer, "backward transfer (Lopez-Paz and Ranzato 2017)", least=-1.0),
}


def compute_metrics(accuracy: np.ndarray, *, continual: bool) -> dict[str, float]:
    """The metrics that have a meaning, by name.

    Args:
        accuracy: R, float ``[rounds, T]``, NaN where a task has not arrived; tasks never seen do not count.
        continual: Whether tasks arrive one at a time.
    """
    seen = accuracy[:, ~np.isnan(accuracy[-1])]
    names = [name for name, metric in METRICS.items() if continual or not metric.needs_arrival]
    values = {name: METRICS[name].function(seen) for name in names}
    return {name: value for name, value in values.items() if value is not None}
