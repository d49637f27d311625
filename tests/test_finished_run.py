"""``run.json``: what it must say, and what a folder that has nothing else of its run is good for."""

import json
import math
import shutil

import pytest

from tests.small_runs import GONE, change, content_of, results_of, run
from utils.config import FORMAT
from utils.run_folder import read_finished_run

CONTINUAL = ("--continual", "--tasks_per_round", "2", "--num_rounds", "2")


@pytest.fixture
def recorded(finished, tmp_path):
    """A folder with the ``run.json`` of the finished run alone."""
    (tmp_path / "recorded").mkdir()
    shutil.copy(finished[0] / "run.json", tmp_path / "recorded")
    return tmp_path / "recorded"


# ---- a recorded run


def test_a_recorded_run_is_complete(finished, recorded, capsys):
    before = content_of(recorded)
    capsys.readouterr()
    printed = []
    for run_dir in (finished[0], recorded):
        assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
        printed.append(capsys.readouterr())
    assert printed[0] == printed[1]
    assert "average accuracy" in printed[1].out
    assert content_of(recorded) == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--evaluate", "RUN_DIR"], "RUN_DIR: a recorded run, which is run.json alone: its learners are"),
        (["--predict", "RUN_DIR", "--task", "0", "a.png"], "RUN_DIR: a recorded run, which is run.json alone"),
        (["GROW", "--resume", "--num_rounds", "3"], "RUN_DIR/zoo/state.pt: missing, so that the run cannot go on"),
        (["GROW", "--resume", "--seed", "7"], "--resume: not the settings of the run: seed 7 (the run has 100)"),
        (["GROW", "--resume", "--tensorboard"], "RUN_DIR/rounds.jsonl: missing or damaged"),
        (["GROW"], "RUN_DIR: the folder is not empty"),
    ],
    ids=["evaluate", "predict", "grow", "other settings", "events", "neither"],
)
def test_what_needs_more_than_run_json_is_refused_in_a_line(finished, recorded, capsys, command, message):
    capsys.readouterr()
    words = {"RUN_DIR": [recorded], "GROW": [*finished[1], "--run_dir", recorded]}
    before = content_of(recorded)
    assert run(*(part for word in command for part in words.get(word, [word]))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"modelzoo.py: {message.replace('RUN_DIR', str(recorded))}")
    assert content_of(recorded) == before


def test_a_recorded_run_may_be_made_anew(finished, recorded):
    (recorded / "notes.txt").write_text("mine")
    assert run(*finished[1], "--run_dir", recorded, "--overwrite") == 0
    assert results_of(recorded) == results_of(finished[0])
    assert (recorded / "notes.txt").read_text() == "mine"


def test_another_programs_run_json_marks_no_run_folder(finished, tmp_path, capsys):
    (tmp_path / "run.json").write_text('{"speed": 10}')
    assert run(*finished[1], "--run_dir", tmp_path, "--overwrite") == 2
    assert "not a run folder, so nothing in it is deleted" in capsys.readouterr().err
    assert content_of(tmp_path) == {"run.json": b'{"speed": 10}'}


def test_where_the_draws_were_not_noted_a_task_is_learned_when_it_arrives(finished, recorded, capsys):
    capsys.readouterr()
    assert run(*finished[1], "--run_dir", recorded, "--resume") == 0
    expected = capsys.readouterr().out
    change(recorded / "run.json", "tasks_drawn", to=None)
    assert read_finished_run(recorded).first_round == {0: 0, 1: 1}
    assert run(*finished[1], "--run_dir", recorded, "--resume") == 0
    assert capsys.readouterr().out == expected


# ---- what it must say


@pytest.mark.parametrize(
    ("keys", "to", "message"),
    [
        (("format",), FORMAT - 1, f"format: expected {FORMAT}, got {FORMAT - 1}: another version wrote this run"),
        (("format",), GONE, f"format: expected {FORMAT}, got 'none': another version wrote this run"),
        (("settings", "epochs"), "many", "settings.epochs: expected a valid integer, unable to parse"),
        (("scored_on",), "train", "scored_on: expected 'test' or 'validation', got 'train'"),
        (("accuracy",), None, "accuracy: expected a valid tuple, got None"),
        (("accuracy", 0, 0), "a", "accuracy[0][0]: expected a valid number, unable to parse"),
        (("accuracy", 0, 0), math.nan, "accuracy[0][0]: expected a finite number, got nan"),
        (("accuracy", 0, 0), 1.01, "accuracy[0][0]: expected less than or equal to 1, got 1.01"),
        (("accuracy", 1, 1), None, "accuracy: expected a row a round, and in it an accuracy of each task that has"),
        (("accuracy", 0, 1), 0.5, "accuracy: expected a row a round, and in it an accuracy of each task that has"),
        (("accuracy", 1), GONE, "accuracy: expected a row a round, and in it an accuracy of each task that has"),
        (("tasks_drawn", 0), [0, 1], "tasks_drawn: expected a list a round, of tasks that have arrived"),
        (("tasks_drawn", 1), GONE, "tasks_drawn: expected a list a round, of tasks that have arrived"),
        (("data", 3), GONE, "data: expected the fingerprints of 4 tasks, got 3"),
        (("metrics",), {"forgetting": [1]}, "metrics.forgetting: expected a valid number, got [1]"),
        (("cost", "learners"), GONE, "cost.learners: Field required"),
        (("elapsed_sec",), "long", "elapsed_sec: expected a valid number, unable to parse"),
        (("elapsed_sec",), None, "elapsed_sec: expected a valid number, got None"),
        (("speed",), 1, "speed: expected one of the keys format, settings, "),
    ],
    ids=lambda value: "gone" if value is GONE else str(value),
)
def test_a_run_json_that_is_wrong_is_refused_by_name(finished, run_dir, recorded, capsys, keys, to, message):
    capsys.readouterr()
    for path in (run_dir, recorded):
        change(path / "run.json", *keys, to=to)
        before = content_of(path)
        for command in (["--evaluate", path], [*finished[1], "--run_dir", path, "--resume"]):
            assert run(*command) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert f"{path / 'run.json'}: {message}" in line
        assert content_of(path) == before


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "[" * 100_000])
def test_a_run_json_that_is_none_is_refused_by_name(finished, recorded, capsys, content):
    capsys.readouterr()
    (recorded / "run.json").write_text(content)
    assert run(*finished[1], "--run_dir", recorded, "--resume") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{recorded / 'run.json'}: " in line


def test_run_json_is_a_line_a_key(finished):
    lines = (finished[0] / "run.json").read_text().splitlines()
    assert [line[1:].partition(":")[0] for line in lines] == [json.dumps(key) for key in json.loads("\n".join(lines))]
