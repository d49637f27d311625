"""Task competition: what a task gains by being learned together with another, ours beside the published."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils.report.records import Result
from utils.suite.file import Competition


class Matrices(NamedTuple):
    """Accuracy gained on the row's task when learned together with the column's, a fraction; NaN where not known."""

    names: tuple[str, ...]
    ours: np.ndarray
    published: np.ndarray
    num_seeds: int


def our_matrix(competition: Competition, results: Sequence[Result]) -> tuple[np.ndarray, int]:
    """Gains, averaged over the seeds that a pair and the tasks alone have in common, and the most seeds of an entry."""
    alone = next(result for result in results if result.group == competition.alone)
    names = alone.settings.benchmark.names
    gain = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(gain, 0.0)
    num_seeds = 0
    for pair in results:
        if pair.group != competition.together:
            continue
        seeds = pair.runs.keys() & alone.runs.keys()
        num_seeds = max(num_seeds, len(seeds))
        one, other = (names.index(name) for name in pair.settings.benchmark.names)
        for position, (row, column) in enumerate([(one, other), (other, one)]):
            gains = [
                pair.runs[seed].summary["final_accuracy"][position] - alone.runs[seed].summary["final_accuracy"][row]
                for seed in seeds
            ]
            gain[row, column] = np.mean(gains) if gains else np.nan
    return gain, num_seeds


def matrices(competition: Competition, results: Sequence[Result]) -> Matrices | None:
    """Both matrices; None where no pair was run. Raises ConfigError: the published one cannot be read."""
    alone = next(result for result in results if result.group == competition.alone)
    names = alone.settings.benchmark.names
    ours, num_seeds = our_matrix(competition, results)
    if num_seeds == 0:
        return None
    return Matrices(names, ours, np.array(competition.published_gains(names)), num_seeds)
