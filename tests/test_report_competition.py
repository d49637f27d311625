"""Task competition: the matrix of a suite's pairs beside the published one."""

import numpy as np
import pytest

from tests.make_runs import COLUMN, continual
from tests.small_reports import make_suite_runs, write_report_suite
from utils.report import __main__ as report
from utils.suite.file import read_labelled_csv


def competition_suite(tmp_path, matrix, **pair):
    """Three tasks alone and the three pairs of them; ``pair`` changes the column of the first pair."""
    (tmp_path / "published.csv").write_text(matrix)
    columns = {
        f"{a}+{b}": COLUMN | {"flags": f"--task_ids {a} {b}", "rows": ["Multi-Head"]}
        for a, b in ((0, 1), (0, 2), (1, 2))
    }
    columns["0+1"] |= pair
    return write_report_suite(
        tmp_path / "suite.yaml",
        flags="--epochs 1",
        rows={"Isolated": "--continual --tasks_per_round 1", "Multi-Head": "--num_rounds 1 --tasks_per_round all"},
        columns={"alone": COLUMN | {"flags": "--task_ids 0 1 2", "rows": ["Isolated"]}} | columns,
        competition={
            "file": str(tmp_path / "published.csv"),
            "source": "a page",
            "names": {"A": "0 and 1", "B": "2 and 3", "C": "4 and 5"},
        },
    )


def report_competition(path, *runs_of_seeds):
    """Write the runs of pairs, by column, beside those of the tasks alone, and make the report; gives its status."""
    folder = path.parent / "runs"
    for seed, runs in enumerate(runs_of_seeds):
        accuracy = {("Multi-Head", column): {seed: [finals]} for column, finals in runs.items()}
        make_suite_runs(path, folder, accuracy | {("Isolated", "alone"): {seed: continual(0.5, 0.6, 0.7)}})
    return report.main(["--suite", str(path), "--suite_dir", str(folder)])


def test_competition_matches_by_name(every_image, tmp_path, capsys):
    path = competition_suite(tmp_path, "# a source\nrow,C,B,A\nC,0,6,5\nB,4,0,3\nA,2,1,0\n")
    assert report_competition(path, {"0+1": [0.51, 0.63], "0+2": [0.52, 0.75], "1+2": [0.64, 0.76]}) == 0
    text = capsys.readouterr().out
    assert "published matrix: +1.000, over 6 entries; with each row's mean taken out of both: +1.000." in text
    assert "mean gain by a second task +3.50 points (published +3.50)" in text
    assert "0+1" not in text  # the matrix shows the pairs, no table does
    matrix = read_labelled_csv(tmp_path / "runs/report/competition.csv")
    assert list(matrix) == list(matrix.index) == ["0 and 1", "2 and 3", "4 and 5"]
    np.testing.assert_allclose(matrix, [[np.nan, 0.01, 0.02], [0.03, np.nan, 0.04], [0.05, 0.06, np.nan]])
    assert (tmp_path / "runs/report/competition.png").exists()


SOME_MATRIX = "row,A,B,C\nA,0,1,9\nB,2,0,9\nC,9,9,0\n"


def test_a_pair_that_was_not_run_is_told(tmp_path, capsys):
    path = competition_suite(tmp_path, SOME_MATRIX)
    assert report_competition(path, {"0+1": [0.51, 0.61], "0+2": [0.51, 0.71]}) == 0
    assert "3 tasks, 1 seed, 1 pair not run: mean gain" in capsys.readouterr().out


def test_tasks_alone_without_a_pair_have_no_matrix(tmp_path, capsys):
    assert report_competition(competition_suite(tmp_path, SOME_MATRIX), {}) == 0
    text = capsys.readouterr().out
    assert "Task competition" not in text
    assert "Not run: 3 of 4 planned runs (Multi-Head / 0+1; Multi-Head / 0+2; Multi-Head / 1+2)" in text


def test_some_pairs_are_compared_with_the_same_entries(tmp_path, capsys):
    assert report_competition(competition_suite(tmp_path, SOME_MATRIX), {"0+1": [0.51, 0.61]}) == 0
    text = capsys.readouterr().out
    assert "matrix: not defined, all entries known are equal" in text
    assert "3 tasks, 1 seed, 2 pairs not run: mean gain by a second task +1.00 points (published +1.50)" in text


def test_single_seeds_are_told_too(tmp_path, capsys):
    path = competition_suite(tmp_path, "row,A,B,C\nA,0,1,2\nB,3,0,4\nC,5,6,0\n")
    first = {"0+1": [0.51, 0.63], "0+2": [0.52, 0.75], "1+2": [0.64, 0.76]}
    second = {"0+1": [0.49, 0.57], "0+2": [0.48, 0.65]}  # each entry the negative of the first seed's; a pair not run
    assert report_competition(path, first, second) == 0
    text = capsys.readouterr().out
    assert "3 tasks, 2 seeds: mean gain by a second task +1.67 points" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("seed ")]
    assert rows == [
        ["seed", "0", "+1.000", "-1.000", "+1.000", "+3.50"],
        ["seed", "1", "-1.000", "+1.000", "-1.000", "-2.75"],
    ]


def test_what_a_row_has_in_common_is_taken_out(tmp_path, capsys):
    """Our rows are in the order of the published ones, the entries within each row are the other way round."""
    path = competition_suite(tmp_path, "row,A,B,C\nA,0,1,2\nB,3,0,4\nC,5,6,0\n")
    assert report_competition(path, {"0+1": [0.52, 0.64], "0+2": [0.51, 0.76], "1+2": [0.63, 0.75]}) == 0
    assert "+0.829, over 6 entries; with each row's mean taken out of both: -1.000." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("matrix", "pair", "message"),
    [
        (SOME_MATRIX, {"flags": "--task_ids 0 1 --epochs 7"}, "as the tasks alone, got other epochs"),
        (SOME_MATRIX, {"benchmark": "other.yaml"}, "as the tasks alone, got other tasks"),
    ],
)
def test_a_competition_that_does_not_fit(tmp_path, capsys, monkeypatch, matrix, pair, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.yaml").write_text("dataset: digits\ntasks: [[0, 2], [2, 3]]\ntask_names: [x, 2 and 3]\n")
    assert report_competition(competition_suite(tmp_path, matrix, **pair), {"0+1": [0.51, 0.61]}) == 2
    assert message in capsys.readouterr().err


def test_a_competition_has_a_published_name_for_each_task(tmp_path, capsys):
    path = competition_suite(tmp_path, SOME_MATRIX)
    path.write_text(path.read_text().replace("    C: 4 and 5\n", ""))
    assert report_competition(path, {"0+1": [0.51, 0.61]}) == 2
    assert "published.csv for the tasks 4 and 5\n" in capsys.readouterr().err
