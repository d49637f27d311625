"""Task competition: what a task gains by being learned together with another, ours beside the published."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from utils.report.records import Result
from utils.report.statistics import Correlation, rank_correlation
from utils.report.tables import csv_text
from utils.suite.file import Competition


class Matrices(NamedTuple):
    """Accuracy gained on the row's task when learned together with the column's, a fraction; NaN where not known."""

    names: tuple[str, ...]
    ours: np.ndarray
    published: np.ndarray
    num_seeds: int
    source: str

    @property
    def correlation(self) -> Correlation | None:
        """Of ours with the published."""
        return rank_correlation(self.ours, self.published)


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
    return Matrices(names, ours, np.array(competition.published_gains(names)), num_seeds, competition.source)


def competition_lines(found: Matrices) -> list[str]:
    """The comparison of the two matrices in words."""
    apart = ~np.eye(len(found.names), dtype=bool)
    known = apart & np.isfinite(found.ours)
    ours, published = (100 * np.nanmean(matrix[known]) for matrix in (found.ours, found.published))
    defined = "not defined, all entries known are equal"
    correlation = found.correlation
    if correlation:
        defined = (
            f"{correlation.rho:+.3f} over {correlation.n} entries "
            f"(p {correlation.p_value:.2g}, as if entries were independent)"
        )
    seeds = f"{found.num_seeds} seed{'s' if found.num_seeds > 1 else ''}"
    missing = f", {(apart.sum() - known.sum()) // 2} pairs not run" if known.sum() < apart.sum() else ""
    return [
        f"Task competition, {len(found.names)} tasks, {seeds}{missing}: mean gain by a second task "
        f"{ours:+.2f} points (published {published:+.2f}).",
        f"Spearman's rank correlation with the published matrix: {defined}. Published: {found.source}.",
    ]


def matrix_csv(names: Sequence[str], matrix: np.ndarray) -> str:
    """A matrix with its tasks' names, in fractions; empty where not known."""
    rows = [("" if np.isnan(value) else f"{value:.6g}" for value in row) for row in matrix]
    return csv_text(("task", *names), [(name, *row) for name, row in zip(names, rows, strict=True)])
