"""Task competition: what a task gains by being learned together with another, ours beside the published."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils.config import ConfigError
from utils.report.records import Result
from utils.suite.file import Competition


class Matrices(NamedTuple):
    """Accuracy gained on the row's task when learned together with the column's, a fraction; NaN where not known."""

    names: tuple[str, ...]
    ours: np.ndarray
    published: np.ndarray
    num_seeds: int


def read_labelled_csv(path: Path) -> tuple[list[str], dict[str, list[float]]]:
    """The header without its first word, and each line's numbers by its first word; empty cells are NaN.

    Lines that begin with ``#`` are passed over.

    Raises:
        ConfigError: the file cannot be read, or is not such a table.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(line for line in file if not line.startswith("#"))
        rows = {line[0]: [float(cell) if cell else float("nan") for cell in line[1:]] for line in lines}
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{path}: expected a header and lines of a name and numbers ({error})") from error
    if any(len(row) != len(header) - 1 for row in rows.values()):
        raise ConfigError(f"{path}: expected {len(header) - 1} numbers in each line, as the header has")
    return header[1:], rows


def published_matrix(competition: Competition, names: Sequence[str]) -> np.ndarray:
    """The published matrix in the order of our tasks, matched by name, as fractions. Raises ConfigError."""
    header, rows = read_labelled_csv(competition.file)
    unknown = [name for name in [*header, *rows] if name not in competition.names]
    if unknown:
        raise ConfigError(f"competition.names: expected each name in {competition.file}, got none for {unknown[0]!r}")
    place = {competition.names[name]: column for column, name in enumerate(header)}
    line = {competition.names[name]: values for name, values in rows.items()}
    missing = [name for name in names if name not in place or name not in line]
    if missing:
        raise ConfigError(f"competition.names: expected each task's name, got none for {missing[0]!r}")
    return np.array([[line[one][place[other]] for other in names] for one in names]) / 100


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
    """Both matrices; None where no pair was run. Raises ConfigError."""
    alone = next(result for result in results if result.group == competition.alone)
    names = alone.settings.benchmark.names
    ours, num_seeds = our_matrix(competition, results)
    if num_seeds == 0:
        return None
    return Matrices(names, ours, published_matrix(competition, names), num_seeds)
