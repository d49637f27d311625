"""Going on with a run: after it was killed, when something has changed since, and by letting it grow."""

import json
import os
import re
import shutil
import subprocess

import pytest
import torch

from tests.make_data import make_image_folder
from tests.small_runs import (
    FOUR_TASKS,
    content_of,
    num_rounds_done,
    results_of,
    rounds_of,
    run,
    start,
    tiny_flags,
    wait_for,
    without_progress,
    write_benchmark,
    write_recipe,
    write_yaml,
)
from utils.config import read_settings
from utils.program import commit

CONTINUAL = ("--continual", "--tasks_per_round", "2")


# ---- going on


def test_resuming_a_finished_run_prints_its_results_and_changes_nothing(finished, run_dir, capsys):
    before = content_of(run_dir)
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
    printed = capsys.readouterr()
    table = printed.out.strip("\n").splitlines()
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


def test_going_on_with_other_threads_or_another_commit_warns_and_is_noted(finished, run_dir, capsys, monkeypatch):
    (run_dir / "run.json").unlink()
    monkeypatch.setattr("utils.program.commit", lambda: "abc123")
    torch.set_num_threads(2)
    assert run(*finished[1], "--threads", 2, "--run_dir", run_dir, "--resume") == 0
    (warning,) = without_progress(capsys.readouterr().err)
    assert warning.startswith("warning: the run went on so far with commit ")
    assert "threads 1, now 2: results may differ" in warning
    first, second = json.loads((run_dir / "env.json").read_text())
    assert (first["threads"], second["threads"], second["commit"]) == (1, 2, "abc123")


def test_what_another_version_noted_is_kept_and_compared(finished, run_dir, capsys):
    (run_dir / "run.json").unlink()
    (entry,) = json.loads((run_dir / "env.json").read_text())
    older = entry | {"torch": "2.0", "gpus": [{"name": "A100"}]}
    del older["compiled"]
    newest = {"command": "python modelzoo.py", "precision": "fp16"}  # of torch it says nothing: the one before it does
    (run_dir / "env.json").write_text(json.dumps([older, newest]))
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
    (warning,) = without_progress(capsys.readouterr().err)
    changes = f"torch 2.0, now {torch.__version__}; precision fp16, now fp32"
    assert warning.endswith(f"so far with {changes}: results will differ, as the precision changes")
    *kept, added = json.loads((run_dir / "env.json").read_text())
    assert kept == [older, newest]
    assert added.keys() == entry.keys()


@pytest.mark.parametrize("content", ["", "{}", "[", "[1]", "null"])
def test_a_damaged_list_of_invocations_is_kept_as_it_is(finished, run_dir, capsys, content):
    (run_dir / "run.json").unlink()
    (run_dir / "env.json").write_text(content)
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
    (warning,) = without_progress(capsys.readouterr().err)
    assert warning.startswith(f"warning: {run_dir / 'env.json'}: damaged; it is kept as it is")
    assert (run_dir / "env.json").read_text() == content


def test_a_folder_around_the_program_or_git_dir_is_not_its_commit(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    monkeypatch.setattr("utils.program.ROOT", tmp_path / "inside")
    (tmp_path / "inside").mkdir()
    assert commit() is None


def test_a_repository_of_another_user_tells_its_commit(tmp_path, monkeypatch):
    """As in a container; git is made to take every repository that it finds for another user's."""
    git, program = shutil.which("git"), tmp_path / "program"
    (tmp_path / "git").write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {git} "$@"\n')
    (tmp_path / "git").chmod(0o755)
    subprocess.run([git, "init", "-q", program], check=True)
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([git, *author, "commit", "-q", "--allow-empty", "-m", "x"], cwd=program, check=True)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = subprocess.run(["git", "describe", "--always"], cwd=program, capture_output=True, text=True)
    assert "dubious ownership" in found.stderr
    monkeypatch.setattr("utils.program.ROOT", program)
    assert re.fullmatch("[0-9a-f]{12}", commit())


@pytest.mark.parametrize("leftover", ["config.yaml", "config.yaml and zoo", "all but run.json"])
def test_a_run_killed_as_it_begins_or_ends_goes_on(finished, run_dir, tmp_path, leftover):
    if leftover == "all but run.json":
        (run_dir / "run.json").unlink()
        killed = run_dir
    else:
        killed = tmp_path / "killed"
        killed.mkdir()
        shutil.copy(run_dir / "config.yaml", killed)
        (killed / ".config.yaml.abc.part").write_text("half a fi")
        if "zoo" in leftover:
            (killed / "zoo").mkdir()
    assert run(*finished[1], "--run_dir", killed, "--resume") == 0
    assert results_of(killed) == results_of(finished[0])


def test_a_run_killed_between_run_json_and_the_removal_of_its_states_leaves_none_behind(finished, run_dir):
    (run_dir / "checkpoint").mkdir()
    shutil.copy(run_dir / "zoo/state.pt", run_dir / "checkpoint/state_000012.pt")
    (run_dir / "run.json").unlink()
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
    assert not (run_dir / "checkpoint").exists()
    assert results_of(run_dir) == results_of(finished[0])


def test_files_that_are_made_from_the_state_are_made_anew(finished, run_dir):
    for name in ("run.json", "accuracy.csv", "accuracy.png", "zoo/zoo.json", "env.json"):
        (run_dir / name).unlink()
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
    assert results_of(run_dir) == results_of(finished[0])
    assert (run_dir / "accuracy.png").exists()


@pytest.mark.parametrize("damage", [b"", b'{"round": 4, "ta', b"{}\n"])
def test_a_line_that_was_being_written_is_cut_off(finished, run_dir, damage):
    (run_dir / "run.json").unlink()
    for name in ("rounds.jsonl", "accuracy.csv"):
        (run_dir / name).write_bytes((run_dir / name).read_bytes() + damage)
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
    assert results_of(run_dir) == results_of(finished[0])


@pytest.mark.parametrize("content", [None, b"", b'{"round": 0}\n', b"\x00" * 9000])
def test_rounds_that_are_lost_are_named_and_nothing_is_changed(finished, run_dir, capsys, content):
    (run_dir / "run.json").unlink()
    (run_dir / "rounds.jsonl").unlink()
    if content is not None:
        (run_dir / "rounds.jsonl").write_bytes(content)
    before = content_of(run_dir)
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(
        rf"{run_dir}/rounds.jsonl: (missing or damaged|rounds that the run's state counts are missing)", line
    )
    assert content_of(run_dir) == before


@pytest.mark.parametrize("lost", ["zoo/state.pt", "zoo/state.pt run.json"])
def test_a_run_whose_state_is_lost_is_complete_or_refused_and_never_silently_done_again(
    finished, tmp_path, capsys, lost
):
    run_dir = tmp_path / "run"
    flags = [*finished[1], "--run_dir", run_dir, "--resume"]
    assert run(*flags, "--num_rounds", 2) == 0
    for name in lost.split():
        (run_dir / name).unlink()
    before = content_of(run_dir)
    assert run(*flags, "--num_rounds", 2) == (2 if "run.json" in lost else 0)
    capsys.readouterr()
    assert run(*flags) == 2  # it cannot grow
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
    (errors,) = without_progress(capsys.readouterr().err)
    assert "round 0, epoch 0: the training loss is not finite" in errors
    assert "--lr" in errors
    assert not (tmp_path / "run/run.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "other images or labels, or another number of them"),
        ({"per_class": 7}, "other images or labels, or another number of them"),
        ({"test_per_class": 6}, "other images or labels, or another number of them"),
    ],
)
def test_data_that_changed_since_the_run_began_are_refused(tmp_path, capsys, change, message):
    flags = [*tiny_flags(tmp_path), *CONTINUAL, "--run_dir", tmp_path / "run"]
    assert run(*flags, "--num_rounds", "2") == 0
    before = content_of(tmp_path / "run")
    write_benchmark(tmp_path, **change)
    capsys.readouterr()
    assert run(*flags, "--resume", "--num_rounds", "3") == 2
    expected = f"{tmp_path}/run: task 0 (task 0): not the data that the run began with: {message}"
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
    assert "not the data that the run began with: classes aaa, ant; the run has ant, bee" in capsys.readouterr().err


# ---- growing


@pytest.mark.parametrize("replay_frac", [1.0, 0.34], ids=["all", "limited replay"])
def test_a_finished_run_grows_to_what_the_longer_file_gives_from_the_start(tmp_path, replay_frac):
    rest = ["--continual", "--replay_frac", replay_frac]
    long = [*tiny_flags(tmp_path), *rest]
    few = write_yaml(tmp_path / "few.yaml", dataset="npz", root="tiny.npz", tasks=[[0, 1], [2, 3]])
    short = [*long, "--data_config", few]
    assert run(*short, "--run_dir", tmp_path / "grown") == 0
    assert run(*long, "--run_dir", tmp_path / "grown", "--resume") == 0
    assert run(*long, "--run_dir", tmp_path / "whole") == 0
    assert results_of(tmp_path / "grown") == results_of(tmp_path / "whole")
    assert read_settings(tmp_path / "grown/config.yaml") == read_settings(tmp_path / "whole/config.yaml")
    assert run(*long, "--run_dir", tmp_path / "grown", "--resume") == 0


def test_a_finished_run_grows_by_rounds(finished, tmp_path):
    assert run(*finished[1], "--num_rounds", 2, "--run_dir", tmp_path / "run") == 0
    assert run(*finished[1], "--num_rounds", 3, "--run_dir", tmp_path / "run", "--resume") == 0
    assert run(*finished[1], "--run_dir", tmp_path / "run", "--resume") == 0
    assert results_of(tmp_path / "run") == results_of(finished[0])


def test_a_run_that_was_killed_while_it_grew_goes_on_growing_and_does_not_grow_further_before(
    finished, tmp_path, capsys
):
    run_dir = tmp_path / "run"
    flags = [*finished[1], "--run_dir", run_dir, "--resume"]
    assert run(*flags, "--num_rounds", 1) == 0
    program = start(*flags, "--num_rounds", "3", "--checkpoint_every_sec", "0")
    wait_for(program, lambda: num_rounds_done(run_dir) == 2)
    program.kill()
    program.communicate()
    assert not (run_dir / "run.json").exists()
    capsys.readouterr()
    assert run(*flags) == 2
    assert "num_rounds 4 (the run has 3)" in capsys.readouterr().err
    assert run(*flags, "--num_rounds", 3) == 0
    assert rounds_of(run_dir) == rounds_of(finished[0])[:3]
    assert run(*flags) == 0
    assert results_of(run_dir) == results_of(finished[0])


def test_a_run_that_was_killed_as_it_began_to_grow_goes_on_growing(finished, tmp_path):
    run_dir = tmp_path / "run"
    assert run(*finished[1], "--num_rounds", 2, "--run_dir", run_dir) == 0
    (run_dir / "run.json").unlink()
    shutil.copy(finished[0] / "config.yaml", run_dir)  # what growing writes first
    assert run(*finished[1], "--run_dir", run_dir, "--resume") == 0
    assert results_of(run_dir) == results_of(finished[0])


def test_a_run_with_all_tasks_a_round_grows_twice(tmp_path):
    flags = [*tiny_flags(tmp_path), "--continual", "--tasks_per_round", "all"]
    data = {"dataset": "npz", "root": "tiny.npz"}
    few = [write_yaml(tmp_path / f"{n}.yaml", **data, tasks=[list(t) for t in FOUR_TASKS[:n]]) for n in (2, 3)]
    grown = ["--run_dir", tmp_path / "grown", "--resume"]
    for more in (["--data_config", few[0]], ["--data_config", few[1]]):
        assert run(*flags, *more, *grown) == 0
    again = ["--config", tmp_path / "grown/config.yaml", *flags[:2]]  # `all` is now of all four
    for words in (again, flags, again):
        assert run(*words, *grown) == 0
    assert run(*flags, "--run_dir", tmp_path / "whole") == 0
    assert results_of(tmp_path / "grown") == results_of(tmp_path / "whole")


def test_a_run_with_the_number_goes_on_with_all_and_the_reverse(finished, tmp_path):
    four, every = ([*finished[1], "--tasks_per_round", b, "--run_dir", tmp_path / "run"] for b in (4, "all"))
    assert run(*four, "--num_rounds", 1) == 0
    first = rounds_of(tmp_path / "run")
    for flags in (every, four):
        assert run(*flags, "--num_rounds", 1, "--resume") == 0
        assert rounds_of(tmp_path / "run") == first
    assert run(*every, "--num_rounds", 2, "--resume") == 0  # it grows
    assert rounds_of(tmp_path / "run")[:1] == first
    assert run(*four, "--num_rounds", 3, "--resume") == 0


def test_a_run_does_not_grow_with_another_b_than_its_rounds_had(finished, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert run(*finished[1], "--num_rounds", 3, "--run_dir", run_dir) == 0
    assert run(*finished[1], "--tasks_per_round", 3, "--run_dir", run_dir, "--resume") == 2
    assert "tasks_per_round 3 (the run has 2)" in capsys.readouterr().err


def test_data_that_moved_are_the_same_data(tmp_path):
    flags = [*tiny_flags(tmp_path), *CONTINUAL]
    assert run(*flags, "--num_rounds", 2, "--run_dir", tmp_path / "run") == 0
    (tmp_path / "there").mkdir()
    for name in ("tiny.npz", "tiny.yaml"):
        shutil.move(tmp_path / name, tmp_path / "there" / name)
    moved = [*flags, "--data_config", tmp_path / "there/tiny.yaml"]
    assert run(*moved, "--run_dir", tmp_path / "run", "--resume") == 0
    assert run(*moved, "--run_dir", tmp_path / "whole") == 0
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")


@pytest.mark.parametrize("tasks", ["[[0, 1], [4, 5], [2, 3], [6, 7]]", "[[1, 0], [2, 3], [4, 5], [6, 7], [0, 2]]"])
def test_a_benchmark_that_does_not_begin_with_the_old_tasks_is_refused(finished, run_dir, tmp_path, capsys, tasks):
    root = finished[0].parent / "tiny.npz"
    (tmp_path / "other.yaml").write_text(f"dataset: npz\nroot: {root}\ntasks: {tasks}\n")
    flags = [*finished[1], "--data_config", tmp_path / "other.yaml"]
    assert run(*flags, "--run_dir", run_dir, "--resume") == 2
    assert "benchmark.tasks" in capsys.readouterr().err


def test_a_multi_task_run_does_not_grow(tmp_path, capsys):
    flags = [*tiny_flags(tmp_path), "--tasks_per_round", 1, "--run_dir", tmp_path / "run"]
    assert run(*flags, "--num_rounds", 1) == 0
    assert run(*flags, "--num_rounds", 2, "--resume") == 2
    assert "num_rounds 2 (the run has 1)" in capsys.readouterr().err
