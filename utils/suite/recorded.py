"""Which runs of a suite are recorded, in the two tables that a report is made of, and how another one is added."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import filelock
import pandas as pd

from utils.errors import UserError
from utils.files import write_whole
from utils.report.records import RECORD, RUN, Tables, of_files, of_runs, to_csv
from utils.suite.file import Cell, RunName


def has_records(folder: Path) -> bool:
    """Whether a folder has one of the two tables; if the other is missing, reading them is an error."""
    return any((folder / f"{name}.csv").exists() for name in Tables._fields)


def read_recorded(folder: Path, cells: Sequence[Cell]) -> set[RunName]:
    """The runs recorded in a folder; none if it has no records. Raises UserError if one is not a run of the suite."""
    if not has_records(folder):
        return set()
    tables, remarks = of_files(folder, cells)
    if remarks:
        raise UserError(f"{folder / 'runs.csv'}: {remarks[0].removeprefix('left out: ')}; take another --records")
    return {RunName(*name) for name in tables.runs[RUN].itertuples(index=False)}


def add_records(folder: Path, run_dirs: Mapping[RunName, Path]) -> None:
    """Add complete runs to the records, in the place of those with the same names. Raises UserError."""
    if not run_dirs:
        return
    new = of_runs(run_dirs)
    with filelock.FileLock(folder / ".lock"):  # another suite may record there too
        tables = of_files(folder, [])[0] if has_records(folder) else Tables(new.records[:0], new.runs[:0])
        for name, key, old, more in zip(Tables._fields, (RECORD[:-1], RUN), tables, new, strict=True):
            kept = old[~old.set_index(RUN).index.isin(run_dirs)]
            write_whole(folder / f"{name}.csv", to_csv(pd.concat([kept, more]).sort_values(key)).encode())
