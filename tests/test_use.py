"""The command line, end to end: files in the old manner, evaluation, prediction, signals, screens."""

import json
import os
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import modelzoo
from tests.small_runs import (
    ROOT,
    change,
    class_images,
    digits_flags,
    rounds_of,
    run,
    tiny_flags,
    write_benchmark,
    write_recipe,
)
from utils.command_line import command_to_resume

CONTINUAL = ("--continual",)


# ---- files in the released code's manner


def test_configurations_of_the_released_code_run(tmp_path):
    write_benchmark(tmp_path)
    (tmp_path / "quoted.yaml").write_text('dataset: "npz"\nroot: "tiny.npz"\ntasks:\n  - [0, 1]\n  - [2, 3]\n')
    (tmp_path / "wrn.yaml").write_text("model: 'wrn10_1'\nbatch: 16\nlr: 0.01\nl2_reg: 0.00001\ndropout: 0.2\n")
    flags = ["--data_config", tmp_path / "quoted.yaml", "--hp_config", tmp_path / "wrn.yaml"]
    old = ["--epochs", "2", "--tasks_per_round", "2", "--num_rounds", "2", "--replay_frac", "1.0"]
    assert run(*flags, *old, "--run_dir", tmp_path / "run") == 0
    assert len(rounds_of(tmp_path / "run")) == 2


def test_the_bundled_digits_need_no_data(tmp_path):
    flags = [*digits_flags(), "--continual", "--data_dir", tmp_path / "nothing", "--run_dir", tmp_path / "run"]
    assert run(*flags) == 0
    assert json.loads((tmp_path / "run/run.json").read_text())["metrics"]["average_accuracy"] > 0.6


# ---- a zoo that was grown


@pytest.mark.parametrize("mode", ["finished", "multi_task"])
def test_evaluation_equals_run_json(request, capsys, mode):
    run_dir, _ = request.getfixturevalue(mode)
    capsys.readouterr()
    assert run("--evaluate", run_dir) == 0
    *rows, last = capsys.readouterr().out.splitlines()[1:]
    final = json.loads((run_dir / "run.json").read_text())["accuracy"][-1]
    assert [row.split()[-1] for row in rows] == [f"{accuracy:.2%}" for accuracy in final]
    assert last == f"4 of 4 tasks as in {run_dir / 'run.json'}"


def test_evaluation_finds_an_accuracy_that_differs(run_dir, capsys):
    change(run_dir / "run.json", "accuracy", -1, 2, to=0.12)
    assert run("--evaluate", run_dir) == 1
    printed = capsys.readouterr().out.splitlines()
    assert ["DIFFERS" in line for line in printed] == [False, False, False, True, False, False]
    assert printed[-1].startswith("3 of 4 tasks")


def test_evaluation_finds_learners_that_were_changed(run_dir, capsys):
    for path in (run_dir / "zoo").glob("learner_*.pt"):
        weights = torch.load(path, weights_only=True)
        weights["heads.weight"] = -weights["heads.weight"]
        torch.save(weights, path)
    assert run("--evaluate", run_dir) == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_evaluation_of_a_run_that_is_not_complete_is_refused(run_dir, capsys):
    (run_dir / "run.json").unlink()
    assert run("--evaluate", run_dir) == 2
    assert "run.json: expected what is written at the end of a run, but it is missing" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["3", "task 3"])
def test_three_pngs_are_classified(finished, tmp_path, capsys, task):
    paths = []
    for number, (class_id, mode) in enumerate([(6, "L"), (7, "RGB"), (7, "L")]):
        image = class_images(class_id, 11)[number, :, :, 0]  # six to train on, five to test
        paths.append(tmp_path / f"image {number}.png")
        Image.fromarray(image).convert(mode).save(paths[-1])
    assert run("--predict", finished[0], "--task", task, *paths) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "probability", "class"]
    assert [row[: len(str(paths[0]))] for row in rows] == [str(path) for path in paths]
    assert [row.split()[-1] for row in rows] == ["6", "7", "7"]
    assert all(50 <= float(row.split()[-2].rstrip("%")) <= 100 for row in rows)


def test_images_of_another_size_are_resized(finished, tmp_path, capsys):
    Image.fromarray(class_images(0, 1)[0, :, :, 0]).resize((50, 40)).save(tmp_path / "big.png")
    assert run("--predict", finished[0], "--task", 0, tmp_path / "big.png") == 0
    assert "big.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "image", "words"),
    [
        ("fish", "a.png", ["'fish'", "0 (task 0)"]),
        ("9", "a.png", ["'9'"]),
        ("0", "none.png", ["none.png"]),
        ("0", "text.png", ["text.png"]),
    ],
)
def test_a_mistake_in_a_prediction_is_a_line(finished, tmp_path, capsys, task, image, words):
    Image.fromarray(class_images(0, 1)[0, :, :, 0]).save(tmp_path / "a.png")
    (tmp_path / "text.png").write_text("no picture")
    assert run("--predict", finished[0], "--task", task, tmp_path / image) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert all(word in printed.err for word in words)


def test_other_data_are_named_by_evaluation(finished, tmp_path, capsys):
    folder = shutil.copytree(finished[0].parent, tmp_path / "copy")
    config = folder / "run/config.yaml"
    config.write_text(config.read_text().replace(str(finished[0].parent), str(folder)))
    arrays = dict(np.load(folder / "tiny.npz"))
    arrays["x_train"][13, 3, 3] ^= 1  # one bit of one training image of task 1
    np.savez(folder / "tiny.npz", **arrays)
    assert run("--evaluate", folder / "run") == 1
    assert capsys.readouterr().out.startswith("the data are not those of the run: task 1 (task 1): not the data")


def test_a_prediction_for_a_task_without_a_learner_is_marked(tmp_path, capsys):
    assert run(*tiny_flags(tmp_path), "--tasks_per_round", 1, "--num_rounds", 1, "--run_dir", tmp_path / "run") == 0
    (drawn,) = rounds_of(tmp_path / "run")[0]["tasks"]
    Image.fromarray(class_images(0, 1)[0, :, :, 0]).save(tmp_path / "a.png")
    capsys.readouterr()
    for task_id in range(4):
        assert run("--predict", tmp_path / "run", "--task", task_id, tmp_path / "a.png") == 0
        assert ("no learner: a guess" in capsys.readouterr().out) == (task_id != drawn)


# ---- signals


def test_the_command_to_go_on_is_the_one_that_was_given(finished):
    argv = [*finished[1], "--overwrite", "--run_dir", "my runs/a"]
    again = shlex.split(command_to_resume(argv))
    assert again == ["python", "modelzoo.py", *finished[1], "--run_dir", "my runs/a", "--resume"]
    assert command_to_resume(again[2:]) == shlex.join(again)


@pytest.mark.parametrize("step", ["read_command", "build_dataset", "read_image"])
def test_a_signal_before_training_prints_the_command_as_it_was_given(finished, tmp_path, monkeypatch, capsys, step):
    run_dir, flags = finished
    commands = {
        "read_command": [flags],
        "build_dataset": [[*flags, "--dry_run"], ["--evaluate", run_dir], [*flags, "--run_dir", tmp_path / "run"]],
        "read_image": [["--predict", run_dir, "--task", "0", "a.png"]],
    }
    monkeypatch.setattr(modelzoo, step, stopped_by_a_signal)
    for command in commands[step]:
        assert run(*command) == 3
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(
            "modelzoo.py: stopped by a signal; nothing was saved; to start again: python modelzoo.py"
        )
        assert line.endswith(shlex.join(map(str, command)))
    assert not (tmp_path / "run").exists()


def stopped_by_a_signal(*_, **__):
    raise KeyboardInterrupt


# ---- whatever the screen is


@pytest.mark.parametrize(
    ("environment", "redirection"),
    [
        ({"PYTHONIOENCODING": "ascii", "MPLBACKEND": "nonsense", "PYTHONSAFEPATH": "1"}, ""),  # each is a danger alone
        ({}, ">&-"),
        ({}, "| true"),
    ],
    ids=str,
)
def test_a_screen_or_a_setting_of_figures_or_of_python_stops_no_run(tmp_path, environment, redirection):
    benchmark = write_benchmark(tmp_path, ((0, 1), (2, 3)))
    benchmark.write_text(benchmark.read_text() + 'task_names: ["$x_1$ é", "\u9c7c"]\n', encoding="utf-8")
    words = ["--data_config", benchmark, "--hp_config", write_recipe(tmp_path), "--epochs", 1, "--threads", 1]
    command = shlex.join([sys.executable, "modelzoo.py", *map(str, words), "--run_dir", str(tmp_path / "run")])
    subprocess.run(["bash", "-c", f"{command} {redirection}"], cwd=ROOT, env=os.environ | environment, check=True)
    assert (tmp_path / "run/run.json").exists()
    assert (tmp_path / "run/accuracy.png").exists()


def test_evaluate_is_told_where_the_data_lie_now(tmp_path, capsys):
    (tmp_path / "here").mkdir()
    flags = tiny_flags(tmp_path / "here")
    assert run(*flags, "--num_rounds", 2, "--run_dir", tmp_path / "run") == 0
    (tmp_path / "here").rename(tmp_path / "there")
    assert run("--evaluate", tmp_path / "run") == 2
    moved = tmp_path / "there/tiny.yaml"
    assert run("--evaluate", tmp_path / "run", "--data_config", moved) == 0
    capsys.readouterr()
    for other in ("split_digits", "split_mnist"):
        assert run("--evaluate", tmp_path / "run", "--data_config", ROOT / f"config/dataset/{other}.yaml") == 2
        assert "--data_config: expected a benchmark with dataset: npz, and a root" in capsys.readouterr().err
    assert run("--predict", tmp_path / "run", "--data_config", moved) == 2
    assert "--data_config: expected no settings here" in capsys.readouterr().err
