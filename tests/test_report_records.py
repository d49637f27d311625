"""A report made again from its two tables, and methods from elsewhere in them."""

import re
import shutil

import pandas as pd
import pytest

from tests.make_runs import continual
from tests.small_reports import make_suite_runs, run_folders, write_report_suite
from tests.small_runs import content_of
from utils.report import __main__ as report


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
    path = write_report_suite(tmp_path / "suite.yaml", metrics=["average_accuracy", "forgetting"])
    runs = {seed: continual(*[0.7 + 0.1 * seed] * 5) for seed in range(3)}
    make_suite_runs(path, tmp_path / "runs", {("Isolated", "Digits"): runs})
    argv = ["--suite", str(path), "--suite_dir", str(tmp_path / "runs")]
    assert report.main(argv) == 0
    kept = tmp_path / "runs/report"
    first = {path.name: path.read_bytes() for path in kept.glob("*.*") if path.suffix != ".png"}
    shutil.rmtree(tmp_path / "runs/isolated")
    assert report.main([*argv, "--records", str(kept)]) == 0
    assert {path.name: path.read_bytes() for path in kept.glob("*.*") if path.suffix != ".png"} == first
    write_report_suite(path, flags="--epochs 2 --continual")
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
    path = write_report_suite(tmp_path / "suite.yaml")
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


def test_a_report_of_nothing_never_takes_the_place_of_a_report_of_something(folders, tmp_path, capsys):
    path = write_report_suite(tmp_path / "suite.yaml")
    make_suite_runs(path, tmp_path / "runs", {("Zoo", "Digits"): {0: continual(*[0.7] * 5)}})
    argv, kept = ["--suite", str(path), "--suite_dir", str(tmp_path / "runs")], tmp_path / "runs/report"
    assert report.main(argv) == 0
    first = content_of(kept)
    write_report_suite(path, flags="--epochs 2 --continual")
    capsys.readouterr()
    nothing = [argv, [*argv, "--records", str(kept)], [str(folders / "broken"), "--out", str(kept)]]
    for words in nothing:
        assert report.main(words) == 2
        said = capsys.readouterr()
        assert "No run is complete." in said.out
        assert "left out: " in said.out
        assert said.err == f"utils.report: {kept}: no complete run was found, so the report that is there was kept\n"
    write_report_suite(path)
    shutil.rmtree(tmp_path / "runs/zoo")
    assert report.main(argv) == 2
    assert content_of(kept) == first
    for _ in range(2):  # nothing is lost
        assert report.main([*argv, "--out", str(tmp_path / "empty")]) == 0
        assert (tmp_path / "empty/report.md").exists()
    line = "benchmark,method,task,accuracy\n" + "".join(f"Digits,Theirs,{task},0.5\n" for task in range(5))
    assert report.main([*argv, *elsewhere(tmp_path / "a.csv", line)]) == 0
    assert "Theirs" in (kept / "report.md").read_text()
