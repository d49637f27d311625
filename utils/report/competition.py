"""Task competition: what a task gains by being learned together with another, ours beside the published."""

import itertools
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.errors import UserError
from utils.plot import plain_style
from utils.report.results import Result
from utils.report.tables import Table, percent
from utils.suite.file import Competition, read_labelled_csv

PUBLISHED = "published"
DECIMALS = 10  # to which equal gains stay equal when they are averaged: ranks need their ties


def find_gains(competition: Competition, results: Sequence[Result]) -> pd.DataFrame | None:
    """What a task gains by another: a row for each two names (task, other), all fractions, NaN where it is not known.

    There is a column for each seed, then ``PUBLISHED``; None if no pair was run, or not the tasks alone.

    Raises:
        UserError: A file or a pair does not fit.
    """
    alone = next((result for result in results if result.is_isolated), None)
    pairs = [result for result in results if result.is_pair]
    if alone is None or not pairs:
        return None
    tasks = [key.name for key in alone.tasks]
    if missing := [name for name in tasks if name not in competition.names.values()]:
        raise UserError(f"competition.names: no name in {competition.file} for the tasks {', '.join(missing)}")
    published = read_labelled_csv(competition.file).rename(index=competition.names, columns=competition.names) / 100
    by_name = {name: gains for pair in pairs for name, gains in gains_of_pair(pair, alone).items()}
    frame = pd.DataFrame(by_name, index=sorted({seed for pair in pairs for seed in pair.final.index})).T
    frame = frame.reindex(pd.MultiIndex.from_tuples(itertools.permutations(tasks, 2)))
    frame[PUBLISHED] = [published.at[name] for name in frame.index]
    frame.attrs["source"] = competition.source
    return frame.round(DECIMALS)


def gains_of_pair(pair: Result, alone: Result) -> dict[tuple[str, str], pd.Series]:
    """What each of two tasks gains by the other, by seed. Raises UserError if they are not learned as alone."""
    keys = [key for key, value in pair.how_trained.items() if value != alone.how_trained[key]]
    if keys or not {*pair.tasks} <= {*alone.tasks}:
        expected = f"competition: expected {pair.benchmark!r} to have settings and tasks as the tasks alone"
        raise UserError(f"{expected}, got other {', '.join(keys) or 'tasks'}")
    one, other = pair.tasks
    gains = (pair.final[[one, other]] - alone.final[[one, other]]).dropna()
    return {(one.name, other.name): gains[one], (other.name, one.name): gains[other]}


def mean_of_seeds(gains: pd.DataFrame) -> pd.Series:
    """The mean over the seeds that have an entry."""
    return gains.drop(columns=PUBLISHED).mean(axis="columns").round(DECIMALS)


def as_matrix(gains: pd.Series) -> pd.DataFrame:
    """The gains as a matrix: a row a task, a column for each task that it is learned together with."""
    names = gains.index.unique(level=0)
    return gains.unstack().reindex(index=names, columns=names)


def correlate(one: pd.Series, other: pd.Series) -> str:
    """Spearman's rank correlation, over the entries that both have, in words."""
    rho = one.corr(other, method="spearman") if min(one.nunique(), other.nunique()) > 1 else float("nan")
    return "not defined, all entries known are equal" if pd.isna(rho) else f"{rho:+.3f}"


def in_words(gains: pd.DataFrame) -> list[str]:
    """The comparison with the published gains in words."""
    known = pd.DataFrame({"ours": mean_of_seeds(gains), PUBLISHED: gains[PUBLISHED]}).dropna()
    mean, published = (percent(known[key].mean(), signed=True) for key in known)
    num_missing = (len(gains) - len(known)) // 2
    missing = f", {num_missing} pair{'s' if num_missing > 1 else ''} not run" if num_missing else ""
    apart = (known - known.groupby(level=0).transform("mean")).round(DECIMALS)
    return [
        f"Task competition, {len(gains.index.levels[0])} tasks, {seeds_of(gains)}{missing}: mean gain by a second task "
        f"{mean} points (published {published}). Published: {gains.attrs['source']}.",
        f"Spearman's rank correlation with the published matrix: {correlate(known['ours'], known[PUBLISHED])}, over "
        f"{len(known)} entries; with each row's mean taken out of both: {correlate(apart['ours'], apart[PUBLISHED])}.",
    ]


def correlations(gains: pd.DataFrame) -> Table:
    """How the gains of single seeds correlate with each other and with the published, and their means."""
    found = gains.corr(method="spearman").map(lambda rho: "" if pd.isna(rho) else f"{rho:+.3f}")
    names = [PUBLISHED if name == PUBLISHED else f"seed {name}" for name in gains]
    cells = found.set_axis(names).set_axis(names, axis="columns").rename_axis("").reset_index()
    cells["mean gain, points"] = [percent(gains[name].mean(), signed=True) for name in gains]
    return Table("Spearman's rank correlation of the entries of two matrices", cells)


def seeds_of(gains: pd.DataFrame) -> str:
    """How many seeds there are, in words."""
    return f"{gains.shape[1] - 1} seed{'s' if gains.shape[1] > 2 else ''}"


@plain_style()
def draw_competition(gains: pd.DataFrame) -> Figure:
    """Our matrix and the published one side by side, and entry against entry."""
    figure = Figure(figsize=(18, 7), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 0.75))
    ours, published = 100 * mean_of_seeds(gains), 100 * gains[PUBLISHED]
    limit = max(ours.abs().max(), published.abs().max())
    _draw_matrix(left, ours, limit, f"here, {seeds_of(gains)}")
    _draw_matrix(middle, published, limit, f"published: {gains.attrs['source']}")
    left.set_ylabel("task evaluated")
    right.scatter(published, ours, s=18, color="C0", alpha=0.7)
    right.axhline(0, color="0.8", zorder=0)
    right.axvline(0, color="0.8", zorder=0)
    right.set(xlabel="published gain, points", ylabel="gain here, points", box_aspect=1)
    right.set_title(f"entry by entry: Spearman's rho {correlate(ours, published.where(ours.notna()))}")
    right.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Accuracy gained on a task by learning it together with another, against alone")
    return figure


def _draw_matrix(axes: Axes, points: pd.Series, limit: float, title: str) -> None:
    """Draw a matrix in colours that are white at 0, with its numbers if there is room."""
    import seaborn  # here: it takes a second, and one figure needs it

    matrix = as_matrix(points)
    bar = {"label": "accuracy gained, points", "location": "bottom", "shrink": 0.7}
    look = {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit, "square": True, "annot": len(matrix) <= 12, "fmt": ".1f"}
    seaborn.heatmap(matrix, ax=axes, cbar_kws=bar, **look)
    # Grey: the diagonal, and what was not run.
    axes.set(xlabel="learned together with", ylabel="", title=title, facecolor="0.88")
