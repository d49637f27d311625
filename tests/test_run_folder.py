"""One run's folder: who may write it, what is in it, going on with it, letting it grow."""

import csv
import json
import shutil
import signal

import numpy as np
import pytest
import torch

from modelzoo import ModelZoo
from tests.make_data import make_image_folder
from tests.small_runs import (
    FOUR_TASKS,
    results_of,
    rounds_of,
    run,
    start,
    tiny_flags,
    wait_for,
    write_benchmark,
    write_recipe,
    write_yaml,
)
from utils.checkpoint import RunFolderError
from utils.config import read_settings
from utils.run_folder import locked

CONTINUAL = ("--continual", "--tasks_per_round", "2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished continual run and the flags that made it."""
    folder = tmp_path_factory.mktemp("finished")
    flags = [*tiny_flags(folder), *CONTINUAL]
    assert run(*flags, "--run_dir", folder / "run") == 0
    return folder / "run", flags


@pytest.fixture
def run_dir(finished, tmp_path):
    """A copy of the finished run, to be changed."""
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def content_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# ---- what is in it


def test_a_finished_run_holds_what_the_design_promises(finished):
    folder, _ = finished
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    learners = {f"zoo/learner_00{i}.pt" for i in range(4)}
    readable = {"config.yaml", "env.json", "log.txt", "rounds.jsonl", "accuracy.csv", "accuracy.png", "summary.json"}
    assert names == readable | learners | {"zoo/zoo.json", "zoo/state.pt", ".lock"}
    assert not (folder / "checkpoint").exists()
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_the_figure_is_there_from_the_first_round_on(tmp_path):
    process = start(*tiny_flags(tmp_path, recipe={"batch": 1}), *CONTINUAL, "--run_dir", tmp_path / "run")
    try:
        assert process.stdout.readline().startswith("round   0")
        assert (tmp_path / "run" / "accuracy.png").read_bytes().startswith(b"\x89PNG")
        assert not (tmp_path / "run" / "summary.json").exists()
    finally:
        process.kill()
        process.communicate()


def test_a_rounds_line_holds_what_the_design_promises(finished):
    lines = (finished[0] / "rounds.jsonl").read_text().splitlines()
    for round_id, line in enumerate(lines):
        record = json.loads(line)
        seen = [str(task_id) for task_id in range(round_id + 1)]
        assert record["round"] == round_id
        assert record["tasks"] == sorted(record["tasks"])
        assert list(record["weights"]) == (seen[:-1] if round_id else [])
        for key in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            assert list(record[key]) == seen
        assert all(seconds >= 0 for seconds in record["seconds"].values())
        assert len(record) == 8
    assert len(lines) == 4


def test_the_table_is_r_with_gaps_where_a_task_has_not_arrived(finished):
    folder, _ = finished
    with open(folder / "accuracy.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["round", "task_0", "task_1", "task_2", "task_3"]
    for record, row in zip(rounds_of(folder), rows, strict=True):
        expected = [record["test_accuracy"].get(str(task_id)) for task_id in range(4)]
        assert row == [str(record["round"]), *("" if value is None else repr(value) for value in expected)]


def test_the_summary_is_the_metrics_of_the_table(finished):
    folder, _ = finished
    r = [[record["test_accuracy"].get(str(t)) for t in range(4)] for record in rounds_of(folder)]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["final_accuracy"] == r[3]
    assert summary["average_accuracy"] == pytest.approx(sum(r[3]) / 4)
    assert summary["learning_accuracy"] == pytest.approx(sum(r[t][t] for t in range(4)) / 4)
    assert summary["forgetting"] == pytest.approx(
        sum(max(r[i][t] for i in range(t, 4)) - r[3][t] for t in range(4)) / 4
    )
    assert summary["backward_transfer"] == pytest.approx(sum(r[3][t] - r[t][t] for t in range(3)) / 3)
    assert summary["num_rounds"] == 4
    assert summary["elapsed_sec"] > 0
    assert 0.05 < summary["peak_mem_gb"] < 20
    assert set(summary) == set(
        "average_accuracy learning_accuracy forgetting forgetting_chaudhry backward_transfer final_accuracy num_rounds "
        "elapsed_sec peak_mem_gb".split()
    )


def test_multi_task_summaries_hold_no_metric_of_arrival(tmp_path):
    assert run(*tiny_flags(tmp_path), "--tasks_per_round", 2, "--num_rounds", 1, "--run_dir", tmp_path / "run") == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert len(summary["final_accuracy"]) == 4
    for key in ("learning_accuracy", "forgetting", "forgetting_chaudhry", "backward_transfer"):
        assert summary[key] is None


def test_with_fewer_rounds_the_metrics_are_over_the_tasks_seen(finished, tmp_path):
    whole, flags = finished
    assert run(*flags, "--num_rounds", 2, "--run_dir", tmp_path / "run") == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert len(summary["final_accuracy"]) == 2
    assert rounds_of(tmp_path / "run") == rounds_of(whole)[:2]


def test_with_one_task_the_last_two_metrics_are_null(tmp_path):
    flags = tiny_flags(tmp_path, tasks=((0, 1),))
    assert run(*flags, "--continual", "--run_dir", tmp_path / "run") == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["forgetting_chaudhry"], summary["backward_transfer"]) == (None, None)
    assert summary["forgetting"] == 0


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
    zoo = ModelZoo.load(folder)
    arrays = np.load(folder.parent / "tiny.npz")
    final = json.loads((folder / "summary.json").read_text())["final_accuracy"]
    for task_id, classes in enumerate(FOUR_TASKS):
        images = np.concatenate([arrays["x_test"][arrays["y_test"] == c] for c in classes])
        probabilities = zoo.predict(images, task_id)
        labels = torch.arange(2).repeat_interleave(len(images) // 2)
        assert probabilities.sum(dim=1).tolist() == pytest.approx([1] * len(images), abs=1e-5)
        assert (probabilities.argmax(dim=1) == labels).double().mean().item() == final[task_id]


# ---- who may write it


def test_a_run_in_hand_is_not_taken_from_its_process_and_a_dead_ones_lock_does_not_block(tmp_path, capsys):
    flags = [*tiny_flags(tmp_path, per_class=40), "--continual", "--run_dir", tmp_path / "run"]
    process = start(*flags)
    wait_for(process, (tmp_path / "run/rounds.jsonl").exists)
    process.send_signal(signal.SIGSTOP)
    before = content_of(tmp_path / "run")
    for more in ([], ["--resume"], ["--overwrite"]):
        assert run(*flags, *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "another process is writing this run folder" in line
    with pytest.raises(RunFolderError, match="another process is writing"), locked(tmp_path / "run"):
        pass
    assert content_of(tmp_path / "run") == before
    process.kill()
    process.communicate()
    assert (tmp_path / "run/.lock").exists()
    assert run(*flags, "--resume") == 0


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


def test_overwriting_starts_anew(finished, run_dir):
    (run_dir / "left_over.txt").write_text("of before")
    assert run(*finished[1], "--seed", 1, "--run_dir", run_dir, "--overwrite") == 0
    assert not (run_dir / "left_over.txt").exists()
    assert rounds_of(run_dir) != rounds_of(finished[0])
    assert read_settings(run_dir / "config.yaml").seed == 1


@pytest.mark.parametrize("flag", ["--overwrite", "--resume"])
def test_a_folder_that_is_not_a_runs_is_never_touched(finished, tmp_path, capsys, flag):
    theirs = tmp_path / "thesis"
    theirs.mkdir()
    (theirs / "chapter.txt").write_text("words")
    (theirs / "config.yaml").write_text("theme: dark\n")
    assert run(*finished[1], "--run_dir", theirs, flag) == 2
    assert "expected a run folder, got something else" in capsys.readouterr().err
    assert content_of(theirs) == {"chapter.txt": b"words", "config.yaml": b"theme: dark\n"}


def test_a_file_in_place_of_the_folder_is_refused(finished, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        assert run(*finished[1], "--run_dir", place) == 2
        assert capsys.readouterr().err.count("\n") == 1


# ---- going on


def test_resuming_a_finished_run_prints_its_results_and_changes_nothing(finished, run_dir, capsys):
    before = content_of(run_dir)
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
    printed = capsys.readouterr()
    table = printed.out.strip().splitlines()
    log = (run_dir / "log.txt").read_text().splitlines()
    assert table == [line for line in log[log.index("") + 1 :] if not line.startswith("written to")]
    assert printed.err == ""
    assert content_of(run_dir) == before


def test_resuming_a_folder_that_does_not_exist_starts_a_run(finished, tmp_path):
    assert run(*finished[1], "--run_dir", tmp_path / "new", "--resume") == 0
    assert results_of(tmp_path / "new") == results_of(finished[0])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--epochs", 2], "epochs 2 (the run has 1)"),
        (["--seed", 7], "seed 7 (the run has 100)"),
        (["--samples", 3, "--naive"], "samples 3 (the run has None); naive True (the run has False)"),
        (["--replay_frac", 0.5], "replay_frac 0.5 (the run has 1.0)"),
        (["--tasks_per_round", 3], "tasks_per_round 3 (the run has 2)"),
        (["--num_rounds", 3], "num_rounds 3 (the run has 4)"),
    ],
    ids=str,
)
def test_resuming_with_other_settings_is_refused_and_names_them(finished, run_dir, capsys, flags, named):
    before = content_of(run_dir)
    assert run(*finished[1], *flags, "--run_dir", run_dir, "--resume") == 2
    errors = capsys.readouterr().err
    assert named in errors
    assert errors.count("\n") == 1
    assert content_of(run_dir) == before


def test_resuming_with_another_recipe_or_mode_is_refused_and_names_the_key(finished, run_dir, tmp_path, capsys):
    recipe = write_recipe(tmp_path, lr=0.02)
    assert run(*finished[1], "--hp_config", recipe, "--run_dir", run_dir, "--resume") == 2
    assert "recipe.lr 0.02 (the run has 0.01)" in capsys.readouterr().err
    flags = [flag for flag in finished[1] if flag != "--continual"]
    assert run(*flags, "--run_dir", run_dir, "--resume") == 2
    assert "continual False (the run has True)" in capsys.readouterr().err


def test_where_and_how_are_not_compared(finished, run_dir, tmp_path):
    flags = [*finished[1], "--run_dir", run_dir, "--resume", "--data_dir", tmp_path, "--checkpoint_every_sec", 1]
    assert run(*flags) == 0


def test_going_on_with_another_number_of_threads_warns_that_bits_may_differ(finished, run_dir, capsys):
    (run_dir / "summary.json").unlink()
    torch.set_num_threads(2)
    assert run(*finished[1], "--threads", 2, "--run_dir", run_dir, "--resume") == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning == "warning: the run began on cpu (1 threads) and goes on on cpu (2 threads): bits may differ"


@pytest.mark.parametrize("leftover", ["config.yaml", "config.yaml and zoo", "all but the summary"])
def test_a_run_killed_as_it_begins_or_ends_goes_on(finished, run_dir, tmp_path, leftover):
    if leftover == "all but the summary":
        (run_dir / "summary.json").unlink()
        killed = run_dir
    else:
        killed = tmp_path / "killed"
        killed.mkdir()
        shutil.copy(run_dir / "config.yaml", killed)
        (killed / ".config.yaml.part").write_text("half a fi")
        if "zoo" in leftover:
            (killed / "zoo").mkdir()
    assert run(*finished[1], "--run_dir", killed, "--resume") == 0
    assert results_of(killed) == results_of(finished[0])


def test_a_run_killed_between_its_summary_and_the_removal_of_its_states_leaves_none_behind(finished, run_dir):
    (run_dir / "checkpoint").mkdir()
    shutil.copy(run_dir / "zoo/state.pt", run_dir / "checkpoint/round_0004_minibatch_000000000.pt")
    (run_dir / "summary.json").unlink()
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
    assert not (run_dir / "checkpoint").exists()
    assert results_of(run_dir) == results_of(finished[0])


def test_files_that_are_made_from_the_state_are_made_anew(finished, run_dir):
    for name in ("summary.json", "rounds.jsonl", "accuracy.csv", "accuracy.png", "zoo/zoo.json", "env.json"):
        (run_dir / name).unlink()
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
    assert results_of(run_dir) == results_of(finished[0])
    assert (run_dir / "accuracy.png").exists()


@pytest.mark.parametrize("lost", ["zoo/state.pt", "zoo/state.pt summary.json", "zoo"])
def test_a_run_whose_state_is_lost_is_not_silently_done_again(finished, run_dir, capsys, lost):
    for name in lost.split():
        path = run_dir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = content_of(run_dir)
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "zoo/state.pt: missing" in line
    assert "--overwrite" in line
    assert content_of(run_dir) == before


def test_a_run_killed_between_its_first_learner_and_its_first_state_goes_on(finished, tmp_path):
    (tmp_path / "run/zoo").mkdir(parents=True)
    for name in ("config.yaml", "env.json", "zoo/zoo.json", "zoo/learner_000.pt"):
        shutil.copy(finished[0] / name, tmp_path / "run" / name)
    assert run(*finished[1], "--run_dir", tmp_path / "run", "--resume") == 0
    assert results_of(tmp_path / "run") == results_of(finished[0])


# ---- divergence


def test_divergence_ends_the_run_with_the_rounds_before_it_kept(tmp_path, capsys):
    flags = tiny_flags(tmp_path, recipe={"lr": 1.0e30})
    assert run(*flags, "--continual", "--run_dir", tmp_path / "run") == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert "round 0, epoch 0: the training loss is not finite" in errors
    assert "--hp_config" in errors
    assert not (tmp_path / "run/summary.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "got other images or another number of them"),
        ({"per_class": 7}, "got other images or another number of them"),
        ({"test_per_class": 6}, "got other images or another number of them"),
    ],
)
def test_data_that_changed_since_the_run_began_are_refused(tmp_path, capsys, change, message):
    flags = [*tiny_flags(tmp_path), *CONTINUAL, "--run_dir", tmp_path / "run"]
    assert run(*flags, "--num_rounds", "2") == 0
    before = content_of(tmp_path / "run")
    write_benchmark(tmp_path, **change)
    capsys.readouterr()
    assert run(*flags, "--resume", "--num_rounds", "3") == 2
    expected = f"{tmp_path}/run: task 0 (task 0): expected the data that the run began with, {message}"
    assert capsys.readouterr().err.strip() == f"modelzoo.py: {expected}"
    assert {name: text for name, text in content_of(tmp_path / "run").items() if name != "log.txt"} == {
        name: text for name, text in before.items() if name != "log.txt"
    }


def test_classes_that_changed_since_the_run_began_are_named(tmp_path, capsys):
    make_image_folder(tmp_path / "pets", ("ant", "bee", "cat", "dog"), sizes=((24, 24),))
    benchmark = write_yaml(
        tmp_path / "pets.yaml", dataset="image_folder", root="pets", test_fraction=0.4, tasks=[[0, 1], [2, 3]]
    )
    recipe = write_recipe(tmp_path)
    flags = ["--data_config", benchmark, "--hp_config", recipe, "--epochs", "1", "--continual"]
    flags += ["--data_dir", tmp_path / "data", "--run_dir", tmp_path / "run"]
    assert run(*flags, "--num_rounds", "1") == 0
    shutil.copytree(tmp_path / "pets" / "ant", tmp_path / "pets" / "aaa")
    capsys.readouterr()
    assert run(*flags, "--resume", "--num_rounds", "2") == 2
    assert "expected the data that the run began with, classes ant, bee; got aaa, ant" in capsys.readouterr().err


# ---- growing


@pytest.mark.parametrize("replay_frac", [1.0, 0.34], ids=["all", "limited replay"])
def test_a_finished_run_grows_to_what_the_longer_file_gives_from_the_start(tmp_path, replay_frac):
    rest = ["--continual", "--replay_frac", replay_frac]
    long = [*tiny_flags(tmp_path), *rest]
    few = write_yaml(tmp_path / "few.yaml", dataset="npz", root="tiny.npz", tasks=[[0, 1], [2, 3]])
    short = [*long, "--data_config", few]
    assert run(*short, "--run_dir", tmp_path / "grown") == 0
    assert run(*long, "--run_dir", tmp_path / "grown", "--resume") == 0  # its own B, 2, is kept
    assert run(*long, "--tasks_per_round", 2, "--run_dir", tmp_path / "whole") == 0
    assert results_of(tmp_path / "grown") == results_of(tmp_path / "whole")
    assert read_settings(tmp_path / "grown/config.yaml") == read_settings(tmp_path / "whole/config.yaml")
    assert run(*long, "--run_dir", tmp_path / "grown", "--resume") == 0


def test_a_finished_run_grows_by_rounds(finished, tmp_path):
    assert run(*finished[1], "--num_rounds", 2, "--run_dir", tmp_path / "run") == 0
    assert run(*finished[1], "--num_rounds", 3, "--run_dir", tmp_path / "run", "--resume") == 0
    assert run(*finished[1], "--run_dir", tmp_path / "run", "--resume") == 0
    assert results_of(tmp_path / "run") == results_of(finished[0])


@pytest.mark.parametrize("b", [[], ["--tasks_per_round", "all"], ["--tasks_per_round", "2"]], ids=" ".join)
def test_a_run_that_was_killed_while_it_grew_goes_on_growing_with_its_own_b(finished, tmp_path, b):
    run_dir = tmp_path / "run"
    assert run(*finished[1], "--num_rounds", 2, "--run_dir", run_dir) == 0
    flags = [*finished[1][:-2], *b, "--run_dir", run_dir, "--resume"]
    process = start(*flags, "--checkpoint_every_sec", "0")
    wait_for(process, lambda: any(run_dir.glob("checkpoint/round_0003_*")))
    process.kill()
    process.communicate()
    assert not (run_dir / "summary.json").exists()
    assert run(*flags) == 0
    assert results_of(run_dir) == results_of(finished[0])


def test_a_run_that_was_killed_as_it_began_to_grow_goes_on_growing_with_its_own_b(finished, tmp_path):
    run_dir = tmp_path / "run"
    assert run(*finished[1], "--num_rounds", 2, "--run_dir", run_dir) == 0
    (run_dir / "summary.json").unlink()
    shutil.copy(finished[0] / "config.yaml", run_dir)  # what growing writes first
    assert run(*finished[1][:-2], "--run_dir", run_dir, "--resume") == 0
    assert results_of(run_dir) == results_of(finished[0])


def test_a_run_that_grows_twice_keeps_its_own_b(tmp_path):
    flags = [*tiny_flags(tmp_path), "--continual"]
    data = {"dataset": "npz", "root": "tiny.npz"}
    few = [write_yaml(tmp_path / f"{n}.yaml", **data, tasks=[list(t) for t in FOUR_TASKS[:n]]) for n in (2, 3)]
    grown = ["--run_dir", tmp_path / "grown", "--resume"]
    for more in (["--data_config", few[0]], ["--data_config", few[1]], [], []):
        assert run(*flags, *more, *grown) == 0
    assert run(*flags, "--tasks_per_round", 2, "--run_dir", tmp_path / "whole") == 0
    assert results_of(tmp_path / "grown") == results_of(tmp_path / "whole")


@pytest.mark.parametrize("b", [[], ["--tasks_per_round", "all"], ["--config"]], ids=" ".join)
def test_a_run_that_was_stopped_goes_on_with_its_own_b_only(finished, tmp_path, capsys, b):
    flags, run_dir = finished[1][:-2], tmp_path / "run"
    process = start(*finished[1], "--run_dir", run_dir, "--checkpoint_every_sec", "0")
    wait_for(process, lambda: any(run_dir.glob("checkpoint/round_0002_*")))
    process.kill()
    process.communicate()
    if b == ["--config"]:
        config = (run_dir / "config.yaml").read_text()
        (tmp_path / "c.yaml").write_text(config.replace("tasks_per_round: 2", "tasks_per_round: 4"))
        flags, b = [], ["--config", tmp_path / "c.yaml"]
    assert run(*flags, *b, "--run_dir", run_dir, "--resume") == 2
    assert "tasks_per_round 4 (the run has 2)" in capsys.readouterr().err
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
    assert results_of(run_dir) == results_of(finished[0])


def test_a_config_with_another_b_does_not_grow_a_run(finished, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert run(*finished[1], "--num_rounds", 2, "--run_dir", run_dir) == 0
    config = (finished[0] / "config.yaml").read_text()
    (tmp_path / "c.yaml").write_text(config.replace("tasks_per_round: 2", "tasks_per_round: 4"))
    assert run("--config", tmp_path / "c.yaml", "--run_dir", run_dir, "--resume") == 2
    assert "tasks_per_round 4 (the run has 2)" in capsys.readouterr().err


@pytest.mark.parametrize("tasks", ["[[0, 1], [4, 5], [2, 3], [6, 7]]", "[[1, 0], [2, 3], [4, 5], [6, 7], [0, 2]]"])
def test_a_benchmark_that_does_not_begin_with_the_old_tasks_is_refused(finished, run_dir, tmp_path, capsys, tasks):
    root = finished[0].parent / "tiny.npz"
    (tmp_path / "other.yaml").write_text(f"dataset: npz\nroot: {root}\ntasks: {tasks}\n")
    flags = [*finished[1], "--data_config", tmp_path / "other.yaml"]
    assert run(*flags, "--run_dir", run_dir, "--resume") == 2
    assert "benchmark.tasks" in capsys.readouterr().err


def test_a_run_that_is_not_finished_does_not_grow(tmp_path, capsys):
    flags = [*tiny_flags(tmp_path, per_class=40), *CONTINUAL, "--run_dir", tmp_path / "run"]
    process = start(*flags, "--num_rounds", 3)
    wait_for(process, lambda: any((tmp_path / "run").glob("checkpoint/round_*")))
    process.kill()
    process.communicate()
    assert run(*flags, "--resume") == 2
    assert "num_rounds 4 (the run has 3)" in capsys.readouterr().err


def test_a_multi_task_run_does_not_grow(tmp_path, capsys):
    flags = [*tiny_flags(tmp_path), "--tasks_per_round", 1, "--run_dir", tmp_path / "run"]
    assert run(*flags, "--num_rounds", 1) == 0
    assert run(*flags, "--num_rounds", 2, "--resume") == 2
    assert "num_rounds 2 (the run has 1)" in capsys.readouterr().err
