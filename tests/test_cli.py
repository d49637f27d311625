"""The command line, end to end."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import modelzoo
from tests.make_data import make_image_folder
from tests.small_runs import (
    ROOT,
    class_images,
    digits_flags,
    results_of,
    rounds_of,
    run,
    start,
    tiny_flags,
    write_benchmark,
    write_recipe,
)

RECIPE = "model: conv\nbatch: 8\nlr: 0.01\nl2_reg: 0.00001\ndropout: 0.0\n"
CIFAR = "dataset: cifar100\ntasks: [[0, 1], [2, 3]]\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished continual run and the flags that made it."""
    folder = tmp_path_factory.mktemp("finished")
    flags = [*tiny_flags(folder), "--continual"]
    assert run(*flags, "--run_dir", folder / "run") == 0
    return folder / "run", flags


# ---- mistakes: (name, flags, files, what the message says)

BAD_INPUT = [
    ("no such file", "--data_config nowhere.yaml", {}, ["nowhere.yaml"]),
    ("no such recipe", "--hp_config nowhere.yaml", {}, ["nowhere.yaml"]),
    ("yaml that does not parse", "--hp_config bad.yaml", {"bad.yaml": "lr: [1"}, ["bad.yaml", "YAML"]),
    ("unknown key", "--hp_config bad.yaml", {"bad.yaml": RECIPE + "beta: 1\n"}, ["bad.yaml", "beta", "unknown"]),
    ("lr as text", "--hp_config bad.yaml", {"bad.yaml": RECIPE.replace("0.01", "1e-5")}, ["bad.yaml", "lr", "1.0e-5"]),
    ("class out of range", "--data_config bad.yaml", {"bad.yaml": CIFAR.replace("3", "100")}, ["bad.yaml", "100"]),
    ("class twice", "--data_config bad.yaml", {"bad.yaml": CIFAR.replace("3", "2")}, ["bad.yaml", "tasks[1]", "twice"]),
    ("task of one class", "--data_config bad.yaml", {"bad.yaml": CIFAR.replace(", 3", "")}, ["bad.yaml", "tasks[1]"]),
    ("no tasks", "--data_config bad.yaml", {"bad.yaml": "dataset: cifar100\ntasks: []\n"}, ["bad.yaml", "tasks"]),
    ("fraction", "--continual --replay_frac 1.5", {}, ["--replay_frac", "1.5"]),
    ("no tasks a round", "--tasks_per_round 0", {}, ["--tasks_per_round", "0"]),
    ("too many tasks a round", "--tasks_per_round 5", {}, ["--tasks_per_round", "at most 4", "5"]),
    ("too many, continual", "--continual --tasks_per_round 5", {}, ["--tasks_per_round", "at most 4", "5"]),
    ("warm start", "--continual --warm_start", {}, ["--warm_start", "--continual"]),
    ("replay without time", "--replay_frac 0.5", {}, ["--replay_frac", "--continual"]),
    ("no data", "--data_config c.yaml", {"c.yaml": CIFAR}, ["cifar100.npz", "--no_download", "--data_dir"]),
    ("no such npz", "--data_config c.yaml", {"c.yaml": "dataset: npz\nroot: x.npz\ntasks: [[0, 1]]\n"}, ["x.npz"]),
    (
        "class not in the npz",
        "--data_config c.yaml",
        {"c.yaml": "dataset: npz\nroot: tiny.npz\ntasks: [[0, 99]]\n"},
        ["99"],
    ),
    ("device", "--device cuda:99", {}, ["--device", "cuda:99"]),
    ("unknown flag", "--epoch 1", {}, ["--epoch"]),
    (
        "images too small",
        "--data_config s.yaml",
        {"s.yaml": "dataset: npz\nroot: s.npz\ntasks: [[0, 1]]\n"},
        ["22 x 22"],
    ),
    ("no run to evaluate", "--evaluate nowhere", {}, ["nowhere"]),
    ("no run to predict with", "--predict nowhere --task 0 x.png", {}, ["nowhere"]),
]


@pytest.mark.parametrize(("flags", "files", "words"), [case[1:] for case in BAD_INPUT], ids=[c[0] for c in BAD_INPUT])
def test_a_mistake_ends_with_status_two_a_line_or_two_and_no_folder(tmp_path, monkeypatch, capsys, flags, files, words):
    monkeypatch.chdir(tmp_path)
    small = class_images(0, 8, side=8)
    np.savez("s.npz", x_train=small, y_train=np.arange(8) % 2, x_test=small, y_test=np.arange(8) % 2)
    given = [] if "nowhere " in flags or "--evaluate" in flags else tiny_flags(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    before = sorted(tmp_path.rglob("*"))
    assert run(*given, "--data_dir", tmp_path / "data", *flags.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert 1 <= printed.err.count("\n") <= 2
    for word in words:
        assert word in printed.err
    assert "Traceback" not in printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_data_that_must_be_downloaded_without_a_network_says_where_to_put_which_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # a port where nothing listens
    (tmp_path / "c.yaml").write_text(CIFAR)
    (tmp_path / "r.yaml").write_text(RECIPE)
    assert modelzoo.main(["--data_config", "c.yaml", "--hp_config", "r.yaml", "--data_dir", "images"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert 1 <= printed.err.count("\n") <= 2
    assert "images/cifar100.npz" in printed.err
    assert "could not be downloaded" in printed.err
    assert not (tmp_path / "runs").exists()


def test_a_mistake_of_a_process_ends_it_with_status_two(tmp_path):
    process = start("--tasks_per_round", "0", cwd=ROOT)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err.startswith("modelzoo.py: --tasks_per_round: expected ")
    assert err.count("\n") == 1


def test_help_tells_every_flag():
    ended = subprocess.run([sys.executable, "modelzoo.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0
    assert ended.stderr == ""
    flags = (
        "--data_config --hp_config --epochs --continual --tasks_per_round --num_rounds --replay_frac --samples --naive"
    )
    how = "--warm_start --seed --config --data_dir --no_download --run_dir --resume --overwrite --device --threads"
    use = "--checkpoint_every_sec --dry_run --evaluate --predict --task"
    for flag in f"{flags} {how} {use}".split():
        assert re.search(rf"^  {flag}\b", ended.stdout, re.MULTILINE), flag
    for example in ("--continual --tasks_per_round 1", "--num_rounds 1 --tasks_per_round all", "Exit status"):
        assert example in " ".join(ended.stdout.split())


def test_a_network_that_does_not_fit_in_memory_is_a_mistake_and_leaves_no_folder(tmp_path, capsys):
    flags = tiny_flags(tmp_path, recipe={"model": "wrn10_100000000000000"})
    for more in ([], ["--dry_run"]):
        assert run(*flags, "--run_dir", tmp_path / "run", *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "model, batch: expected what fits in memory" in line
        assert "what was saved before is kept" in line
    assert not (tmp_path / "run").exists()


def test_a_gpu_without_memory_for_a_zoo_is_no_damage(finished, monkeypatch, capsys):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("net.zoo.build_net", fail)
    assert run("--evaluate", finished[0]) == 2
    assert "expected what fits in memory" in capsys.readouterr().err


def test_another_error_of_torch_is_not_hidden(finished, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(modelzoo, "load_tasks", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run("--evaluate", finished[0])


# ---- what is printed


def test_results_go_to_stdout_and_nothing_to_stderr(finished, tmp_path, capsys):
    assert run(*finished[1], "--run_dir", tmp_path / "run") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [["round", str(i)] for i in range(4)]
    assert lines[5].split()[:5] == ["task", "name", "learned", "at", "end"]
    assert [line.split()[0] for line in lines[6:10]] == ["0", "1", "2", "3"]
    for metric in (
        "average accuracy",
        "learning accuracy",
        "forgetting (the authors')",
        "Chaudhry",
        "backward transfer",
    ):
        assert any(metric in line for line in lines[10:]), metric
    assert str(tmp_path / "run") in lines[-1]
    assert (tmp_path / "run/log.txt").read_text() == printed.out


def test_the_closing_table_marks_a_task_without_a_learner(tmp_path, capsys):
    assert run(*tiny_flags(tmp_path), "--tasks_per_round", 3, "--num_rounds", 1, "--run_dir", tmp_path / "run") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no learner" in line]
    (drawn,) = rounds_of(tmp_path / "run")
    assert int(line.split()[0]) not in drawn["tasks"]
    assert "50.00%" in line


def test_the_conv_nets_lack_of_dropout_is_said(tmp_path, capsys):
    flags = tiny_flags(tmp_path, recipe={"dropout": 0.2})
    assert run(*flags, "--num_rounds", 1, "--run_dir", tmp_path / "run") == 0
    assert capsys.readouterr().err == "warning: dropout 0.2: the small conv net has none\n"


def test_without_a_run_dir_the_folder_is_named_after_the_settings(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*finished[1], "--num_rounds", 1) == 0
    assert (tmp_path / "runs/tiny-small-continual-b4-e1-k1-s100/summary.json").exists()


# ---- the same again


def test_the_same_command_gives_the_same_numbers_and_another_seed_others(finished, tmp_path):
    assert run(*finished[1], "--run_dir", tmp_path / "again") == 0
    assert results_of(tmp_path / "again") == results_of(finished[0])
    assert run(*finished[1], "--seed", 1, "--run_dir", tmp_path / "other") == 0
    assert rounds_of(tmp_path / "other") != rounds_of(finished[0])


def test_a_runs_config_runs_it_again(finished, tmp_path):
    assert run("--config", finished[0] / "config.yaml", "--run_dir", tmp_path / "again") == 0
    assert results_of(tmp_path / "again") == results_of(finished[0])
    assert (tmp_path / "again/config.yaml").read_text() == (finished[0] / "config.yaml").read_text()


def test_the_environment_of_a_run_is_noted(finished):
    env = json.loads((finished[0] / "env.json").read_text())
    assert env["command"].startswith("python modelzoo.py --device cpu --threads 1 --no_download --data_config ")
    assert (env["torch"], env["threads"], env["device"]) == (torch.__version__, 1, "cpu (1 threads)")
    assert set(env) == {"command", "commit", "python", "torch", "device", "threads"}


# ---- every flag changes something

CHANGES = [
    ["--continual"],
    ["--tasks_per_round", "2"],
    ["--tasks_per_round", "all"],
    ["--num_rounds", "2"],
    ["--samples", "3"],
    ["--naive"],
    ["--warm_start"],
    ["--seed", "5"],
    ["--epochs", "2"],
]


@pytest.fixture(scope="module")
def multi_task(tmp_path_factory):
    """A finished multi-task run, three tasks a round, and the flags that made it."""
    folder = tmp_path_factory.mktemp("multi_task")
    flags = [*tiny_flags(folder), "--num_rounds", "3", "--tasks_per_round", "3"]
    assert run(*flags, "--run_dir", folder / "run") == 0
    return folder / "run", flags


@pytest.mark.parametrize("flag", CHANGES, ids=" ".join)
def test_each_flag_changes_what_is_computed(multi_task, tmp_path, flag):
    assert run(*multi_task[1], *flag, "--run_dir", tmp_path / "run") == 0
    assert rounds_of(tmp_path / "run") != rounds_of(multi_task[0])


@pytest.mark.parametrize("fraction", ["0", "0.34"])
def test_limited_replay_changes_what_is_computed(finished, tmp_path, fraction):
    assert run(*finished[1], "--replay_frac", fraction, "--run_dir", tmp_path / "run") == 0
    limited, whole = rounds_of(tmp_path / "run"), rounds_of(finished[0])
    assert limited != whole
    assert limited[0]["test_accuracy"] == whole[0]["test_accuracy"]  # nothing is past yet
    if fraction == "0":
        assert [record["tasks"] for record in limited] == [[0], [1], [2], [3]]
        assert limited[3]["train_loss"]["0"] is None


def test_the_benchmark_and_the_recipe_change_what_is_computed(finished, tmp_path):
    benchmark = write_benchmark(tmp_path, seed=1)
    assert run(*finished[1], "--data_config", benchmark, "--run_dir", tmp_path / "one") == 0
    recipe = write_recipe(tmp_path, lr=0.02)
    assert run(*finished[1], "--hp_config", recipe, "--run_dir", tmp_path / "two") == 0
    expected = rounds_of(finished[0])
    assert rounds_of(tmp_path / "one") != expected
    assert rounds_of(tmp_path / "two") != expected


def test_the_data_dir_is_where_data_sets_are_looked_for(tmp_path):
    (tmp_path / "mnist.yaml").write_text("dataset: mnist\ntasks: [[0, 1]]\n")
    images = np.concatenate([class_images(c, 6, side=28)[..., 0] for c in range(10)])
    labels = np.repeat(np.arange(10), 6)
    (tmp_path / "here").mkdir()
    np.savez(tmp_path / "here/mnist.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    flags = ["--data_config", tmp_path / "mnist.yaml", "--hp_config", write_recipe(tmp_path), "--epochs", 1]
    assert run(*flags, "--data_dir", tmp_path / "there", "--run_dir", tmp_path / "run") == 2
    assert run(*flags, "--data_dir", tmp_path / "here", "--run_dir", tmp_path / "run") == 0


def test_threads_are_those_of_this_process(finished, tmp_path):
    assert run(*finished[1], "--threads", 2, "--num_rounds", 1, "--run_dir", tmp_path / "run") == 0
    assert json.loads((tmp_path / "run/env.json").read_text())["threads"] == 2


# ---- dry run


def test_a_dry_run_prints_settings_plan_and_time_and_writes_nothing(tmp_path, monkeypatch, capsys):
    flags = [*tiny_flags(tmp_path), "--continual", "--tasks_per_round", "2", "--dry_run"]
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run(*flags) == 0
    printed = capsys.readouterr()
    assert sorted(tmp_path.rglob("*")) == before
    assert printed.err == ""
    assert "tasks_per_round: 2" in printed.out
    # round 0: its own 12 images; from round 1 on 24 to train on, those and 2 x 10 test images to predict
    assert re.search(r"^0 +1 +12 +22$", printed.out, re.MULTILINE)
    assert re.search(r"^1 to 3 +2 +24 +44$", printed.out, re.MULTILINE)
    assert re.search(
        r"^84 images to train on at [\d,]+ a second, 154 to predict .* about [\d.]+ minutes$", printed.out, re.M
    )


def test_a_dry_run_keeps_no_prepared_images_and_downloads_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchvision.datasets.CIFAR100.download", lambda self: pytest.fail("downloaded"))
    make_image_folder(tmp_path / "pets", ("cat", "dog"), sizes=((24, 24),))
    write_recipe(tmp_path)
    (tmp_path / "pets.yaml").write_text("dataset: image_folder\nroot: pets\ntest_fraction: 0.4\ntasks: [[cat, dog]]\n")
    (tmp_path / "cifar.yaml").write_text(CIFAR)
    before = sorted(tmp_path.rglob("*"))
    for name, status in (("pets", 0), ("cifar", 2)):
        flags = ["--data_config", f"{name}.yaml", "--hp_config", "small.yaml", "--epochs", "1", "--device", "cpu"]
        assert modelzoo.main([*flags, "--dry_run"]) == status
    assert "--dry_run" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_minds_no_existing_folder_but_minds_mistakes(finished, capsys):
    before = (finished[0] / "log.txt").read_bytes()
    assert run(*finished[1], "--run_dir", finished[0], "--dry_run") == 0
    assert (finished[0] / "log.txt").read_bytes() == before
    assert run(*finished[1], "--tasks_per_round", 9, "--dry_run") == 2


def test_a_dry_run_in_multi_task_mode_plans_as_the_run_goes(multi_task, capsys):
    assert run(*multi_task[1], "--dry_run") == 0
    assert re.search(r"^0 to 2 +3 +36 +66$", capsys.readouterr().out, re.MULTILINE)


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
    assert json.loads((tmp_path / "run/summary.json").read_text())["average_accuracy"] > 0.6


# ---- a zoo that was grown


@pytest.mark.parametrize("mode", ["finished", "multi_task"])
def test_evaluation_equals_the_summary(request, capsys, mode):
    run_dir, _ = request.getfixturevalue(mode)
    assert run("--evaluate", run_dir) == 0
    *rows, last = capsys.readouterr().out.splitlines()[1:]
    final = json.loads((run_dir / "summary.json").read_text())["final_accuracy"]
    assert [row.split()[2] for row in rows] == [f"{accuracy:.2%}" for accuracy in final]
    assert last == f"4 of 4 tasks as in {run_dir / 'summary.json'}"


def test_evaluation_finds_an_accuracy_that_differs(finished, tmp_path, capsys):
    shutil.copytree(finished[0], tmp_path / "run")
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    summary["final_accuracy"][2] -= 0.1
    (tmp_path / "run/summary.json").write_text(json.dumps(summary))
    assert run("--evaluate", tmp_path / "run") == 1
    printed = capsys.readouterr().out.splitlines()
    assert ["DIFFERS" in line for line in printed] == [False, False, False, True, False, False]
    assert printed[-1].startswith("3 of 4 tasks")


def test_evaluation_finds_learners_that_were_changed(finished, tmp_path, capsys):
    shutil.copytree(finished[0], tmp_path / "run")
    for path in (tmp_path / "run/zoo").glob("learner_*.pt"):
        weights = torch.load(path, weights_only=True)
        weights["heads.weight"] = -weights["heads.weight"]
        torch.save(weights, path)
    assert run("--evaluate", tmp_path / "run") == 1
    assert "DIFFERS" in capsys.readouterr().out


def test_evaluation_of_a_run_that_is_not_complete_is_refused(finished, tmp_path, capsys):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run/summary.json").unlink()
    assert run("--evaluate", tmp_path / "run") == 2
    assert "expected the summary of a complete run" in capsys.readouterr().err


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


# ---- signals


def test_the_command_to_go_on_is_the_one_that_was_given(finished):
    from utils.run_folder import command_to_resume

    argv = [*finished[1], "--overwrite", "--run_dir", "my runs/a"]
    again = shlex.split(command_to_resume(argv))
    assert again == ["python", "modelzoo.py", *finished[1], "--run_dir", "my runs/a", "--resume"]
    assert command_to_resume(again[2:]) == shlex.join(again)


@pytest.mark.parametrize("step", ["read_command", "load_tasks", "read_image"])
def test_a_command_that_grows_no_zoo_says_nothing_of_going_on(finished, monkeypatch, capsys, step):
    run_dir, flags = finished
    commands = {
        "read_command": [flags],
        "load_tasks": [[*flags, "--dry_run"], ["--evaluate", run_dir]],
        "read_image": [["--predict", run_dir, "--task", "0", "a.png"]],
    }
    monkeypatch.setattr(modelzoo, step, stopped_by_a_signal)
    for command in commands[step]:
        assert run(*command) == 3
        assert capsys.readouterr().err == "modelzoo.py: stopped by a signal\n"


def test_a_signal_before_training_says_how_to_start_again(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(modelzoo, "load_tasks", stopped_by_a_signal)
    assert run(*finished[1], "--run_dir", tmp_path / "run") == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("modelzoo.py: stopped by a signal before training began; to start again: python modelzoo.py")
    assert line.endswith(f"--run_dir {tmp_path}/run --resume")


def stopped_by_a_signal(*_, **__):
    raise KeyboardInterrupt


def test_config_yaml_is_plain(finished):
    values = yaml.safe_load((finished[0] / "config.yaml").read_text())
    assert (values["continual"], values["seed"], values["recipe"]["model"]) == (True, 100, "conv")
