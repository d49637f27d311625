"""One run's folder: what is in it, who may write it, what becomes of one that is there."""

import csv
import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch

from net.saved_zoo import SavedZoo
from tests.small_runs import FOUR_TASKS, content_of, rounds_of, run, start, tiny_flags
from utils.config import FORMAT, read_settings
from utils.finished_run import FinishedRun
from utils.metrics import METRICS
from utils.rounds import Record
from utils.run_folder import is_locked, lock_holder, read_finished_run

CONTINUAL = ("--continual", "--tasks_per_round", "2")


# ---- what is in it


def test_a_finished_run_holds_what_the_design_promises(finished):
    folder, _ = finished
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    learners = {f"zoo/learner_00{i}.pt" for i in range(4)}
    readable = {"config.yaml", "env.json", "log.txt", "rounds.jsonl", "accuracy.csv", "accuracy.png", "run.json"}
    assert names == readable | learners | {"zoo/zoo.json", "zoo/state.pt", ".lock"}
    assert not (folder / "checkpoint").exists()
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_what_others_keep_beside_the_states_stays(finished, tmp_path):
    kept = tmp_path / "run/checkpoint/notes.txt"
    assert run(*finished[1], "--num_rounds", 1, "--run_dir", tmp_path / "run") == 0
    kept.parent.mkdir()
    kept.write_text("mine")
    (kept.parent / ".state_000001.pt.0.part").write_bytes(b"half")
    assert run(*finished[1], "--run_dir", tmp_path / "run", "--resume") == 0
    assert list(kept.parent.iterdir()) == [kept]


def test_a_rounds_line_holds_what_the_design_promises(finished):
    lines = (finished[0] / "rounds.jsonl").read_text().splitlines()
    for round_id, line in enumerate(lines):
        record = json.loads(line)
        seen = [str(task_id) for task_id in range(round_id + 1)]
        assert record["round"] == round_id
        assert record["tasks"] == sorted(record["tasks"])
        assert list(record["weights"]) == (seen[:-1] if round_id else [])
        for key in ("train_loss", "train_accuracy", "loss", "accuracy"):
            assert list(record[key]) == seen
        assert all(seconds >= 0 for seconds in record["seconds"].values())
        assert len(record["epoch_loss"]) == 1
        assert record["epoch_loss"][0] > 0
        assert list(record["learner_accuracy"]) == [str(task_id) for task_id in record["tasks"]]
        if len(record["tasks"]) == 1:  # the zoo is this learner
            assert record["learner_accuracy"].items() <= record["accuracy"].items()
        assert list(record)[-1] == "seconds"
        assert record["scored_on"] == "test"
        assert (record["images_trained"], record["images_stored"]) == (12 * len(record["tasks"]), 12 * round_id)
        assert list(record) == list(Record.model_fields)
    assert len(lines) == 4


def test_the_table_is_r_with_gaps_where_a_task_has_not_arrived(finished):
    folder, _ = finished
    with open(folder / "accuracy.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["round", "task_0", "task_1", "task_2", "task_3"]
    for record, row in zip(rounds_of(folder), rows, strict=True):
        expected = [record["accuracy"].get(str(task_id)) for task_id in range(4)]
        assert row == [str(record["round"]), *("" if value is None else repr(value) for value in expected)]


def test_run_json_holds_the_table_the_draws_the_settings_and_the_data(finished):
    folder, _ = finished
    r = [[record["accuracy"].get(str(t)) for t in range(4)] for record in rounds_of(folder)]
    finished_run = json.loads((folder / "run.json").read_text())
    assert list(finished_run) == list(FinishedRun.model_fields)
    assert (finished_run["format"], finished_run["scored_on"]) == (FORMAT, "test")
    assert finished_run["accuracy"] == r
    metrics = finished_run["metrics"]
    assert list(metrics) == list(METRICS)
    assert metrics["average_accuracy"] == pytest.approx(sum(r[3]) / 4)
    assert metrics["learning_accuracy"] == pytest.approx(sum(r[t][t] for t in range(4)) / 4)
    assert metrics["forgetting"] == pytest.approx(
        sum(max(r[i][t] for i in range(t, 4)) - r[3][t] for t in range(4)) / 4
    )
    assert metrics["backward_transfer"] == pytest.approx(sum(r[3][t] - r[t][t] for t in range(3)) / 3)
    assert finished_run["tasks_drawn"] == [record["tasks"] for record in rounds_of(folder)]
    assert finished_run["elapsed_sec"] > 0
    assert 0.05 < finished_run["peak_mem_gb"] < 20
    zoo = json.loads((folder / "zoo/zoo.json").read_text())
    assert finished_run["data"] == [task["fingerprint"] for task in zoo["tasks"]]
    assert finished_run["invocations"] == json.loads((folder / "env.json").read_text())
    assert str(folder.parent) not in json.dumps(finished_run["settings"])  # where the data lie is not told
    assert read_finished_run(folder).settings.differences(read_settings(folder / "config.yaml")) == {}
    assert np.array_equal(read_finished_run(folder).matrix, np.array(r, dtype=float), equal_nan=True)


def test_the_cost_is_counted(finished):
    folder, _ = finished
    rounds, cost = rounds_of(folder), json.loads((folder / "run.json").read_text())["cost"]
    learners = [sum(task_id in record["tasks"] for record in rounds) for task_id in range(4)]
    assert sum(learners) == 1 + 2 + 2 + 2
    zoo = json.loads((folder / "zoo/zoo.json").read_text())
    assert cost == {
        "learners": 4,
        "parameters": sum(about["num_parameters"] for about in zoo["learners"]),
        "least_learners": min(learners),
        "mean_learners": 7 / 4,
        "most_learners": max(learners),
        "images_stored": 3 * 12,
        "images_trained": 7 * 12,
    }


@pytest.mark.parametrize(
    ("flags", "stored"), [(["--tasks_per_round", "1"], 0), (["--replay_frac", "0.5"], 18), (["--replay_frac", "0"], 0)]
)
def test_images_are_stored_only_where_they_may_be_replayed(finished, tmp_path, flags, stored):
    assert run(*finished[1], *flags, "--run_dir", tmp_path / "run") == 0
    assert json.loads((tmp_path / "run/run.json").read_text())["cost"]["images_stored"] == stored


@pytest.mark.parametrize(
    ("tasks", "flags", "num_seen", "metrics"),
    [
        (FOUR_TASKS, ["--num_rounds", "1"], [4], ["average_accuracy"]),
        (FOUR_TASKS, ["--continual", "--num_rounds", "2"], [1, 2], list(METRICS)),
        (FOUR_TASKS[:1], ["--continual"], [1], ["average_accuracy", "learning_accuracy", "forgetting"]),
    ],
    ids=["multi-task", "fewer rounds", "one task"],
)
def test_metrics_are_of_the_tasks_seen_and_only_those_that_have_a_meaning(tmp_path, tasks, flags, num_seen, metrics):
    assert run(*tiny_flags(tmp_path, tasks), "--tasks_per_round", 2, *flags, "--run_dir", tmp_path / "run") == 0
    finished_run = read_finished_run(tmp_path / "run")
    gaps = [[value is None for value in row] for row in finished_run.accuracy]
    assert gaps == [[task_id >= seen for task_id in range(len(tasks))] for seen in num_seen]
    assert list(finished_run.metrics) == metrics
    final = finished_run.accuracy[-1][: num_seen[-1]]
    assert finished_run.metrics["average_accuracy"] == pytest.approx(sum(final) / len(final))


def test_the_zoo_says_of_each_learner_its_tasks_votes_and_size(finished):
    folder, _ = finished
    zoo = json.loads((folder / "zoo/zoo.json").read_text())
    assert [task["task_id"] for task in zoo["tasks"]] == [0, 1, 2, 3]
    for about, record in zip(zoo["learners"], rounds_of(folder), strict=True):
        weights = torch.load(folder / "zoo" / about["file"], weights_only=True)
        assert about["tasks"] == record["tasks"]
        assert set(about["votes"]) == {str(task_id) for task_id in record["tasks"]}
        assert weights["heads.weight"].shape[0] == 2 * len(about["tasks"])
        num_statistics = sum(v.numel() for k, v in weights.items() if "running" in k or "num_batches" in k)
        assert about["num_parameters"] == sum(v.numel() for v in weights.values()) - num_statistics


def test_the_loaded_zoo_gives_the_numbers_of_the_end_of_training(finished):
    folder, _ = finished
    zoo = SavedZoo.load(folder)
    arrays = np.load(folder.parent / "tiny.npz")
    final = read_finished_run(folder).accuracy[-1]
    for task_id, classes in enumerate(FOUR_TASKS):
        images = np.concatenate([arrays["x_test"][arrays["y_test"] == c] for c in classes])
        probabilities = zoo.predict(images, task_id)
        labels = torch.arange(2).repeat_interleave(len(images) // 2)
        assert probabilities.sum(dim=1).tolist() == pytest.approx([1] * len(images), abs=1e-5)
        assert (probabilities.argmax(dim=1) == labels).double().mean().item() == final[task_id]


# ---- who may write it


def test_a_run_in_hand_is_not_taken_from_its_process_and_a_dead_ones_lock_does_not_block(tmp_path, capsys):
    flags = [*tiny_flags(tmp_path, per_class=40), "--continual", "--run_dir", tmp_path / "run"]
    program = start(*flags)
    assert program.stdout.readline().startswith("round   0")
    program.send_signal(signal.SIGSTOP)
    assert (tmp_path / "run/accuracy.png").read_bytes().startswith(b"\x89PNG")  # from the first round on
    assert not (tmp_path / "run/run.json").exists()
    before = content_of(tmp_path / "run")
    for more in ([], ["--resume"], ["--overwrite"]):
        assert run(*flags, *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        holder = f"process {program.pid} on {socket.gethostname()}, since "
        assert f"another process is writing this folder: {holder}" in line
        assert line.endswith(f"; if it has died, delete {tmp_path / 'run/.lock'}")
    assert is_locked(tmp_path / "run")
    assert content_of(tmp_path / "run") == before
    program.kill()
    program.communicate()
    assert (tmp_path / "run/.lock").exists()
    assert not is_locked(tmp_path / "run")
    assert run(*flags, "--resume") == 0


def locks_answer(monkeypatch, number):
    """Let the file system answer so to whoever asks for a lock."""

    def answer(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", answer)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_folder_that_cannot_be_locked_is_not_written(finished, tmp_path, monkeypatch, capsys, number):
    locks_answer(monkeypatch, number)
    assert run(*finished[1], "--run_dir", tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"modelzoo.py: {tmp_path / 'run'}: the folder cannot be written or locked ({os.strerror(number)})"
    assert not (tmp_path / "run").exists()


LEAVE_A_LOCK = "import filelock, os, sys; lock = filelock.SoftFileLock(sys.argv[1]); lock.acquire(); os._exit(1)"


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_where_a_file_system_has_no_locks_a_file_is_the_lock(finished, run_dir, monkeypatch, capsys):
    locks_answer(monkeypatch, errno.ENOSYS)
    (run_dir / "run.json").unlink()
    flags = [*finished[1], "--run_dir", run_dir, "--resume"]
    (run_dir / ".lock").write_text("77\nanother_host\n")  # whether that process is alive cannot be seen from here
    before = content_of(run_dir)
    assert is_locked(run_dir)
    capsys.readouterr()
    assert run(*flags) == 2
    assert "another process is writing this folder: process 77 on another_host, since" in capsys.readouterr().err
    assert content_of(run_dir) == before
    (run_dir / ".lock").unlink()
    subprocess.run([sys.executable, "-c", LEAVE_A_LOCK, run_dir / ".lock"], check=False)
    assert (run_dir / ".lock").exists()
    assert run(*flags) == 0  # that process is dead
    assert not (run_dir / ".lock").exists()


def test_a_lock_of_an_older_version_notes_no_process(tmp_path):
    (tmp_path / ".lock").touch()
    assert lock_holder(tmp_path) == f"process not known; if it has died, delete {tmp_path / '.lock'}"


# ---- a folder that is there


def test_a_run_folder_that_exists_is_refused_and_left_alone(finished, run_dir, capsys):
    before = content_of(run_dir)
    assert run(*finished[1], "--run_dir", run_dir) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert all(word in errors for word in (str(run_dir), "--resume", "--overwrite", "--run_dir"))
    assert content_of(run_dir) == before


def test_an_empty_folder_counts_as_new(finished, tmp_path):
    (tmp_path / "empty").mkdir()
    assert run(*finished[1], "--num_rounds", 1, "--run_dir", tmp_path / "empty") == 0


def test_overwriting_deletes_what_a_run_wrote_and_nothing_else(finished, run_dir):
    theirs = ["notes.txt", ".env", "zoo/mine.pt", ".git/HEAD"]
    for name in theirs:
        (run_dir / name).parent.mkdir(exist_ok=True)
        (run_dir / name).write_text("not a run's")
    (run_dir / "zoo/learner_007.pt").write_text("of a longer run before")
    assert run(*finished[1], "--seed", 1, "--run_dir", run_dir, "--overwrite") == 0
    assert [(run_dir / name).read_text() for name in theirs] == ["not a run's"] * 4
    assert not (run_dir / "zoo/learner_007.pt").exists()
    assert rounds_of(run_dir) != rounds_of(finished[0])
    assert read_settings(run_dir / "config.yaml").seed == 1
    assert "--seed 100" not in (run_dir / "log.txt").read_text()
    assert len(json.loads((run_dir / "env.json").read_text())) == 1


@pytest.mark.parametrize("name", [".env", ".git", "notes.txt"])
def test_a_folder_with_anything_in_it_is_not_new(finished, tmp_path, capsys, name):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("mine")
    for more in ([], ["--overwrite"], ["--resume"]):
        assert run(*finished[1], "--run_dir", tmp_path / "mine", *more) == 2
        assert str(tmp_path / "mine") in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == [name]


def test_a_run_of_an_older_version_is_refused_in_a_line(finished, run_dir, capsys):
    config = run_dir / "config.yaml"
    config.write_text(config.read_text().replace(f"format: {FORMAT}\n", ""))
    before = content_of(run_dir)
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"config.yaml: format: expected {FORMAT}, got 'none': another version wrote this run" in line
    assert content_of(run_dir) == before
    assert run(*finished[1], "--run_dir", run_dir, "--overwrite") == 0


@pytest.mark.parametrize("flag", ["--overwrite", "--resume"])
def test_a_folder_that_is_not_a_runs_is_never_touched(finished, tmp_path, capsys, flag):
    theirs = tmp_path / "thesis"
    theirs.mkdir()
    (theirs / "chapter.txt").write_text("words")
    (theirs / "config.yaml").write_text("theme: dark\n")
    assert run(*finished[1], "--run_dir", theirs, flag) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert not (theirs / ".lock").exists()
    assert content_of(theirs) == {"chapter.txt": b"words", "config.yaml": b"theme: dark\n"}


def test_a_file_in_place_of_the_folder_is_refused(finished, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert run(*finished[1], "--run_dir", place) == 2
        assert capsys.readouterr().err.count("\n") == 1
