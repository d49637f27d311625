"""A report's tables and files, and what is left out of them."""

import csv
import re
import shutil

import pytest
import yaml

from tests.make_runs import COLUMN, CONV, INVOCATION, continual, make_run
from tests.small_reports import make_suite_runs, run_folders, settings, write_report_suite
from tests.small_runs import content_of, run, tiny_flags, write_benchmark, write_npz
from utils.command_line import read_command
from utils.metrics import METRICS, Metric
from utils.report import __main__ as report
from utils.report.results import of_folders
from utils.suite import __main__ as suite
from utils.suite.file import read_plan


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_report_of_run_folders(every_image, folders, capsys):
    shutil.rmtree(folders / "zoo0")
    others = INVOCATION | {"commit": "def456"}, {"commit": "def456", "host": "node1"}
    make_run(folders / "zoo0", settings("--seed", "0"), continual(*[0.8] * 5), invocations=[INVOCATION, *others])
    assert report.main([*run_folders(folders), "--out", str(folders / "out")]) == 0
    text = capsys.readouterr().out
    assert "80.00 ± 14.14\n" in text  # Isolated
    assert "85.00 ± 7.07\n" in text
    assert "seeds, n = 2\n" in text
    assert "+5.00" in text
    assert "commit abc123, def456; device a test" in text
    assert "4 runs, 4 min in all" in text
    assert "left out" in text
    assert "broken is not complete" in text
    made = {(row["commit"], row["torch"]) for row in rows_of(folders / "out/runs.csv")}
    assert made == {("abc123", "2"), ("abc123; def456", "2; not known")}
    rows = rows_of(folders / "out/report.csv")
    assert [row["method"] for row in rows] == ["continual-b1-e1", "continual-b5-e1"]
    assert (float(rows[1]["mean"]), float(rows[1]["std"])) == pytest.approx((0.85, 0.1 / 2**0.5))
    assert (rows[1]["n"], rows[1]["published"]) == ("2", "")
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


def test_the_csv_files_hold_each_accuracy_and_how_each_run_was_made(folders):
    assert report.main([str(folders / "zoo1"), "--out", str(folders / "out")]) == 0
    records, (made,) = (rows_of(folders / "out" / name) for name in ("records.csv", "runs.csv"))
    assert len(records) == 15
    assert list(records[-1].values()) == ["split_digits-conv", "continual-b5-e1", "1", "4", "8 and 9", "0.9"]
    how = {"commit": "abc123", "torch": "2", "device": "a test", "threads": "1", "precision": "fp32"}
    cost = {"learners": "5", "parameters": "5000", "images_trained": "500", "images_stored": "40"}
    assert made.items() >= (how | cost | {"elapsed_sec": "60.0", "peak_mem_gb": "0.5", "scored_on": "test"}).items()


def test_report_of_a_suite_beside_the_published(tmp_path, capsys):
    published = [{"row": "Isolated", "percent": {"Digits": 79.0}, "source": "a page"}]
    path = write_report_suite(tmp_path / "suite.yaml", published=published, metrics=["average_accuracy", "forgetting"])
    runs = {seed: continual(*[0.7 + 0.1 * seed] * 5) for seed in range(3)}  # mean 80
    falling = continual(0.9, 0.9, 0.9, 0.9, 0.9)
    falling[-1][0] = 0.4
    make_suite_runs(path, tmp_path / "runs", {("Isolated", "Digits"): runs, ("Zoo", "Digits"): {0: falling}})
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    text = capsys.readouterr().out
    first, second, *_ = text.split("Forgetting (the authors')")
    assert re.search(
        r"Isolated +80.00 ± 10.00 \(3\)\n  95 % interval +55.16 to 100.00\n  published +79.00\n  difference +\+1.00\n",
        first,
    )
    assert "Published: a page." in first
    assert re.search(r"Zoo +10.00 \(1\)\n", second)  # (0.9 - 0.4) / 5
    assert re.search(r"Zoo +Isolated +\+10.00 +.*one seed: over tasks", second)
    assert "\nNot run: 2 of 4 planned runs (Isolated / More digits; Zoo / More digits). To make them: " in text
    assert f"utils/suite {path} --suite_dir {tmp_path / 'runs'}\n" in text
    assert "More digits" not in first
    page = (tmp_path / "runs/report/report.md").read_text()
    assert "![rounds_digits](rounds_digits.png)" in page
    assert (tmp_path / "runs/report/rounds_digits.png").exists()


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ({}, True),
        ({"epochs": [1, 200]}, True),
        ({"model": "conv"}, True),
        ({"epochs": [200]}, False),
        ({"model": "x"}, False),
    ],
)
def test_a_number_of_another_network_or_length_has_no_difference(tmp_path, capsys, keys, shown):
    published = [{"row": "Zoo", "percent": {"Digits": 79.0}, "source": "a page", **keys}]
    path = write_report_suite(tmp_path / "suite.yaml", published=published)
    make_suite_runs(path, tmp_path / "runs", {("Zoo", "Digits"): {0: continual(*[0.8] * 5)}})
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    text = capsys.readouterr().out
    assert "79.00" in text
    assert ("+1.00" in text) == shown
    assert ("No difference is shown from a number of another network" in text) != shown


def test_a_report_needs_nothing_but_run_json(folders, capsys):
    paths = [path for path in run_folders(folders) if "broken" not in path]
    assert report.main(paths) == 0
    text = capsys.readouterr().out
    for path in folders.rglob("config.yaml"):
        path.unlink()
    assert report.main(paths) == 0
    assert capsys.readouterr().out == text


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
    assert "Difference of two methods" not in text


def test_all_and_its_number_are_one_method(folders, capsys):
    for seed, b in enumerate(("all", "5", "all")):
        chosen = settings("--tasks_per_round", b, "--epochs", "7", "--seed", str(seed))
        make_run(folders / f"every{seed}", chosen, continual(*[0.9] * 5))
    (found,), _ = of_folders([folders / f"every{seed}" for seed in range(3)])
    assert (found.method, list(found.runs)) == ("continual-b5-e7", [0, 1, 2])
    again = settings("--tasks_per_round", "5", "--epochs", "7", "--seed", "0")
    make_run(folders / "same", again, continual(*[0.9] * 5))
    assert report.main([str(folders / "every0"), str(folders / "same")]) == 2
    assert "same: the same settings and seed as another of the folders" in capsys.readouterr().err


def test_one_task_is_isolated_and_two_are_a_pair_with_all_too(tmp_path):
    ids = {"one": ["--task_ids", "3"], "pair": ["--task_ids", "3", "1", "--continual", "false", "--num_rounds", "1"]}
    for name, flags in ids.items():
        make_run(tmp_path / name, settings(*flags, "--tasks_per_round", "all"), [[0.5] * (len(flags) > 2) + [0.9]])
    one, pair = (of_folders([tmp_path / name])[0][0] for name in ids)
    assert (one.is_isolated, one.is_pair, pair.is_isolated, pair.is_pair) == (True, False, False, True)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["true", "--suite", "config/suite/demo.yaml", "--bold_best"],
            "give run folders, or --suite SUITE.yaml, got true",
        ),
        (["lr=0.1"], "lr=0.1: not a run folder"),
        (["-out", "x"], "unrecognized arguments: -out"),
        ([], "give run folders, or --suite SUITE.yaml, got none of them"),
        (["runs/x", "--suite_dir", "y"], "--suite_dir needs --suite"),
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
    assert "85.00 ± 7.07" in capsys.readouterr().out


def test_crosses_are_those_of_isolated_with_the_same_recipe_and_epochs(folders):
    make_run(folders / "long", settings("--epochs", "9", "--seed", "0"), continual(*[0.9] * 5))
    alone, zoo, long = (of_folders([folders / name])[0][0] for name in ("alone0", "zoo0", "long"))
    assert alone.is_isolated_of(zoo)
    assert not alone.is_isolated_of(long)
    assert not zoo.is_isolated_of(zoo)


def test_methods_are_compared_with_the_first_that_was_run(tmp_path, capsys):
    rows = {"A": "--tasks_per_round 1", "B": "", "C": "--tasks_per_round 3"}
    path = write_report_suite(tmp_path / "suite.yaml", rows=rows)
    runs = {(row, "Digits"): {0: continual(*[accuracy] * 5)} for row, accuracy in (("B", 0.7), ("C", 0.8))}
    make_suite_runs(path, tmp_path / "runs", runs)
    argv = ["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]
    assert report.main(argv) == 0
    (line,) = rows_of(tmp_path / "runs/report/comparisons.csv")
    assert (line["method"], line["against"], line["num_tasks"], line["seeds"]) == ("C", "B", "5", "0")
    assert float(line["mean"]) == pytest.approx(0.1)
    assert float(line["removed"]) == pytest.approx(0.1 / 0.3)
    assert report.main([*argv, "--against", "A"]) == 0  # A was not run
    assert report.main([*argv, "--against", "C"]) == 0
    assert "-10.00" in capsys.readouterr().out
    assert report.main([*argv, "--against", "nobody"]) == 2
    assert "--against: expected one of A, B, C, got 'nobody'" in capsys.readouterr().err


def test_a_gain_over_isolated_has_the_first_learners_part(tmp_path, capsys):
    path = write_report_suite(tmp_path / "suite.yaml", columns={"Digits": COLUMN})
    rising = continual(*[0.6] * 5)
    rising[-1] = [0.8] * 4 + [0.6]
    runs = {("Isolated", "Digits"): {0: continual(*[0.5] * 5)}, ("Zoo", "Digits"): {0: rising}}
    make_suite_runs(path, tmp_path / "runs", runs)
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]) == 0
    (line,) = rows_of(tmp_path / "runs/report/comparisons.csv")
    assert [float(line[key]) for key in ("mean", "removed", "first_learner")] == pytest.approx([0.26, 0.52, 0.1])
    assert re.search(r"Zoo +Isolated +\+26.00 .* 52.0 +\+10.00 ", capsys.readouterr().out)


def test_a_figure_that_cannot_be_drawn_is_a_warning(folders, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no font")

    monkeypatch.setattr("utils.report.figures.draw_accuracy", fail)
    assert report.main([*run_folders(folders), "--out", str(folders / "out")]) == 0
    said = capsys.readouterr()
    assert "85.00 ± 7.07" in said.out
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


def test_a_report_of_nothing_never_takes_the_place_of_a_report_of_something(folders, tmp_path, capsys):
    path = write_report_suite(tmp_path / "suite.yaml")
    make_suite_runs(path, tmp_path / "runs", {("Zoo", "Digits"): {0: continual(*[0.7] * 5)}})
    argv, kept = ["--suite", str(path), "--suite_dir", str(tmp_path / "runs")], tmp_path / "runs/report"
    assert report.main(argv) == 0
    first = content_of(kept)
    write_report_suite(path, flags="--epochs 2 --continual")
    capsys.readouterr()
    for words in (argv, [str(folders / "broken"), "--out", str(kept)]):
        assert report.main(words) == 2
        said = capsys.readouterr()
        assert "No run is complete." in said.out
        assert "left out: " in said.out
        assert said.err == f"utils.report: {kept}: no complete run was found, so the report that is there was kept\n"
    assert content_of(kept) == first
    for _ in range(2):  # nothing is lost
        assert report.main([*argv, "--out", str(tmp_path / "empty")]) == 0
        assert (tmp_path / "empty/report.md").exists()


def test_metrics_of_arrival_are_of_continual_runs_alone(folders, capsys):
    base = ["--task_ids", "all", "--continual", "false"]
    make_run(folders / "multi", settings(*base, "--num_rounds", "1"), [[0.5] * 5])
    assert report.main([str(folders / "zoo0"), str(folders / "multi"), "--metrics", "forgetting"]) == 0
    average, forgetting, *_ = capsys.readouterr().out.split("Forgetting (the authors')")
    assert re.search(r"multitask-b5-e1-k1 +50.00\n", average)
    assert "multitask" not in forgetting.split("Difference")[0]


def test_a_run_from_before_a_metric_was_there_has_it_too(folders, capsys, monkeypatch):
    monkeypatch.setitem(METRICS, "worst_task", Metric(lambda r: float(r[-1].min()), "worst task", needs_arrival=False))
    assert "worst_task" not in (folders / "zoo0/run.json").read_text()
    assert report.main([str(folders / "zoo0"), "--metrics", "worst_task"]) == 0
    assert re.search(r"Worst task(.|\n)* 80.00\n", capsys.readouterr().out)


# ---- where data lie, and which data they are


def own_data(folder, **data):
    """The flags of a run of one round on data in a folder of their own."""
    folder.mkdir()
    return [*tiny_flags(folder, ((0, 1), (2, 3)), **data), "--num_rounds", "1"]


@pytest.mark.parametrize("drawn", [[], ["--samples", "4"], ["--validation", "0.4"]])
def test_equal_data_at_two_paths_are_one_column_and_other_data_are_another(tmp_path, capsys, drawn):
    here, there, other = own_data(tmp_path / "here"), own_data(tmp_path / "there"), own_data(tmp_path / "other", seed=1)
    runs = {"a": here, "b": [*there, "--seed", "1"], "c": [*other, "--seed", "2"]}
    for name, flags in runs.items():
        assert run(*flags, *drawn, "--run_dir", tmp_path / name) == 0
    capsys.readouterr()
    assert report.main([str(tmp_path / name) for name in runs]) == 0
    text = capsys.readouterr().out
    assert re.search(r"method +tiny-small +tiny-small \(2\)\n", text)
    assert re.search(r"multitask-b5-e1\S* +\d+\.\d\d ± \d+\.\d\d \(2\) +\d+\.\d\d \(1\)\n", text)
    shutil.rmtree(tmp_path / "a/zoo")
    assert report.main([str(tmp_path / name) for name in runs]) == 0
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
    assert suite.main([str(path), *argv[2:], "--device", "cpu", "--dry_run"]) == 0
    assert "# 4 runs, 4 of them complete" in capsys.readouterr().out


def test_a_suite_whose_data_were_changed_is_an_error_and_not_one_mean(tmp_path, capsys):
    path, argv = own_suite(tmp_path / "mine")
    first, second = (read_plan(path, tmp_path / "mine/runs").cells[0].with_seed(seed) for seed in (0, 1))
    assert run(*first.argv) == 0
    assert report.main(argv) == 0
    written = content_of(tmp_path / "mine/runs/report")
    write_npz(tmp_path / "mine/tiny.npz", num_classes=4, seed=1)
    assert run(*second.argv) == 0
    capsys.readouterr()
    assert report.main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("utils.report: Isolated / Mine / seed 1: its images or labels are not those of runs ")
    assert content_of(tmp_path / "mine/runs/report") == written
    assert report.main([str(it.run_dir) for it in (first, second)]) == 0
    assert "tiny-conv (2)" in capsys.readouterr().out
