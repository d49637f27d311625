"""Task competition: what a task gains by being learned together with another, ours beside the published."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from utils.errors import UserError
from utils.plot import COLOURS, plain_style
from utils.report.records import OF_THE_METHOD, Result, read_labelled_csv, to_csv
from utils.report.statistics import rank_correlation
from utils.suite.file import Competition


class Matrices(NamedTuple):
    """The accuracy gained on the row's task when it is learned together with the column's, ours and the published.

    Both are float ``[T, T]``, fractions, NaN where not known.
    """

    names: tuple[str, ...]
    ours: np.ndarray
    published: np.ndarray
    seeds: str
    source: str

    @property
    def apart(self) -> np.ndarray:
        """The entries off the diagonal, bool ``[T, T]``."""
        return ~np.eye(len(self.names), dtype=bool)


def is_pair(result: Result) -> bool:
    """Whether the result is of one learner on two tasks; only the competition matrix shows such results."""
    settings = result.settings
    if settings is None or settings.continual or settings.num_rounds > 1 or settings.tasks_per_round == 1:
        return False
    return len(settings.benchmark.tasks) == 2


def find_matrices(competition: Competition, results: Sequence[Result]) -> Matrices | None:
    """Both matrices; None if no pair was run. Raises UserError if a file or a pair does not fit."""
    alone = next((result for result in results if result.is_isolated), None)
    if alone is None or alone.settings is None:
        raise UserError("competition: expected a cell that learns each task alone, got none")
    names = alone.settings.benchmark.names
    published = published_matrix(competition, names)
    ours, num_seeds = our_matrix(alone, names, [result for result in results if is_pair(result)])
    if num_seeds == 0:
        return None
    return Matrices(names, ours, published, f"{num_seeds} seed{'s' if num_seeds > 1 else ''}", competition.source)


def published_matrix(competition: Competition, task_names: Sequence[str]) -> np.ndarray:
    """The published matrix in the order of our tasks, matched by name, as fractions. Raises UserError."""
    published_name = {ours: published for published, ours in competition.names.items()}
    table = read_labelled_csv(competition.file)
    try:
        order = [published_name[name] for name in task_names]
        return table.loc[order, order].to_numpy() / 100
    except KeyError as error:
        expected = f"competition.names: expected each task's name in {competition.file}"
        raise UserError(f"{expected}, got a task without one ({error})") from error


def our_matrix(alone: Result, names: Sequence[str], pairs: Sequence[Result]) -> tuple[np.ndarray, int]:
    """Gains, averaged over the seeds that a pair and the tasks alone have in common, and the most seeds of an entry."""
    gain = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(gain, 0.0)
    num_seeds = 0
    for pair in pairs:
        _check_alike(pair, alone)
        assert pair.settings, "a pair is a run of ours"
        one, other = (names.index(name) for name in pair.settings.benchmark.names)
        gains = (
            pair.final.set_axis([one, other], axis="columns") - alone.final[[one, other]]
            if pair.accuracy and alone.accuracy
            else pd.DataFrame()
        )
        gains = gains.dropna()
        num_seeds = max(num_seeds, len(gains))
        if len(gains):
            gain[one, other], gain[other, one] = gains.mean()
    return gain, num_seeds


def _check_alike(pair: Result, alone: Result) -> None:
    """Raise UserError if two tasks are not learned together as each of them is learned alone."""
    assert pair.settings, "runs of ours have settings"
    assert alone.settings, "runs of ours have settings"
    keys = pair.differing(alone, besides=OF_THE_METHOD | {"benchmark"})
    benchmarks = (pair.settings.benchmark, alone.settings.benchmark)
    tasks, known = (set(zip(benchmark.names, benchmark.tasks, strict=True)) for benchmark in benchmarks)
    if keys or not tasks <= known:
        expected = f"competition: expected {pair.benchmark!r} to have settings and tasks as the tasks alone"
        raise UserError(f"{expected}, got other {', '.join(keys) or 'tasks'}")


def in_words(found: Matrices) -> list[str]:
    """The comparison of the two matrices in words."""
    known = found.apart & np.isfinite(found.ours)
    ours, published = (100 * np.nanmean(matrix[known]) for matrix in (found.ours, found.published))
    rank = "not defined, all entries known are equal"
    correlation = rank_correlation(found.ours, found.published)
    if correlation:
        rank = f"{correlation.rho:+.3f} over {correlation.n} entries "
        rank += f"(p {correlation.p_value:.2g}, as if entries were independent)"
    num_missing = int(found.apart.sum() - known.sum()) // 2
    missing = f", {num_missing} pairs not run" if num_missing else ""
    return [
        f"Task competition, {len(found.names)} tasks, {found.seeds}{missing}: mean gain by a second task "
        f"{ours:+.2f} points (published {published:+.2f}).",
        f"Spearman's rank correlation with the published matrix: {rank}. Published: {found.source}.",
    ]


def matrix_csv(found: Matrices) -> str:
    """Our matrix with its tasks' names, in fractions; empty where not known."""
    matrix = pd.DataFrame(found.ours, index=found.names, columns=found.names)
    return to_csv(matrix.rename_axis("task").reset_index())


@plain_style()
def draw_competition(found: Matrices) -> Figure:
    """Our matrix and the published one side by side, and entry against entry."""
    figure = Figure(figsize=(18, 7), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 0.75))
    limit = 100 * float(max(np.nanmax(np.abs(matrix[found.apart])) for matrix in (found.ours, found.published)))
    _draw_matrix(left, found.ours, found, limit, f"here, {found.seeds}")
    _draw_matrix(middle, found.published, found, limit, f"published: {found.source}")
    left.set_ylabel("task evaluated")
    theirs, ours = (100 * matrix[found.apart] for matrix in (found.published, found.ours))
    right.scatter(theirs, ours, s=18, color=COLOURS[0], alpha=0.7)
    right.axhline(0, color="0.8", zorder=0)
    right.axvline(0, color="0.8", zorder=0)
    correlation = rank_correlation(found.ours, found.published)
    rho = f"{correlation.rho:+.2f}" if correlation else "not defined"
    right.set(xlabel="published gain, points", ylabel="gain here, points", box_aspect=1)
    right.set_title(f"entry by entry: Spearman's rho {rho}")
    right.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Accuracy gained on a task by learning it together with another, against alone")
    return figure


def _draw_matrix(axes: Axes, gains: np.ndarray, found: Matrices, limit: float, title: str) -> None:
    """Draw a matrix, in points, in colours that are white at 0, with its numbers if there is room."""
    names, points = found.names, 100 * np.where(found.apart, gains, np.nan)
    image = axes.imshow(points, cmap="PuOr_r", norm=TwoSlopeNorm(0.0, vmin=-limit, vmax=limit))
    axes.figure.colorbar(image, ax=axes, shrink=0.7, label="accuracy gained, points", location="bottom")
    axes.set_xticks(range(len(names)), names, rotation=55, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="learned together with", title=title)
    axes.set_facecolor("0.88")  # the diagonal, and what was not run
    if len(names) <= 12:
        for row, column in np.argwhere(np.isfinite(points)):
            value = points[row, column]
            colour = "w" if abs(value) > 0.6 * limit else "k"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color=colour)
