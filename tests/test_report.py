import csv

import numpy as np
import pytest
import yaml
from scipy import stats

from tests.make_runs import CONV, DIGITS, continual, make_run
from utils.config import ConfigError, read_command
from utils.report import __main__ as report
from utils.report.records import of_folders
from utils.report.statistics import estimate, paired_by_task, rank_correlation
from utils.suite.file import read_cells, read_labelled_csv, read_suite


def test_mean_std_and_interval_worked_by_hand():
    found = estimate([0.7, 0.8, 0.9])
    assert (found.mean, found.std, found.n) == pytest.approx((0.8, 0.1, 3))
    assert found.high - found.mean == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-6)  # t(2) at 97.5 %
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_a_single_seed_has_no_spread():
    assert estimate([0.7]) == (0.7, None, None, None, 1)


def test_seeds_that_agree_have_an_interval_of_a_point():
    assert estimate([0.5, 0.5])[1:4] == (0.0, 0.5, 0.5)


def test_no_values_are_refused():
    with pytest.raises(ValueError, match="one or more"):
        estimate([])


def test_paired_by_task_averages_the_common_seeds_of_each_task():
    ours = {0: [0.6, 0.7, 0.8, 0.9, 1.0], 1: [0.8, 0.9, 1.0, 1.1, 1.2], 7: [0.0] * 5}
    other = {0: [0.6, 0.6, 0.6, 0.6, 0.6], 1: [0.6, 0.6, 0.6, 0.6, 0.6]}
    found = paired_by_task(ours, other)
    assert found.seeds == (0, 1)
    assert found.difference.mean == pytest.approx(0.3)  # 0.1, 0.2, ..., 0.5
    assert found.difference.std == pytest.approx((0.1 / 4) ** 0.5)
    assert found.difference.n == 5
    assert found.wilcoxon_p == pytest.approx(2 / 2**5)  # all five of one sign


@pytest.mark.parametrize(("other"), [{1: [0.5, 0.5]}, {0: [0.5]}])
def test_methods_without_a_common_seed_or_task_are_not_compared(other):
    assert paired_by_task({0: [0.5, 0.5]}, other) is None


def test_methods_that_agree_differ_by_nothing():
    found = paired_by_task({0: [0.5, 0.6]}, {0: [0.5, 0.6]})
    assert (found.difference.mean, found.wilcoxon_p) == (0.0, 1.0)


def test_equal_differences_are_ties_and_none_is_a_zero_however_they_round():
    ours = {0: [0.1, 0.6, 0.3, 0.9], 1: [0.2, 0.7, 0.5, 0.9], 2: [0.3, 0.8, 0.4, 0.9]}
    other = {0: [0.3, 0.3, 0.1, 1.0], 1: [0.2, 0.4, 0.2, 1.1], 2: [0.1, 0.5, 0.0, 1.2]}
    found = paired_by_task(ours, other)
    assert found.difference.mean == pytest.approx((0 + 0.3 + 0.3 - 0.2) / 4)
    assert found.wilcoxon_p == stats.wilcoxon([0, 3, 3, -2]).pvalue
    assert found.wilcoxon_p != stats.wilcoxon([-1e-17, 0.3, 0.3 + 1e-16, -0.2]).pvalue


def test_matrices_without_ranks_have_no_correlation():
    ours, published = np.array([[0, 0.02], [0.02, 0]]), np.array([[0, 0.01], [0.03, 0]])
    assert rank_correlation(ours, published) is None
    assert rank_correlation(published, published).rho == pytest.approx(1.0)


def test_rank_correlation_leaves_out_the_diagonal_and_what_is_not_known():
    nan = float("nan")
    ours = np.array([[9, 1, 2], [3, 9, 4], [5, nan, 9]])
    published = np.array([[0, 50, 40], [30, 0, 20], [10, 99, 0]])
    assert rank_correlation(ours, published)[::2] == (pytest.approx(-1.0), 5)


def settings(*flags):
    base = ("--data_config", str(DIGITS), "--hp_config", str(CONV), "--epochs", "1", "--continual")
    return read_command([*base, *flags]).settings


@pytest.fixture
def folders(tmp_path):
    for seed, (alone, zoo) in enumerate([(0.7, 0.8), (0.9, 0.9)]):
        alone_settings = settings("--tasks_per_round", "1", "--seed", str(seed))
        make_run(tmp_path / f"alone{seed}", alone_settings, continual(*[alone] * 5))
        make_run(tmp_path / f"zoo{seed}", settings("--seed", str(seed)), continual(*[zoo] * 5))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/config.yaml").write_text((tmp_path / "zoo0/config.yaml").read_text())
    return tmp_path


def run_folders(folders):
    return [str(path) for path in sorted(folders.iterdir()) if path.is_dir()]


def test_report_of_run_folders(folders, capsys):
    assert report.main([*run_folders(folders), "--out", str(folders / "out")]) == 0
    text = capsys.readouterr().out
    assert "80.00 ± 14.14 (2)" in text  # Isolated
    assert "85.00 ± 7.07 (2)" in text
    assert "+5.00" in text
    assert "commit abc123; device a test" in text
    assert "4 runs, 4 min in all" in text
    assert "left out" in text
    assert "broken is not complete" in text
    assert {path.name for path in (folders / "out").iterdir()} == {
        "report.md",
        "report.csv",
        "comparisons.csv",
        "evolution_continual_b5_e1_split_digits_conv.png",
        "rounds_split_digits_conv.png",
    }


def test_csv_has_fractions_in_full(folders):
    report.main([*run_folders(folders), "--out", str(folders / "out")])
    with open(folders / "out/report.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["continual-b1-e1", "continual-b5-e1"]
    assert float(rows[1]["mean"]) == pytest.approx(0.85)
    assert float(rows[1]["std"]) == pytest.approx(0.1 / 2**0.5)
    assert (rows[1]["n"], rows[1]["published"], rows[1]["mean_elapsed_sec"]) == ("2", "", "60.0")


def test_without_out_nothing_is_written(folders, capsys):
    before = set(folders.rglob("*"))
    assert report.main(run_folders(folders)) == 0
    assert set(folders.rglob("*")) == before


def write_suite(path, **values):
    column = {"benchmark": str(DIGITS), "recipe": str(CONV)}
    base = {
        "title": "Title",
        "flags": "--epochs 1 --continual",
        "seeds": [0],
        "rows": {"Isolated": "--tasks_per_round 1", "Zoo": "--tasks_per_round 3"},
        "columns": {"Digits": column, "More digits": column},
    }
    path.write_text(yaml.safe_dump(base | values))
    return path


def make_suite_runs(path, folder, accuracy):
    """A run of each cell and seed that ``accuracy`` has a row for."""
    for cell in read_cells(read_suite(path), path, folder):
        for seed, matrix in accuracy.get((cell.row, cell.column), {}).items():
            make_run(cell.run_dir(seed), cell.settings_of(seed), matrix)


def test_report_of_a_suite_beside_the_published(tmp_path, capsys):
    published = [{"row": "Isolated", "percent": {"Digits": 79.0}, "source": "a page"}]
    path = write_suite(tmp_path / "suite.yaml", published=published, metrics=["average_accuracy", "forgetting"])
    runs = {seed: continual(*[0.7 + 0.1 * seed] * 5) for seed in range(3)}  # mean 80
    falling = continual(0.9, 0.9, 0.9, 0.9, 0.9)
    falling[-1][0] = 0.4
    make_suite_runs(path, tmp_path / "runs", {("Isolated", "Digits"): runs, ("Zoo", "Digits"): {0: falling}})
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    isolated = next(line.split() for line in lines if line.startswith("Digits") and "average" in line)
    assert isolated[4:] == ["80.00", "±", "10.00", "55.16", "to", "104.84", "3", "79.00", "[1]", "+1.00", "60", "s"]
    assert "[1] a page" in lines
    assert any("forgetting" in line and "10.00" in line for line in lines)  # (0.9 - 0.4) / 5
    assert any(line.startswith("More digits") and "not run" in line for line in lines)
    assert any(line.split()[:3] == ["Digits", "Zoo", "Isolated"] and "+10.00" in line for line in lines)
    page = (tmp_path / "runs/report/report.md").read_text()
    assert "![rounds_digits](rounds_digits.png)" in page
    assert (tmp_path / "runs/report/rounds_digits.png").exists()


def test_report_of_a_suite_that_was_not_run(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    text = capsys.readouterr().out
    assert text.count("not run") == 8
    assert "No run is complete" in text


def test_runs_on_benchmarks_of_one_name_and_other_tasks_are_not_compared(tmp_path, capsys):
    for folder, tasks in (("one", [[0, 1], [2, 3]]), ("other", [[8, 9], [6, 7]])):
        (tmp_path / folder).mkdir()
        benchmark = tmp_path / folder / "mine.yaml"
        benchmark.write_text(yaml.safe_dump({"dataset": "digits", "tasks": tasks}))
        command = read_command(["--data_config", str(benchmark), "--hp_config", str(CONV), "--continual"])
        make_run(tmp_path / folder / "run", command.settings, continual(0.5, 0.9))
    assert report.main([str(tmp_path / folder / "run") for folder in ("one", "other")]) == 0
    text = capsys.readouterr().out
    assert "mine-conv (2)" in text
    assert "Wilcoxon" not in text


def test_crosses_are_those_of_isolated_with_the_same_recipe_and_epochs(folders):
    results, _ = of_folders([folders / "alone0", folders / "zoo0"])
    make_run(folders / "long", settings("--epochs", "9", "--seed", "0"), continual(*[0.9] * 5))
    (long,), _ = of_folders([folders / "long"])
    alone, zoo = results
    assert alone.is_isolated_of(zoo)
    assert not alone.is_isolated_of(long)
    assert not zoo.is_isolated_of(zoo)


def test_methods_may_be_compared_with_another_than_the_first(folders, capsys):
    argv = [str(folders / name) for name in ("alone0", "zoo0")]
    assert report.main([*argv, "--against", "continual-b5-e1"]) == 0
    assert "-10.00" in capsys.readouterr().out
    assert report.main([*argv, "--against", "nobody"]) == 2
    assert "--against: expected one of continual-b1-e1, continual-b5-e1, got 'nobody'" in capsys.readouterr().err


def test_methods_are_compared_with_the_first_that_was_run(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml", rows={"A": "--tasks_per_round 1", "B": "", "C": "--tasks_per_round 3"})
    runs = {(row, "Digits"): {0: continual(*[accuracy] * 5)} for row, accuracy in (("B", 0.7), ("C", 0.8))}
    make_suite_runs(path, tmp_path / "runs", runs)
    argv = ["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]
    assert report.main(argv) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Digits", "C", "B", "+10.00"] in [words[:4] for words in lines]
    with open(tmp_path / "runs/report/comparisons.csv", encoding="utf-8") as file:
        (line,) = csv.DictReader(file)
    assert (line["method"], line["against"], line["n"], line["seeds"]) == ("C", "B", "5", "0")
    assert float(line["mean"]) == pytest.approx(0.1)
    assert report.main([*argv, "--against", "A"]) == 0
    assert capsys.readouterr().out.count("A was not run") == 2


def test_average_accuracy_is_always_told(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml", metrics=["forgetting"])
    make_suite_runs(path, tmp_path / "runs", {("Zoo", "Digits"): {0: continual(*[0.7] * 5)}})
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    assert "70.00 (1)" in capsys.readouterr().out


def test_pairs_without_a_matrix_are_columns(tmp_path, capsys):
    column = {"benchmark": str(DIGITS), "recipe": str(CONV), "pairs_of": [0, 1], "rows": ["Zoo"]}
    path = write_suite(tmp_path / "suite.yaml", columns={"Pairs": column}, rows={"Zoo": "--tasks_per_round 2"})
    make_suite_runs(path, tmp_path / "runs", {("Zoo", "Pairs 0+1"): {0: continual(0.7, 0.7)}})
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    assert "Pairs 0+1  Zoo" in capsys.readouterr().out


def test_accuracies_that_do_not_fit_the_summary_are_named(folders, capsys):
    path = folders / "zoo0/accuracy.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert report.main([str(folders / "zoo0")]) == 2
    assert "accuracy.csv: expected 5 rounds that end as in summary.json" in capsys.readouterr().err


def test_methods_with_other_tasks_are_said_not_to_be_compared(tmp_path, capsys):
    make_run(tmp_path / "a", settings("--tasks_per_round", "1"), continual(*[0.7] * 5))
    make_run(tmp_path / "b", settings("--num_rounds", "3"), continual(*[0.7] * 3))
    assert report.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "not the same tasks, or no seed in common" in capsys.readouterr().out


def test_a_summary_that_lacks_a_key_is_named(folders, capsys):
    (folders / "zoo0/summary.json").write_text("{}")
    assert report.main([str(folders / "zoo0")]) == 2
    assert "zoo0/summary.json: expected the summary of a complete run, got none of its" in capsys.readouterr().err


def test_a_run_with_other_settings_is_left_out(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    make_suite_runs(path, tmp_path / "runs", {("Isolated", "Digits"): {0: continual(*[0.7] * 5)}})
    write_suite(path, flags="--epochs 2 --continual")
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    text = capsys.readouterr().out
    assert "left out" in text
    assert "others for epochs" in text
    assert "70.00" not in text


def test_a_sweep_has_its_figure(tmp_path):
    path = write_suite(tmp_path / "suite.yaml", sweep="tasks_per_round")
    runs = {0: continual(*[0.7] * 5)}
    make_suite_runs(path, tmp_path / "runs", {(row, "Digits"): runs for row in ("Isolated", "Zoo")})
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    assert (tmp_path / "runs/report/sweep.png").exists()


def test_a_sweep_over_samples_has_all_of_them_last(tmp_path):
    rows = {"All": "", "Some": "--samples 5"}
    path = write_suite(tmp_path / "suite.yaml", sweep="samples", rows=rows)
    make_suite_runs(path, tmp_path / "runs", {(row, "Digits"): {0: continual(*[0.7] * 5)} for row in rows})
    (tmp_path / "runs/all/digits/s0_old2").mkdir()  # not of ours
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    assert (tmp_path / "runs/report/sweep.png").exists()


def competition_suite(tmp_path, matrix):
    column = {"benchmark": str(DIGITS), "recipe": str(CONV)}
    (tmp_path / "published.csv").write_text(matrix)
    return write_suite(
        tmp_path / "suite.yaml",
        flags="--epochs 1",
        rows={"Isolated": "--continual --tasks_per_round 1", "Multi-Head": "--num_rounds 1 --tasks_per_round all"},
        columns={
            "alone": column | {"task_ids": [0, 1, 2], "rows": ["Isolated"]},
            "together": column | {"pairs_of": [0, 1, 2], "rows": ["Multi-Head"]},
        },
        competition={
            "alone": "alone",
            "together": "together",
            "file": str(tmp_path / "published.csv"),
            "source": "a page",
            "names": {"A": "0 and 1", "B": "2 and 3", "C": "4 and 5"},
        },
    )


def test_competition_matches_by_name(tmp_path, capsys):
    path = competition_suite(tmp_path, "# a source\nrow,C,B,A\nC,0,6,5\nB,4,0,3\nA,2,1,0\n")
    runs = {
        ("Isolated", "alone"): {0: continual(0.5, 0.6, 0.7)},
        ("Multi-Head", "together 0+1"): {0: [[0.51, 0.63]]},
        ("Multi-Head", "together 0+2"): {0: [[0.52, 0.75]]},
        ("Multi-Head", "together 1+2"): {0: [[0.64, 0.76]]},
    }
    make_suite_runs(path, tmp_path / "runs", runs)
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    text = capsys.readouterr().out
    assert "correlation with the published matrix: +1.000 over 6 entries" in text
    assert "mean gain by a second task +3.50 points (published +3.50)" in text
    names, rows = read_labelled_csv(tmp_path / "runs/report/competition.csv")
    assert names == ["0 and 1", "2 and 3", "4 and 5"]
    np.testing.assert_allclose(list(rows.values()), [[0, 0.01, 0.02], [0.03, 0, 0.04], [0.05, 0.06, 0]])
    assert (tmp_path / "runs/report/competition.png").exists()


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ("row,C,D\nC,0,6\nD,4,0\n", "competition.names: expected each name in"),
        ("row,A,B\nA,0,6\nB,4,0\n", "competition.names: expected each task's name, got none for '4 and 5'"),
        ("row,A,B\nA,0\nB,4,0\n", "published.csv: expected 2 numbers in each line"),
    ],
)
def test_a_published_matrix_that_does_not_fit(tmp_path, capsys, matrix, message):
    path = competition_suite(tmp_path, matrix)
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 2
    assert message in capsys.readouterr().err


def test_a_matrix_without_ranks_says_so(tmp_path, capsys):
    path = competition_suite(tmp_path, "row,A,B,C\nA,0,1,9\nB,2,0,9\nC,9,9,0\n")
    runs = {("Isolated", "alone"): {0: continual(0.5, 0.6, 0.7)}, ("Multi-Head", "together 0+1"): {0: [[0.51, 0.61]]}}
    make_suite_runs(path, tmp_path / "runs", runs)
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    text = capsys.readouterr().out
    assert "matrix: not defined, all entries known are equal" in text
    assert "3 tasks, 1 seed, 2 pairs not run: mean gain by a second task +1.00 points" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flags": "--epochs 7"}, "competition: expected alone and together with the same settings, got other epochs"),
        ({"benchmark": "other.yaml"}, "competition.together: expected tasks of competition.alone, got 'x', none of"),
    ],
)
def test_tasks_are_learned_together_as_they_are_alone(tmp_path, capsys, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.yaml").write_text(
        "dataset: digits\ntasks: [[0, 2], [2, 3], [4, 5]]\ntask_names: [x, 2 and 3, 4 and 5]\n"
    )
    path = competition_suite(tmp_path, "row,A,B,C\nA,0,1,9\nB,2,0,9\nC,9,9,0\n")
    values = yaml.safe_load(path.read_text())
    values["columns"]["together"] |= changes
    path.write_text(yaml.safe_dump(values))
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 2
    assert message in capsys.readouterr().err


def test_a_mean_gain_is_compared_with_that_of_the_same_entries(tmp_path, capsys):
    path = competition_suite(tmp_path, "row,A,B,C\nA,0,1,9\nB,2,0,9\nC,9,9,0\n")
    runs = {("Isolated", "alone"): {0: continual(0.5, 0.6, 0.7)}, ("Multi-Head", "together 0+1"): {0: [[0.51, 0.63]]}}
    make_suite_runs(path, tmp_path / "runs", runs)
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    assert "mean gain by a second task +2.00 points (published +1.50)" in capsys.readouterr().out


def test_competition_needs_every_task_alone(tmp_path, capsys):
    path = competition_suite(tmp_path, "row,A,B,C\nA,0,1,9\nB,2,0,9\nC,9,9,0\n")
    values = yaml.safe_load(path.read_text())
    values["columns"]["alone"]["task_ids"].remove(2)
    path.write_text(yaml.safe_dump(values))
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 2
    assert "competition.alone: expected a column with every task of the pairs" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "row,A\nB,x\n", "row,A\nB,1,2\n"])
def test_a_damaged_csv(tmp_path, content):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(ConfigError, match=r"x\.csv: expected"):
        read_labelled_csv(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected run folders or --suite"),
        (["x", "--suite", "y"], "got both"),
        (["nowhere"], "nowhere/config.yaml"),
        (["--suite", "nowhere.yaml"], "nowhere.yaml"),
        (["x", "--colour"], "--colour"),
    ],
)
def test_mistakes_are_a_line_and_status_2(argv, message, capsys):
    assert report.main(argv) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
