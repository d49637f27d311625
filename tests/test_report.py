"""A report's tables and files, and what is left out of them."""

import csv
import re
import shutil

import pandas as pd
import pytest
import yaml

from tests.make_runs import COLUMN, CONV, DIGITS, INVOCATION, continual, make_run
from tests.small_reports import make_suite_runs, run_folders, settings, write_report_suite
from tests.small_runs import content_of, run, tiny_flags, write_benchmark, write_npz
from utils.command_line import read_command
from utils.files import write_json
from utils.metrics import METRICS, Metric
from utils.report import __main__ as report
from utils.report.records import make_results, of_folders
from utils.suite import __main__ as suite
from utils.suite.file import read_cells, read_suite


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


def test_report_of_a_suite_beside_the_published(tmp_path, capsys):
    published = [{"row": "Isolated", "percent": {"Digits": 79.0}, "source": "a page"}]
    path = write_report_suite(tmp_path / "suite.yaml", published=published, metrics=["average_accuracy", "forgetting"])
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
    path = write_report_suite(
        tmp_path / "suite.yaml", rows={"A": "--tasks_per_round 1", "B": "", "C": "--tasks_per_round 3"}
    )
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
    path = write_report_suite(tmp_path / "suite.yaml")
    make_suite_runs(path, tmp_path / "runs", {("Isolated", "Digits"): {0: continual(*[0.7] * 5)}})
    write_report_suite(path, flags="--epochs 2 --continual")
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    text = capsys.readouterr().out
    assert "left out" in text
    assert "which differ in epochs" in text
    assert "70.00" not in text


def test_p_values_are_corrected_and_zeros_are_told(tmp_path, capsys):
    rows = {name: f"--tasks_per_round {b}" for name, b in (("A", 1), ("B", 2), ("C", 3))}
    path = write_report_suite(tmp_path / "suite.yaml", rows=rows, columns={"Digits": COLUMN})
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
    path = write_report_suite(tmp_path / "suite.yaml", sweep="samples", rows=rows, columns={"Digits": COLUMN})
    make_suite_runs(path, tmp_path / "runs", {(row, "Digits"): {0: continual(*[0.7] * 5)} for row in rows})
    (tmp_path / "runs/all/digits/s0_old2").mkdir()  # not of ours
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    assert (tmp_path / "runs/report/sweep.png").exists()


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
    path = write_report_suite(folder / "suite.yaml", rows=rows, columns={"Mine": column}, seeds=[0, 1])
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
