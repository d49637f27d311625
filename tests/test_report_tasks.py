"""A task is its classes: methods are paired task by task, and methods from elsewhere by the tasks' names or numbers."""

import gzip
import re

import pytest

from tests.make_runs import COLUMN, continual, make_run
from tests.small_reports import make_suite_runs, settings, write_report_suite
from utils.report import __main__ as report

NAN = float("nan")


def report_suite(tmp_path, rows, accuracy, *flags, columns=None):
    """The report of a suite with one run of each row."""
    path = write_report_suite(tmp_path / "suite.yaml", rows=rows, columns=columns or {"Digits": COLUMN})
    make_suite_runs(path, tmp_path / "runs", {(row, "Digits"): {0: matrix} for row, matrix in accuracy.items()})
    return report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs"), *flags])


def test_the_same_tasks_in_reverse_order_are_paired_task_by_task(tmp_path, capsys):
    rows = {"Natural": "--tasks_per_round 1", "Reverse": "--tasks_per_round 1 --task_ids 4 3 2 1 0"}
    finals = [0.1, 0.3, 0.5, 0.7, 0.9]
    reverse = [final + 0.02 for final in reversed(finals)]  # each task 2 points better
    assert report_suite(tmp_path, rows, {"Natural": continual(*finals), "Reverse": continual(*reverse)}) == 0
    assert re.search(r"Reverse +Natural +\+2.00 +\+2.00 to \+2.00; one seed", capsys.readouterr().out)


def test_run_folders_with_the_same_tasks_in_another_order_are_one_column(tmp_path, capsys):
    make_run(tmp_path / "natural", settings(), continual(0.1, 0.3, 0.5, 0.7, 0.9))
    make_run(tmp_path / "reverse", settings("--task_ids", *"43210"), continual(0.92, 0.72, 0.52, 0.32, 0.12))
    assert report.main([str(tmp_path / name) for name in ("natural", "reverse")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"method +split_digits-conv\n", text)
    assert re.search(r"continual-b5-e1 \(2\) +continual-b5-e1 +\+2.00 +\+2.00 to \+2.00", text)


def test_other_tasks_are_not_paired_and_averages_over_fewer_say_so(tmp_path, capsys):
    rows = {"First four": "--task_ids 0 1 2 3", "Last four": "--task_ids 1 2 3 4", "Three rounds": "--num_rounds 3"}
    three = [row[:3] + [NAN] * 2 for row in continual(*[0.9] * 5)[:3]]
    accuracy = {"First four": continual(*[0.8] * 4), "Last four": continual(*[0.7] * 4), "Three rounds": three}
    assert report_suite(tmp_path, rows, accuracy, "--all_pairs", "--bold_best") == 0
    text = capsys.readouterr().out
    assert re.search(r"First four +80.00, 4 of 5 tasks\n", text)
    assert re.search(r"Last four +70.00, 4 of 5 tasks\n", text)
    assert re.search(r"Three rounds +90.00, 3 of 5 tasks\n", text)
    assert text.count("other tasks") == 3
    assert "**" not in text


def test_an_average_with_guesses_says_so_and_is_not_compared(tmp_path, capsys):
    rows = {"All": "", "Two rounds": "--continual false --num_rounds 2 --tasks_per_round 1"}
    published = [[0.5] * 5, [0.5] * 5]
    path = write_report_suite(tmp_path / "suite.yaml", rows=rows, columns={"Digits": COLUMN})
    make_suite_runs(
        path,
        tmp_path / "runs",
        {("All", "Digits"): {0: continual(*[0.4] * 5)}, ("Two rounds", "Digits"): {0: published}},
    )
    run = tmp_path / "runs/two_rounds/digits/s0/run.json"
    run.write_text(
        run.read_text().replace('"tasks_drawn": [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]', '"tasks_drawn": [[0], [3]]')
    )
    assert report.main(["--suite", str(path), "--suite_dir", str(tmp_path / "runs"), "--bold_best"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"Two rounds +50.00, 2 of 5 tasks learned\n", text)
    assert re.search(r"\*\*40.00\*\*", text)
    assert re.search(r"Two rounds +All +other tasks", text)


# ---- methods from elsewhere


def elsewhere(path, text):
    path.write_text(text)
    return ["--with", str(path)]


@pytest.mark.parametrize("by_name", [False, True])
def test_a_method_from_elsewhere_stands_in_the_same_tables(folders, capsys, by_name):
    names = ["0 and 1", "2 and 3", "4 and 5", "6 and 7", "8 and 9"]
    tasks = [name if by_name else task for task, name in enumerate(names)]
    lines = "".join(f"split_digits-conv , Theirs,{task},0.{number + 1}\n" for number, task in enumerate(tasks))
    argv = [str(folders / name) for name in ("zoo0", "zoo1")]
    assert report.main([*argv, *elsewhere(folders / "a.csv", "benchmark,method,task,accuracy\n" + lines)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"Theirs +30.00 \(1\)", text)
    assert re.search(r"Theirs +continual-b5-e1 +-55.00 .*; seeds not known: over tasks", text)


def test_a_reversed_file_is_paired_by_the_tasks(folders, capsys):
    lines = "".join(f"split_digits-conv,Theirs,0,{task},0.8\n" for task in reversed(range(5)))
    text = "benchmark,method,seed,task,accuracy\n" + lines
    assert report.main([str(folders / "zoo0"), *elsewhere(folders / "a.csv", text)]) == 0
    assert re.search(r"Theirs +continual-b5-e1 +\+0.00 +\+0.00 to \+0.00", capsys.readouterr().out)


def test_four_of_five_tasks_from_elsewhere_say_so_and_are_not_compared(folders, capsys):
    lines = "".join(f"split_digits-conv,Theirs,{task},0.9\n" for task in range(4))
    argv = [str(folders / "zoo0"), "--bold_best"]
    assert report.main([*argv, *elsewhere(folders / "a.csv", "benchmark,method,task,accuracy\n" + lines)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"Theirs +90.00, 4 of 5 tasks\n", text)
    assert "**80.00**" in text
    assert re.search(r"Theirs +continual-b5-e1 +other tasks", text)


def test_a_method_from_elsewhere_with_rounds_has_metrics_of_arrival(folders, capsys):
    rows = [("1", "0", "0.5"), ("1", "1", "0.7"), ("0", "0", "0.9")]
    lines = ["benchmark,method,seed,round,task,accuracy", *(f"New,Theirs,3,{','.join(row)}" for row in rows)]
    argv = [str(folders / "zoo0"), "--metrics", "forgetting", "backward_transfer"]
    assert report.main([*argv, *elsewhere(folders / "a.csv", "\n".join(lines))]) == 0
    _, forgetting, transfer = re.split(r"Forgetting \(the authors'\)|Backward transfer", capsys.readouterr().out)
    assert re.search(r"Theirs +- +20.00\n", forgetting)
    assert re.search(r"Theirs +- +-40.00\n", transfer)
    assert "a.csv: no run is on the benchmark 'New'" in transfer


HEAD = "benchmark,method,seed,round,task,accuracy\n"
GOOD = "split_digits-conv,Theirs,0,0,0,0.5\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("benchmark,method,task\nsplit_digits-conv,b,0\n", "a.csv, line 2: accuracy: Field required"),
        (HEAD + GOOD.replace("0.5", "70.5"), "a.csv, line 2: accuracy: expected less than or equal to 1, got '70.5'"),
        (HEAD + GOOD + GOOD, "a.csv, line 3: got this accuracy twice"),
        (
            HEAD + GOOD.replace("0,0.5", "5,0.5"),
            "a.csv, line 2: task: expected the name of a task of the benchmark, or its",
        ),
        (HEAD + GOOD.replace("0,0.5", ",0.5"), "a.csv, line 2: task: "),
        (HEAD + GOOD.replace("0.5", ""), "a.csv, line 2: accuracy: "),
        (
            HEAD + GOOD.replace("Theirs,0", f"Theirs,{2**63}"),
            "a.csv, line 2: seed: expected less than 9223372036854775808",
        ),
        (HEAD + GOOD.replace("Theirs", "continual-b5-e1"), "a.csv, line 2: expected a method that no run has"),
        (HEAD + GOOD + GOOD.replace("0,0,0,0.5", "1,0,1,0.5"), "a.csv, line 2: the round lacks a task that"),
        (HEAD + GOOD + "split_digits-conv,Theirs,0,1,1,0.5\n", "a.csv, line 3: the round lacks a task that"),
    ],
)
def test_a_mistake_in_a_file_from_elsewhere_is_a_line_with_its_number(folders, capsys, text, message):
    assert report.main([str(folders / "zoo0"), *elsewhere(folders / "a.csv", text)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", gzip.compress(b"benchmark,method", mtime=0), b"a\x00b", b'"'])
def test_a_file_from_elsewhere_that_is_damaged_or_compressed_is_a_line(folders, capsys, content):
    (folders / "a.csv").write_bytes(content)
    assert report.main([str(folders / "zoo0"), "--with", str(folders / "a.csv")]) == 2
    err = capsys.readouterr().err
    assert "a.csv: expected accuracies as csv" in err
    assert err.count("\n") == 1
