"""The records of a suite: finished runs are added at once, and what is recorded is not run again."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from tests.make_runs import COLUMN, continual, make_run, write_suite
from utils.command_line import read_command
from utils.report import __main__ as report
from utils.suite import __main__ as suite
from utils.suite import run as suite_run
from utils.suite.run import Outcome


@pytest.fixture
def run_suite(tmp_path, monkeypatch, capsys):
    """Runs a suite within this process and in the test's folder; in place of training, runs are made up."""

    def make_up(job, environment, stopping):
        make_run(job.run_dir, read_command(job.argv).settings, continual(0.5, 0.6, 0.7, 0.8, 0.9))
        return Outcome("done")

    def run_suite(path: Path, *flags: str) -> tuple[int, str, str]:
        status = suite.main([str(path), "--jobs", "1", "--device", "cpu", *flags])
        return (status, *capsys.readouterr())

    monkeypatch.setattr(suite_run, "run_command", make_up)
    monkeypatch.setattr(suite_run, "has_data", lambda jobs: True)
    monkeypatch.chdir(tmp_path)
    return run_suite


def write_short_suite(folder: Path, seeds: Sequence[int] = (0, 1)) -> Path:
    rows = {"Isolated": "--continual --tasks_per_round 1"}
    return write_suite(folder / "try.yaml", seeds=[*seeds], rows=rows, columns={"Digits": COLUMN})


def test_recorded_runs_are_not_run_again_and_finished_ones_are_recorded_at_once(tmp_path, run_suite):
    path, more = write_short_suite(tmp_path), ("--records", "recorded")
    tables = [tmp_path / "recorded" / name for name in ("records.csv", "runs.csv")]
    assert run_suite(path, "--seeds", "1")[0] == 0  # without records
    assert run_suite(path, "--seeds", "0", *more)[0] == 0
    assert [len(table.read_text().splitlines()) for table in tables] == [16, 2]
    shutil.rmtree(tmp_path / "runs/try/isolated/digits/s0")
    assert run_suite(path, "--seeds", "1", *more)[0] == 0
    assert re.findall("seed . *: (.*)", run_suite(path, *more, "--dry_run")[1]) == ["recorded", "recorded"]
    before = [table.read_bytes() for table in tables]
    status, out, _ = run_suite(path, *more)
    assert (status, [table.read_bytes() for table in tables]) == (0, before)
    assert "2 runs: 2 were complete before, 0 done" in out
    assert not (tmp_path / "runs/try/isolated/digits/s0").exists()
    assert run_suite(path, "--suite_dir", "again")[0] == 0
    assert report.main(["--suite", str(path), "--suite_dir", "again"]) == 0
    written, recorded = (
        pd.read_csv(folder / "records.csv") for folder in (tmp_path / "again/report", tables[0].parent)
    )
    assert written.equals(recorded)


def test_records_with_other_settings_are_named_and_kept(tmp_path, run_suite):
    path, runs = write_short_suite(tmp_path, seeds=[0]), tmp_path / "recorded/runs.csv"
    assert run_suite(path, "--records", "recorded")[0] == 0
    before = runs.read_bytes()
    path.write_text(path.read_text().replace("--samples 8", "--samples 3"))
    status, _, err = run_suite(path, "--records", str(runs.parent), "--suite_dir", "other")
    (line,) = err.splitlines()
    assert status == 2
    assert line.startswith(f"utils.suite: {runs}: Isolated / Digits / seed 0: not a run of the suite")
    assert runs.read_bytes() == before


def test_a_run_that_cannot_be_recorded_does_not_end_the_suite(tmp_path, run_suite):
    path, more = write_short_suite(tmp_path), ("--records", "recorded")
    (tmp_path / "recorded/.lock").mkdir(parents=True)
    status, out, _ = run_suite(path, *more)
    assert (status, out.count("complete, but not recorded: ")) == (1, 2)
    (tmp_path / "recorded/.lock").rmdir()
    status, out, _ = run_suite(path, *more)
    assert status == 0
    assert "2 runs: 2 were complete before, 0 done" in out
    assert len((tmp_path / "recorded/runs.csv").read_text().splitlines()) == 3
