"""Task competition: what a task gains by being learned together with another, ours beside the published."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from utils.errors import UserError
from utils.plot import plain_style
from utils.report.records import HOW_TRAINED, Result, read_labelled_csv
from utils.report.statistics import rank_correlation
from utils.report.tables import percent
from utils.suite.file import Competition


class Matrices(NamedTuple):
    """The accuracy gained on the row's task when it is learned together with the column's, ours and the published.

    All are fractions, with the tasks' names on rows and columns, NaN where not known.
    """

    by_seed: Mapping[int, pd.DataFrame]
    published: pd.DataFrame
    source: str

    @property
    def ours(self) -> pd.DataFrame:
        """The mean over the seeds that have an entry."""
        return pd.concat(self.by_seed).groupby(level=1, sort=False).mean()

    @property
    def seeds(self) -> str:
        """How many seeds there are, in words."""
        return f"{len(self.by_seed)} seed{'s' if len(self.by_seed) > 1 else ''}"


def find_matrices(competition: Competition, results: Sequence[Result]) -> Matrices | None:
    """Both matrices; None if no pair was run. Raises UserError if a file or a pair does not fit."""
    alone = next((result for result in results if result.is_isolated), None)
    if alone is None:
        raise UserError("competition: no cell learns each task alone")
    names = list(alone.tasks)
    published = published_matrix(competition, names)
    unknown = pd.DataFrame(np.where(np.eye(len(names)), 0.0, np.nan), names, names)
    by_seed: dict[int, pd.DataFrame] = {}
    for gains in [gains_of_pair(result, alone) for result in results if result.is_pair]:
        one, other = gains.columns
        for seed, (gain, other_gain) in zip(gains.index, gains.to_numpy(), strict=True):
            matrix = by_seed.setdefault(seed, unknown.copy())
            matrix.loc[one, other], matrix.loc[other, one] = gain, other_gain
    return Matrices(dict(sorted(by_seed.items())), published, competition.source) if by_seed else None


def published_matrix(competition: Competition, names: Sequence[str]) -> pd.DataFrame:
    """The published matrix in the order of our tasks, matched by name, as fractions. Raises UserError."""
    published_name = {ours: published for published, ours in competition.names.items()}
    if missing := [name for name in names if name not in published_name]:
        raise UserError(f"competition.names: no name in {competition.file} for the tasks {', '.join(missing)}")
    order = [published_name[name] for name in names]
    return pd.DataFrame(read_labelled_csv(competition.file).loc[order, order].to_numpy() / 100, names, names)


def gains_of_pair(pair: Result, alone: Result) -> pd.DataFrame:
    """What two tasks gain by each other: a column for each, a row for each seed that pair and tasks alone have.

    Raises:
        UserError: The two are not learned together as each of them is learned alone.
    """
    keys = pair.differing(alone, *HOW_TRAINED)
    if keys or not pair.tasks.items() <= alone.tasks.items():
        expected = f"competition: expected {pair.benchmark!r} to have settings and tasks as the tasks alone"
        raise UserError(f"{expected}, got other {', '.join(keys) or 'tasks'}")
    together, apart = (result.final.rename(columns=dict(enumerate(result.tasks))) for result in (pair, alone))
    return (together - apart).reindex(columns=list(pair.tasks)).dropna()


def off_diagonal(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The entries off the diagonal that both matrices have, a column for each matrix."""
    apart = ~np.eye(len(one), dtype=bool)
    return pd.DataFrame({"one": one.to_numpy()[apart], "other": other.to_numpy()[apart]}).dropna()


def correlate(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """Spearman's rank correlation of two matrices, in words."""
    rho = rank_correlation(off_diagonal(one, other))
    return "not defined, all entries known are equal" if np.isnan(rho) else f"{rho:+.3f}"


def less_row_means(matrix: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Each entry less the mean of its row, over the entries off the diagonal that both matrices have."""
    apart = matrix.where(known.notna() & ~np.eye(len(matrix), dtype=bool))
    return apart.sub(apart.mean(axis="columns"), axis="index")


def in_words(found: Matrices) -> list[str]:
    """The comparison of the two matrices in words."""
    ours, published = found.ours, found.published
    known = off_diagonal(ours, published)
    gain, published_gain = (percent(mean, signed=True) for mean in known.mean())
    num_missing = (len(ours) * (len(ours) - 1) - len(known)) // 2
    missing = f", {num_missing} pair{'s' if num_missing > 1 else ''} not run" if num_missing else ""
    lines = [
        f"Task competition, {len(ours)} tasks, {found.seeds}{missing}: mean gain by a second task "
        f"{gain} points (published {published_gain}). Published: {found.source}.",
        "Spearman's rank correlation with the published matrix: "
        f"{correlate(ours, published)}, over {len(known)} entries; with each row's mean taken out of both: "
        f"{correlate(less_row_means(ours, published), less_row_means(published, ours))}.",
    ]
    if len(found.by_seed) > 1:
        lines.append(single_seeds_in_words(found))
    return lines


def single_seeds_in_words(found: Matrices) -> str:
    """The mean gains of single seeds, and how their matrices correlate with the published one and with each other."""
    single = [
        f"seed {seed}: mean gain {percent(off_diagonal(gains, found.published)['one'].mean(), signed=True)}, "
        f"correlation {correlate(gains, found.published)}"
        for seed, gains in found.by_seed.items()
    ]
    two = [
        f"{seed} and {other_seed}: {correlate(gains, other)}"
        for (seed, gains), (other_seed, other) in combinations(found.by_seed.items(), 2)
    ]
    return f"The same by seed: {'; '.join(single)}. Correlation of two seeds: {', '.join(two)}."


@plain_style()
def draw_competition(found: Matrices) -> Figure:
    """Our matrix and the published one side by side, and entry against entry."""
    figure = Figure(figsize=(18, 7), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 0.75))
    points = 100 * off_diagonal(found.ours, found.published)
    limit = 100 * max(matrix.abs().max().max() for matrix in (found.ours, found.published))
    _draw_matrix(left, found.ours, limit, f"here, {found.seeds}")
    _draw_matrix(middle, found.published, limit, f"published: {found.source}")
    left.set_ylabel("task evaluated")
    right.scatter(points["other"], points["one"], s=18, color="C0", alpha=0.7)
    right.axhline(0, color="0.8", zorder=0)
    right.axvline(0, color="0.8", zorder=0)
    right.set(xlabel="published gain, points", ylabel="gain here, points", box_aspect=1)
    right.set_title(f"entry by entry: Spearman's rho {correlate(found.ours, found.published)}")
    right.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Accuracy gained on a task by learning it together with another, against alone")
    return figure


def _draw_matrix(axes: Axes, gains: pd.DataFrame, limit: float, title: str) -> None:
    """Draw a matrix, in points, in colours that are white at 0, with its numbers if there is room."""
    names, points = list(gains), 100 * gains.to_numpy()
    np.fill_diagonal(points, np.nan)
    image = axes.imshow(points, cmap="PuOr_r", norm=TwoSlopeNorm(0.0, vmin=-limit, vmax=limit))
    axes.figure.colorbar(image, ax=axes, shrink=0.7, label="accuracy gained, points", location="bottom")
    axes.set_xticks(range(len(names)), names, rotation=55, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="learned together with", title=title)
    axes.set_facecolor("0.88")  # the diagonal, and what was not run
    if len(names) <= 12:
        for (row, column), value in np.ma.ndenumerate(np.ma.masked_invalid(points)):
            colour = "w" if abs(value) > 0.6 * limit else "k"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color=colour)
