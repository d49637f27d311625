import csv
import itertools
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from tests.make_runs import COLUMN, CONV, DIGITS, INVOCATION, continual, make_run
from tests.small_runs import content_of, run, tiny_flags, write_benchmark, write_npz
from utils.command_line import read_command
from utils.files import write_json
from utils.metrics import METRICS, Metric
from utils.report import __main__ as report
from utils.report.competition import Matrices
from utils.report.records import NO_SEED, make_results, of_folders, read_labelled_csv
from utils.report.statistics import estimate, holm, paired_by_task, rank_correlation, wilcoxon_p
from utils.suite import __main__ as suite
from utils.suite.file import read_cells, read_suite


def test_mean_std_and_interval_worked_by_hand():
    found = estimate([0.4, 0.5, 0.6])
    assert (found.mean, found.std, found.n) == pytest.approx((0.5, 0.1, 3))
    nan = float("nan")
    assert estimate([0.7]) == pytest.approx((0.7, nan, nan, nan, 1), nan_ok=True)
    assert found.high - found.mean == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-6)  # t(2) at 97.5 %
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_an_interval_of_accuracies_ends_at_0_and_1():
    assert estimate([0.1, 0.9], least=0.0)[2:4] == (0.0, 1.0)
    assert estimate([-0.9, 0.9])[2:4] == (-1.0, 1.0)


def by_seed(finals):
    """The accuracies at the end, a row a seed."""
    return pd.DataFrame.from_dict(finals, orient="index")


def test_paired_by_task_averages_the_common_seeds_of_each_task():
    ours = {0: [0.6, 0.7, 0.8, 0.9, 1.0], 1: [0.8, 0.9, 1.0, 1.1, 1.2], 7: [0.0] * 5}
    other = {0: [0.6, 0.6, 0.6, 0.6, 0.6], 1: [0.6, 0.6, 0.6, 0.6, 0.6]}
    found = paired_by_task(by_seed(ours), by_seed(other))
    assert found.seeds == (0, 1)
    assert found.difference.mean == pytest.approx(0.3)  # 0.1, 0.2, ..., 0.5
    assert found.difference.std == pytest.approx((0.1 / 4) ** 0.5)
    assert found.difference.n == 5
    assert found.wilcoxon_p == pytest.approx(2 / 2**5)  # all five of one sign


@pytest.mark.parametrize(("other"), [{1: [0.5, 0.5]}, {0: [0.5]}])
def test_methods_without_a_common_seed_or_task_are_not_compared(other):
    assert paired_by_task(by_seed({0: [0.5, 0.5]}), by_seed(other)) is None


def test_where_the_seeds_of_one_are_not_known_all_seeds_are_averaged():
    found = paired_by_task(by_seed({0: [0.5, 0.7], 1: [0.7, 0.7]}), by_seed({NO_SEED: [0.5, 0.5]}))
    assert found.difference.mean == pytest.approx(0.15)
    assert found.seeds == (0, 1)


def test_equal_differences_are_ties_and_none_is_a_zero_however_they_round():
    ours = {0: [0.1, 0.6, 0.3, 0.9], 1: [0.2, 0.7, 0.5, 0.9], 2: [0.3, 0.8, 0.4, 0.9]}
    other = {0: [0.3, 0.3, 0.1, 1.0], 1: [0.2, 0.4, 0.2, 1.1], 2: [0.1, 0.5, 0.0, 1.2]}
    found = paired_by_task(by_seed(ours), by_seed(other))
    assert found.difference.mean == pytest.approx((0 + 0.3 + 0.3 - 0.2) / 4)
    assert (found.num_zeros, found.wilcoxon_p) == (1, 0.5)  # of ranks 2.5, 2.5, -1: 4 of 8 signs are as extreme


@pytest.mark.parametrize("differences", [np.arange(1.0, 21.0), np.ones(20), np.array([0.0, *np.ones(20)])])
def test_twenty_differences_of_one_sign_have_the_least_p_with_ties_and_zeros_too(differences):
    assert wilcoxon_p(differences) == 2 / 2**20


def test_p_is_that_of_all_choices_of_signs():
    rng = np.random.default_rng(0)
    for num_values in range(1, 12):
        differences = rng.integers(-4, 5, num_values).astype(float)
        nonzero = differences[differences != 0]
        ranks = stats.rankdata(np.abs(nonzero))
        centred = [abs(np.dot(signs, ranks)) for signs in itertools.product((-1, 1), repeat=len(ranks))]
        expected = np.mean(np.array(centred) >= abs(np.dot(np.sign(nonzero), ranks)))
        assert wilcoxon_p(differences) == expected
        without_ties = rng.normal(size=num_values)
        assert wilcoxon_p(without_ties) == pytest.approx(stats.wilcoxon(without_ties, method="exact").pvalue)


def test_holm_worked_by_hand():
    assert holm(pd.Series([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(pd.Series([0.8, 0.9])).tolist() == [1.0, 1.0]
    assert holm(pd.Series([], dtype=float)).empty


def test_rank_correlation_leaves_out_the_diagonal_and_what_is_not_known():
    nan = float("nan")
    ours, published = [[9, 1, 2], [3, 9, 4], [5, nan, 9]], [[0, 50, 40], [30, 0, 20], [10, 99, 0]]
    matrices = Matrices(pd.DataFrame(ours), pd.DataFrame(published), "1 seed", "a page")
    assert rank_correlation(matrices.entries)[::2] == (pytest.approx(-1.0), 5)


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


def test_report_of_run_folders(every_image, folders, capsys):
    later = INVOCATION.model_copy(update={"commit": "def456"})
    of_another_version = {"commit": "def456", "host": "node1"}
    write_json(folders / "zoo0/env.json", [INVOCATION.model_dump(), later.model_dump(), of_another_version])
    assert report.main([*run_folders(folders), "--out", str(folders / "out")]) == 0
    text = capsys.readouterr().out
    assert "80.00 ± 14.14 (2)" in text  # Isolated
    assert "85.00 ± 7.07 (2)" in text
    assert "+5.00" in text
    assert "commit abc123, def456; device a test" in text
    assert "4 runs, 4 min in all" in text
    assert "left out" in text
    assert "broken is not complete" in text
    with open(folders / "out/runs.csv", encoding="utf-8") as file:
        made = {(row["commit"], row["torch"]) for row in csv.DictReader(file)}
    assert made == {("abc123", "2"), ("abc123; def456", "2; not known")}
    with open(folders / "out/report.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["continual-b1-e1", "continual-b5-e1"]
    assert (float(rows[1]["mean"]), float(rows[1]["std"])) == pytest.approx((0.85, 0.1 / 2**0.5))
    assert (rows[1]["n"], rows[1]["published"], rows[1]["elapsed_sec"]) == ("2", "", "60.0")
    assert {path.name for path in (folders / "out").iterdir()} == {
        "report.md",
        "report.csv",
        "report.tex",
        "comparisons.csv",
        "records.csv",
        "runs.csv",
        "evolution_continual_b5_e1_split_digits_conv.png",
        "evolution_continual_b5_e1_split_digits_conv.pdf",
        "rounds_split_digits_conv.png",
        "rounds_split_digits_conv.pdf",
    }


def write_suite(path, **values):
    base = {
        "title": "Title",
        "flags": "--epochs 1 --continual",
        "seeds": [0],
        "rows": {"Isolated": "--tasks_per_round 1", "Zoo": "--tasks_per_round 3"},
        "columns": {"Digits": COLUMN, "More digits": COLUMN},
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
    assert isolated[4:] == [
        "80.00",
        "±",
        "10.00",
        "55.16",
        "to",
        "100.00",
        "3",
        "79.00",
        "[1]",
        "+1.00",
        "5,000",
        "500",
        "60",
        "s",
    ]
    assert "[1] a page" in lines
    assert any("forgetting" in line and "10.00" in line for line in lines)  # (0.9 - 0.4) / 5
    assert any(line.startswith("More digits") and "not run" in line for line in lines)
    assert any(line.split()[:3] == ["Digits", "Zoo", "Isolated"] and "+10.00" in line for line in lines)
    page = (tmp_path / "runs/report/report.md").read_text()
    assert "![rounds_digits](rounds_digits.png)" in page
    assert (tmp_path / "runs/report/rounds_digits.png").exists()


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


def test_all_and_its_number_are_one_method(folders, capsys):
    for seed, b in enumerate(("all", "5", "all")):
        chosen = settings("--tasks_per_round", b, "--epochs", "7", "--seed", str(seed))
        make_run(folders / f"every{seed}", chosen, continual(*[0.9] * 5))
    found, _ = of_folders([folders / f"every{seed}" for seed in range(3)])
    assert found.runs["method"].tolist() == ["continual-b5-e7"] * 3
    make_run(
        folders / "same", settings("--tasks_per_round", "5", "--epochs", "7", "--seed", "0"), continual(*[0.9] * 5)
    )
    assert report.main([str(folders / "every0"), str(folders / "same")]) == 2
    assert "same: the same settings and seed as " in capsys.readouterr().err


def test_one_task_is_isolated_and_two_are_a_pair_with_all_too(tmp_path):
    ids = {"one": ["--task_ids", "3"], "pair": ["--task_ids", "3", "1", "--continual", "false", "--num_rounds", "1"]}
    for name, flags in ids.items():
        make_run(tmp_path / name, settings(*flags, "--tasks_per_round", "all"), [[0.5] * (len(flags) > 2) + [0.9]])
    one, pair = (make_results(of_folders([tmp_path / name])[0], [])[0] for name in ids)
    assert (one.is_isolated, one.is_pair, pair.is_isolated, pair.is_pair) == (True, False, False, True)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["true", "--suite", "config/suite/demo.yaml", "--bold_best"], "--suite SUITE.yaml or --records DIR, got true"),
        (["--records", "x", "lr=0.1"], "--suite SUITE.yaml or --records DIR, got lr=0.1"),
        (["lr=0.1"], "lr=0.1: not a run folder"),
        (["-out", "x"], "unrecognized arguments: -out"),
        ([], "--suite SUITE.yaml or --records DIR, got none of them"),
    ],
)
def test_a_word_that_is_not_expected_is_named(argv, message, capsys):
    assert report.main(argv) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_run_folders_may_stand_on_both_sides_of_a_flag(folders, capsys):
    first, *others = run_folders(folders)
    assert report.main([first, "--bold_best", *others]) == 0
    assert "85.00 ± 7.07 (2)" in capsys.readouterr().out


def test_crosses_are_those_of_isolated_with_the_same_recipe_and_epochs(folders):
    alone, zoo = make_results(of_folders([folders / "alone0", folders / "zoo0"])[0], [])
    make_run(folders / "long", settings("--epochs", "9", "--seed", "0"), continual(*[0.9] * 5))
    (long,) = make_results(of_folders([folders / "long"])[0], [])
    assert alone.is_isolated_of(zoo)
    assert not alone.is_isolated_of(long)
    assert not zoo.is_isolated_of(zoo)


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
    assert capsys.readouterr().out.count("no seed in common, or other tasks") == 2
    assert report.main([*argv, "--against", "C"]) == 0
    assert "-10.00" in capsys.readouterr().out
    assert report.main([*argv, "--against", "nobody"]) == 2
    assert "--against: expected one of A, B, C, got 'nobody'" in capsys.readouterr().err


def test_a_figure_that_cannot_be_drawn_is_a_warning(folders, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no font")

    monkeypatch.setattr("utils.report.figures.draw_accuracy", fail)
    assert report.main([*run_folders(folders), "--out", str(folders / "out")]) == 0
    said = capsys.readouterr()
    assert "85.00 ± 7.07 (2)" in said.out
    name = "evolution_continual_b5_e1_split_digits_conv"
    assert said.err == f"warning: {name}: could not be drawn (no font)\n"
    assert (folders / "out/rounds_split_digits_conv.png").exists()
    assert name not in (folders / "out/report.md").read_text()


def test_a_run_with_other_settings_is_left_out(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    make_suite_runs(path, tmp_path / "runs", {("Isolated", "Digits"): {0: continual(*[0.7] * 5)}})
    write_suite(path, flags="--epochs 2 --continual")
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    text = capsys.readouterr().out
    assert "left out" in text
    assert "which differ in epochs" in text
    assert "70.00" not in text


def competition_suite(tmp_path, matrix, **pair):
    """Three tasks alone and the three pairs of them; ``pair`` changes the column of the first pair."""
    (tmp_path / "published.csv").write_text(matrix)
    columns = {
        f"{a}+{b}": COLUMN | {"flags": f"--task_ids {a} {b}", "rows": ["Multi-Head"]}
        for a, b in ((0, 1), (0, 2), (1, 2))
    }
    columns["0+1"] |= pair
    return write_suite(
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


def report_competition(path, runs):
    """Write the runs of pairs, by column, beside those of the tasks alone, and make the report; gives its status."""
    folder = path.parent / "runs"
    accuracy = {("Multi-Head", column): {0: [finals]} for column, finals in runs.items()}
    if runs:
        make_suite_runs(path, folder, accuracy | {("Isolated", "alone"): {0: continual(0.5, 0.6, 0.7)}})
    return report.main(["--suite", str(path), "--suite_dir", str(folder)])


def test_competition_matches_by_name(every_image, tmp_path, capsys):
    path = competition_suite(tmp_path, "# a source\nrow,C,B,A\nC,0,6,5\nB,4,0,3\nA,2,1,0\n")
    assert report_competition(path, {"0+1": [0.51, 0.63], "0+2": [0.52, 0.75], "1+2": [0.64, 0.76]}) == 0
    text = capsys.readouterr().out
    assert "correlation with the published matrix: +1.000 over 6 entries" in text
    assert "mean gain by a second task +3.50 points (published +3.50)" in text
    assert "0+1" not in text  # the matrix shows the pairs, no table does
    matrix = read_labelled_csv(tmp_path / "runs/report/competition.csv")
    assert list(matrix) == list(matrix.index) == ["0 and 1", "2 and 3", "4 and 5"]
    np.testing.assert_allclose(matrix, [[0, 0.01, 0.02], [0.03, 0, 0.04], [0.05, 0.06, 0]])
    assert (tmp_path / "runs/report/competition.png").exists()


SOME_MATRIX = "row,A,B,C\nA,0,1,9\nB,2,0,9\nC,9,9,0\n"


def test_p_values_are_corrected_and_zeros_are_told(tmp_path, capsys):
    rows = {name: f"--tasks_per_round {b}" for name, b in (("A", 1), ("B", 2), ("C", 3))}
    path = write_suite(tmp_path / "suite.yaml", rows=rows, columns={"Digits": COLUMN})
    finals = {"A": [0.5] * 5, "B": [0.5, 0.6, 0.7, 0.8, 0.9], "C": [0.55, 0.6, 0.7, 0.8, 0.9]}
    runs = {(row, "Digits"): {0: continual(*values)} for row, values in finals.items()}
    make_suite_runs(path, tmp_path / "runs", runs)
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    text = capsys.readouterr().out
    cells = [re.split("  +", line) for line in text.splitlines() if line.startswith("Digits") and " to " in line]
    assert [line[5:8] for line in cells[-2:]] == [["5 (1 zero)", "0.12", "0.12"], ["5", "0.062", "0.12"]]
    assert "corrected for the number of comparisons in this table (2)" in text
    with open(tmp_path / "runs/report/comparisons.csv", encoding="utf-8") as file:
        found = [(line["num_zeros"], line["wilcoxon_p"], line["holm_p"]) for line in csv.DictReader(file)]
    assert found == [("1", "0.125", "0.125"), ("0", "0.0625", "0.125")]


def test_a_sweep_has_a_figure(every_image, tmp_path):
    rows = {"All": "", "Some": "--samples 5"}
    path = write_suite(tmp_path / "suite.yaml", sweep="samples", rows=rows, columns={"Digits": COLUMN})
    make_suite_runs(path, tmp_path / "runs", {(row, "Digits"): {0: continual(*[0.7] * 5)} for row in rows})
    (tmp_path / "runs/all/digits/s0_old2").mkdir()  # not of ours
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    assert (tmp_path / "runs/report/sweep.png").exists()


def test_a_pair_that_was_not_run_is_told(tmp_path, capsys):
    path = competition_suite(tmp_path, SOME_MATRIX)
    assert report_competition(path, {"0+1": [0.51, 0.61], "0+2": [0.51, 0.71]}) == 0
    assert "3 tasks, 1 seed, 1 pair not run: mean gain" in capsys.readouterr().out


def test_some_pairs_are_compared_with_the_same_entries(tmp_path, capsys):
    assert report_competition(competition_suite(tmp_path, SOME_MATRIX), {"0+1": [0.51, 0.61]}) == 0
    text = capsys.readouterr().out
    assert "matrix: not defined, all entries known are equal" in text
    assert "3 tasks, 1 seed, 2 pairs not run: mean gain by a second task +1.00 points (published +1.50)" in text


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
    assert report_competition(competition_suite(tmp_path, matrix, **pair), {}) == 2
    assert message in capsys.readouterr().err


def test_a_competition_has_a_published_name_for_each_task(tmp_path, capsys):
    path = competition_suite(tmp_path, SOME_MATRIX)
    path.write_text(path.read_text().replace("    C: 4 and 5\n", ""))
    assert report_competition(path, {}) == 2
    assert "published.csv for the tasks 4 and 5\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give run folders, --pages PAGE.md, or --suite SUITE.yaml or --records DIR, got none of them"),
        (["x", "--suite", "y"], "give run folders"),
        (["x", "--records", "y"], "give run folders"),
        (["--pages", "x", "--suite", "y"], "give run folders"),
        (["--pages", "x", "--with", "y.csv"], "--pages takes no other flags"),
        (["--records", "nowhere"], "nowhere/records.csv: expected a table of runs as csv"),
        (["zoo0", "--with", "zoo0/config.yaml"], "zoo0/config.yaml: expected"),
        (["zoo0", "--metrics", "colour"], "--metrics: invalid choice: 'colour'"),
        (["x", "--suite_dir", "y"], "--suite_dir needs --suite"),
        (["nowhere"], "nowhere: not a run folder of this version"),
        (["--suite", "nowhere.yaml"], "nowhere.yaml"),
        (["zoo0", "--out", "zoo0/config.yaml/out"], "zoo0/config.yaml/out: the folder cannot be written"),
        (["zoo0", "zoo0"], "zoo0: the same settings and seed as zoo0"),
        (["x", "--colour"], "--colour"),
        (["zoo0", "--all_pairs", "--against", "y"], "--against: not allowed with argument --all_pairs"),
    ],
)
def test_mistakes_are_a_line_and_status_2(argv, message, folders, capsys, monkeypatch):
    monkeypatch.chdir(folders)
    assert report.main(argv) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert ("80.00 (1)" in said.out) == ("--out" in argv)  # the table is printed even if it cannot be written


# ---- where data lie, and which data they are


def own_data(folder, **data):
    """The flags of a run of one round on data in a folder of their own."""
    folder.mkdir()
    return [*tiny_flags(folder, ((0, 1), (2, 3)), **data), "--num_rounds", "1"]


@pytest.mark.parametrize("drawn", [[], ["--samples", "4"], ["--validation", "0.4"]])
def test_equal_data_at_two_paths_are_one_column_and_other_data_are_another(tmp_path, capsys, drawn):
    here, there, other = own_data(tmp_path / "here"), own_data(tmp_path / "there"), own_data(tmp_path / "other", seed=1)
    runs = {"a": here, "b": [*there, "--seed", "1"], "c": [*other, "--tasks_per_round", "1"]}
    for name, flags in runs.items():
        assert run(*flags, *drawn, "--run_dir", tmp_path / name) == 0
    capsys.readouterr()
    assert report.main([*(str(tmp_path / name) for name in runs), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"method +tiny-small +tiny-small \(2\)\n", text)
    assert re.search(r"multitask-b5-e1\S* +\d+\.\d\d ± \d+\.\d\d \(2\) +-\n", text)
    assert re.search(r"multitask-b1-e1\S* +- +\d+\.\d\d \(1\)\n", text)
    shutil.rmtree(tmp_path / "a")
    assert report.main(["--records", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == text


def test_a_run_whose_zoo_was_deleted_is_in_the_column_of_its_name(tmp_path, capsys):
    for seed in range(2):
        flags = own_data(tmp_path / f"data{seed}", seed=seed)
        assert run(*flags, "--seed", seed, "--run_dir", tmp_path / f"run{seed}") == 0
    shutil.rmtree(tmp_path / "run1/zoo")
    capsys.readouterr()
    argv = [str(tmp_path / f"run{seed}") for seed in range(2)]
    assert report.main([*argv, "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "tiny-small (2)" not in text
    assert report.main(["--records", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == text


def own_suite(folder):
    """A suite of own data, which lie beside its file; its runs do too."""
    folder.mkdir(parents=True)
    column = {"benchmark": str(write_benchmark(folder, ((0, 1), (2, 3)))), "recipe": str(CONV)}
    rows = {"Isolated": "--tasks_per_round 1", "Zoo": "--tasks_per_round 2"}
    path = write_suite(folder / "suite.yaml", rows=rows, columns={"Mine": column}, seeds=[0, 1])
    return path, ["--suite", str(path), "--suite_dir", str(folder / "runs")]


def test_a_suite_of_own_data_that_was_moved_is_as_before(tmp_path, capsys):
    path, argv = own_suite(tmp_path / "here")
    runs = {(row, "Mine"): {seed: continual(0.5, 0.9) for seed in (0, 1)} for row in ("Isolated", "Zoo")}
    make_suite_runs(path, tmp_path / "here/runs", runs)
    assert report.main(argv) == 0
    text = capsys.readouterr().out.replace("here", "there")
    shutil.move(tmp_path / "here", tmp_path / "there")
    path = tmp_path / "there/suite.yaml"
    path.write_text(path.read_text().replace("here", "there"))
    argv = [word.replace("here", "there") for word in argv]
    assert report.main(argv) == 0
    assert capsys.readouterr().out == text
    assert report.main([*argv, "--records", str(tmp_path / "there/runs/report")]) == 0
    assert capsys.readouterr().out == text
    assert suite.main([str(path), *argv[2:], "--device", "cpu", "--dry_run"]) == 0
    assert "# 4 runs, 4 of them complete" in capsys.readouterr().out


def test_a_suite_whose_data_were_changed_is_an_error_and_not_one_mean(tmp_path, capsys):
    path, argv = own_suite(tmp_path / "mine")
    cell = read_cells(read_suite(path), path, tmp_path / "mine/runs")[0]
    assert run(*cell.argv(0)) == 0
    assert report.main(argv) == 0
    first = content_of(tmp_path / "mine/runs/report")
    write_npz(tmp_path / "mine/tiny.npz", num_classes=4, seed=1)
    assert run(*cell.argv(1)) == 0
    capsys.readouterr()
    assert report.main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("utils.report: Isolated / Mine / seed 1: its images or labels are not those of runs ")
    assert content_of(tmp_path / "mine/runs/report") == first
    assert report.main([*(str(cell.run_dir(seed)) for seed in (0, 1)), "--out", str(tmp_path / "out")]) == 0
    for path in (tmp_path / "out/records.csv", tmp_path / "out/runs.csv"):
        named = pd.read_csv(path, dtype={"data": str}).assign(benchmark="Mine", method="Isolated")
        named.to_csv(path, index=False)
    assert report.main([*argv, "--records", str(tmp_path / "out")]) == 2
    assert "Isolated / Mine / seed 1: its images or labels are not" in capsys.readouterr().err


# ---- a report of nothing


def test_a_report_of_nothing_never_takes_the_place_of_a_report_of_something(folders, tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    make_suite_runs(path, tmp_path / "runs", {("Zoo", "Digits"): {0: continual(*[0.7] * 5)}})
    argv, kept = ["--suite", str(path), "--suite_dir", str(tmp_path / "runs")], tmp_path / "runs/report"
    assert report.main(argv) == 0
    first = content_of(kept)
    write_suite(path, flags="--epochs 2 --continual")
    capsys.readouterr()
    nothing = [argv, [*argv, "--records", str(kept)], [str(folders / "broken"), "--out", str(kept)]]
    for words in nothing:
        assert report.main(words) == 2
        said = capsys.readouterr()
        assert "No run is complete." in said.out
        assert "left out: " in said.out
        assert said.err == f"utils.report: {kept}: no complete run was found, so the report that is there was kept\n"
    write_suite(path)
    shutil.rmtree(tmp_path / "runs/zoo")
    assert report.main(argv) == 2
    assert content_of(kept) == first
    for _ in range(2):  # nothing is lost
        assert report.main([*argv, "--out", str(tmp_path / "empty")]) == 0
        assert (tmp_path / "empty/report.md").exists()
    line = "benchmark,method,task,accuracy\n" + "".join(f"Digits,Theirs,{task},0.5\n" for task in range(5))
    assert report.main([*argv, *elsewhere(tmp_path / "a.csv", line)]) == 0
    assert "Theirs" in (kept / "report.md").read_text()


# ---- the two tables, and methods from elsewhere


def test_a_report_is_made_again_from_its_two_tables(every_image, folders, capsys):
    paths = [path for path in run_folders(folders) if "broken" not in path]
    assert report.main([*paths, "--out", str(folders / "out")]) == 0
    first = {path.name: path.read_bytes() for path in (folders / "out").iterdir()}
    screen = capsys.readouterr().out
    (folders / "moved").mkdir()
    for name in ("records.csv", "runs.csv"):
        (folders / "moved" / name).write_bytes(first[name])
    for path in paths:
        shutil.rmtree(path)
    assert report.main(["--records", str(folders / "moved"), "--out", str(folders / "out")]) == 0
    assert {path.name: path.read_bytes() for path in (folders / "out").iterdir()} == first
    assert capsys.readouterr().out == screen


def test_a_suites_report_is_made_again_without_its_runs(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml", metrics=["average_accuracy", "forgetting"])
    runs = {seed: continual(*[0.7 + 0.1 * seed] * 5) for seed in range(3)}
    make_suite_runs(path, tmp_path / "runs", {("Isolated", "Digits"): runs})
    argv = ["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]
    assert report.main(argv) == 0
    kept = tmp_path / "runs/report"
    first = {path.name: path.read_bytes() for path in kept.glob("*.*") if path.suffix != ".png"}
    shutil.rmtree(tmp_path / "runs/isolated")
    assert report.main([*argv, "--records", str(kept)]) == 0
    assert {path.name: path.read_bytes() for path in kept.glob("*.*") if path.suffix != ".png"} == first
    write_suite(path, flags="--epochs 2 --continual")
    capsys.readouterr()
    assert report.main([*argv, "--records", str(kept), "--out", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "left out: Isolated / Digits / seed 2: not a run of the suite" in text
    assert "80.00" not in text


def test_the_two_tables_hold_each_accuracy_and_how_each_run_was_made(folders):
    assert report.main([str(folders / "zoo1"), "--out", str(folders / "out")]) == 0
    records, runs = (pd.read_csv(folders / "out" / name) for name in ("records.csv", "runs.csv"))
    assert list(records) == ["benchmark", "method", "seed", "round", "task", "accuracy"]
    assert len(records) == 15
    assert records.iloc[-1].tolist() == ["split_digits-conv", "continual-b5-e1", 1, 4, 4, 0.9]
    (run,) = runs.to_dict("records")
    made = {"commit": "abc123", "torch": 2, "device": "a test", "threads": 1, "precision": "fp32"}
    cost = {"learners": 5, "parameters": 5000, "images_trained": 500, "images_stored": 40, "mean_learners": 1.0}
    assert run.items() >= (made | cost | {"elapsed_sec": 60.0, "peak_mem_gb": 0.5, "scored_on": "test"}).items()


def elsewhere(path, text):
    path.write_text(text)
    return ["--with", str(path)]


ONE_BY_TASK = "".join(f"split_digits-conv,Theirs,{task},0.{task + 1}\n" for task in range(5))


def test_a_method_from_elsewhere_stands_in_the_same_tables(folders, capsys):
    argv = [str(folders / name) for name in ("zoo0", "zoo1")]
    argv += [
        "--out",
        str(folders / "out"),
        *elsewhere(folders / "a.csv", "benchmark,method,task,accuracy\n" + ONE_BY_TASK),
    ]
    assert report.main(argv) == 0
    text = capsys.readouterr().out
    assert re.search(r"Theirs +30.00 \(1\)", text)
    (line,) = [line.split() for line in text.splitlines() if " to " in line and "Theirs" in line]
    assert line[:4] == ["split_digits-conv", "Theirs", "continual-b5-e1", "-55.00"]
    assert line[-2:] == ["0", "1"]  # the seeds of ours
    assert report.main(["--records", str(folders / "out")]) == 0
    assert capsys.readouterr().out == text


def test_a_method_from_elsewhere_with_rounds_has_metrics_of_arrival(folders, capsys):
    rows = [("0", "0", "0.9"), ("1", "0", "0.5"), ("1", "1", "0.7")]
    lines = ["benchmark,method,seed,round,task,accuracy", *(f"New,Theirs,3,{','.join(row)}" for row in rows)]
    argv = [str(folders / "zoo0"), "--metrics", "forgetting", "backward_transfer"]
    assert report.main([*argv, *elsewhere(folders / "a.csv", "\n".join(lines))]) == 0
    text = capsys.readouterr().out
    assert re.search(r"New +Theirs +backward transfer \(Lopez-Paz and Ranzato 2017\) +-40.00", text)
    assert re.search(r"New +Theirs +forgetting \(the authors'\) +20.00", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "benchmark,method,task\na,b,0\n",
            "expected the columns benchmark, method, task, accuracy, got no accuracy",
        ),
        ("benchmark,method,task,accuracy\na,b,0,70.5\n", "a.csv: accuracy: expected fractions in 0..1, got 70.5"),
        ("benchmark,method,task,accuracy\na,b,0,0.5\na,b,0,0.5\n", "got one twice"),
        ("benchmark,method,task,accuracy\na,b,x,0.5\n", "a.csv: expected a table of runs as csv"),
        ("benchmark,method,task,accuracy\nsplit_digits-conv,continual-b5-e1,0,0.5\n", "got one of ours"),
    ],
)
def test_a_table_from_elsewhere_that_does_not_fit(folders, capsys, text, message):
    assert report.main([str(folders / "zoo0"), *elsewhere(folders / "a.csv", text)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("runs", lambda runs: runs.drop(columns="elapsed_sec"), "runs.csv: expected the columns benchmark, "),
        ("runs", lambda runs: runs.assign(settings="colour"), "runs.csv: settings: expected the settings of a run"),
        ("runs", lambda runs: runs.assign(settings='{"colour": 1}'), "runs.csv: settings: expected the settings of"),
        ("runs", lambda runs: runs.assign(seed="x"), "runs.csv: expected a table of runs as csv"),
        ("runs", lambda runs: pd.concat([runs, runs]), "runs.csv: expected one line for each benchmark, method, seed"),
        ("records", lambda lines: lines.drop(7), "seed 0: expected 15 accuracies, got 14"),
        ("records", lambda lines: pd.concat([lines, lines[-1:]]), "records.csv: expected one line for each benchmark"),
        ("records", lambda lines: lines.assign(accuracy=87.5), "accuracy: expected fractions in 0..1, got 87.5"),
    ],
)
def test_tables_that_were_changed_are_refused_in_a_line(folders, capsys, name, change, message):
    assert report.main([str(folders / "zoo0"), "--out", str(folders / "out")]) == 0
    path = folders / f"out/{name}.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    capsys.readouterr()
    assert report.main(["--records", str(folders / "out")]) == 2
    assert message in capsys.readouterr().err


def test_a_report_beside_its_records_keeps_the_runs_that_it_leaves_out(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    runs = {(row, "Digits"): {0: continual(*[0.7] * 5)} for row in ("Isolated", "Zoo")}
    make_suite_runs(path, tmp_path / "runs", runs)
    argv, kept = ["--suite", str(path), "--suite_dir", str(tmp_path / "runs")], tmp_path / "runs/report"
    assert report.main(argv) == 0
    tables = [kept / name for name in ("records.csv", "runs.csv")]
    before = [table.read_bytes() for table in tables]
    path.write_text(path.read_text().replace("--tasks_per_round 3", "--tasks_per_round 4"))
    assert report.main([*argv, "--records", str(kept)]) == 0
    assert "left out: Zoo / Digits / seed 0: not a run of the suite" in (kept / "report.md").read_text()
    assert [table.read_bytes() for table in tables] == before
    pd.read_csv(kept / "runs.csv")[:0].to_csv(kept / "runs.csv", index=False)
    assert report.main([*argv, "--records", str(kept)]) == 2
    assert "Isolated / Digits / seed 0: expected a line in runs.csv" in capsys.readouterr().err


def test_metrics_are_chosen_for_run_folders_and_multi_task_runs_have_those_without_arrival(folders, capsys):
    flags = ["--data_config", str(DIGITS), "--hp_config", str(CONV), "--epochs", "1", "--num_rounds", "1"]
    make_run(folders / "multi", read_command(flags).settings, [[0.5] * 5])
    argv = [str(folders / "zoo0"), str(folders / "multi"), "--metrics", "forgetting"]
    assert report.main(argv) == 0
    lines = [
        line for line in capsys.readouterr().out.splitlines() if "forgetting" in line or "average accuracy" in line
    ]
    assert sum("continual" in line for line in lines) == 2
    assert sum("multitask" in line for line in lines) == 1


def test_a_run_from_before_a_metric_was_there_has_it_too(folders, capsys, monkeypatch):
    monkeypatch.setitem(METRICS, "worst_task", Metric(lambda r: float(r[-1].min()), "worst task", needs_arrival=False))
    assert "worst_task" not in (folders / "zoo0/summary.json").read_text()
    assert report.main([str(folders / "zoo0"), "--metrics", "worst_task"]) == 0
    assert re.search(r"worst task +80.00", capsys.readouterr().out)
