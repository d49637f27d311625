"""The command line, end to end: mistakes, what is printed, what each flag changes, the dry run."""

import itertools
import json
import re

import numpy as np
import pytest
import torch
import yaml

import modelzoo
from tests.make_data import make_image_folder
from tests.small_runs import (
    ROOT,
    class_images,
    content_of,
    results_of,
    rounds_of,
    run,
    settings,
    start,
    tiny_flags,
    write_benchmark,
    write_recipe,
)
from tests.tiny_zoo import make_tasks
from utils.device import describe_device
from utils.errors import UserError

CONTINUAL = ("--continual",)
ROUND_ENDS = r"round \d of 4, 1 of 1 epochs done: learner's loss \d\.\d{4}, [\d,]+ images a second, [\d:]+ left"
RECIPE = "model: conv\nbatch: 8\nlr: 0.01\nl2_reg: 0.00001\ndropout: 0.0\n"
CIFAR = "dataset: cifar100\ntasks: [[0, 1], [2, 3]]\n"


# ---- mistakes: (name, flags, files, what the message says)

BAD_INPUT = [
    ("no such file", "--data_config nowhere.yaml", {}, ["nowhere.yaml"]),
    ("no such recipe", "--hp_config nowhere.yaml", {}, ["nowhere.yaml"]),
    ("yaml that does not parse", "--hp_config bad.yaml", {"bad.yaml": "lr: [1"}, ["bad.yaml", "YAML"]),
    ("unknown key", "--hp_config bad.yaml", {"bad.yaml": RECIPE + "beta: 1\n"}, ["bad.yaml", "beta", "one of"]),
    ("lr as text", "--hp_config bad.yaml", {"bad.yaml": RECIPE.replace("0.01", "small")}, ["bad.yaml", "lr", "small"]),
    (
        "no such network",
        "--hp_config bad.yaml",
        {"bad.yaml": RECIPE.replace("conv", "cnov")},
        ["model", "conv", "cnov"],
    ),
    (
        "no such data set",
        "--data_config bad.yaml",
        {"bad.yaml": CIFAR.replace("cifar100", "cfar")},
        ["dataset", "cfar"],
    ),
    ("class twice", "--data_config bad.yaml", {"bad.yaml": CIFAR.replace("3", "2")}, ["bad.yaml", "tasks[1]", "once"]),
    ("task of one class", "--data_config bad.yaml", {"bad.yaml": CIFAR.replace(", 3", "")}, ["bad.yaml", "tasks[1]"]),
    ("no tasks", "--data_config bad.yaml", {"bad.yaml": "dataset: cifar100\ntasks: []\n"}, ["bad.yaml", "tasks"]),
    ("fraction", "--continual --replay_frac 1.5", {}, ["--replay_frac", "1.5"]),
    ("no tasks a round", "--tasks_per_round 0", {}, ["--tasks_per_round", "0"]),
    ("no such task", "--task_ids 0 4", {}, ["--task_ids", "0..3", "or all, got '0 4'"]),
    ("warm start", "--continual --warm_start", {}, ["--warm_start", "--continual"]),
    ("replay without time", "--replay_frac 0.5", {}, ["--replay_frac", "--continual"]),
    ("no data", "--data_config c.yaml", {"c.yaml": CIFAR}, ["cifar100.npz", "--no_download", "torchvision"]),
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


@pytest.mark.parametrize("more", [[], ["--check_data"]], ids=str)
def test_data_that_must_be_downloaded_without_a_network_say_where_to_put_which_file(
    tmp_path, monkeypatch, capsys, more
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # a port where nothing listens
    (tmp_path / "c.yaml").write_text(CIFAR)
    (tmp_path / "r.yaml").write_text(RECIPE)
    assert modelzoo.main(["--data_config", "c.yaml", "--hp_config", "r.yaml", "--data_dir", "images", *more]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert 1 <= printed.err.count("\n") <= 2
    assert "images/cifar100.npz" in printed.err
    assert "downloading" in printed.err
    assert not (tmp_path / "runs").exists()


def test_a_mistake_of_a_process_ends_it_with_status_two(tmp_path):
    process = start("--tasks_per_round", "0", cwd=ROOT)
    out, err = process.communicate()
    assert (process.returncode, out) == (2, "")
    assert err.startswith("modelzoo.py: --tasks_per_round: expected ")
    assert err.count("\n") == 1


def test_help_tells_every_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        modelzoo.main(["--help"])
    assert ended.value.code == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    what = "--data_config --hp_config --task_ids --epochs --continual --tasks_per_round --num_rounds --replay_frac"
    more = "--samples --naive --warm_start --seed --config --data_dir --no_download --run_dir --resume --overwrite"
    rest = "--device --threads --compile --checkpoint_every_sec --check_data --dry_run --evaluate --predict --task"
    for flag in f"{what} {more} {rest}".split():
        assert re.search(rf"^  {flag}\b", printed.out, re.MULTILINE), flag
    for example in ("--continual --tasks_per_round 1", "--num_rounds 1 --tasks_per_round all", "Exit status"):
        assert example in " ".join(printed.out.split())


def test_a_network_that_does_not_fit_in_memory_is_a_mistake_and_leaves_no_folder(tmp_path, capsys):
    flags = tiny_flags(tmp_path, recipe={"model": "wrn10_100000000000000"})
    for more in ([], ["--dry_run"]):
        assert run(*flags, "--run_dir", tmp_path / "run", *more) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "out of memory; try a smaller --batch" in line
        assert "what was saved before is kept" in line
    assert not (tmp_path / "run").exists()


def test_a_gpu_without_memory_for_a_zoo_is_no_damage(finished, monkeypatch, capsys):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("net.saved_zoo.build_net", fail)
    assert run("--evaluate", finished[0]) == 2
    assert "out of memory" in capsys.readouterr().err


def test_another_error_of_torch_is_not_hidden(finished, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(modelzoo, "build_dataset", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run("--evaluate", finished[0])


# ---- what is printed


def test_results_go_to_stdout_and_how_far_the_run_is_to_stderr(finished, tmp_path, capsys):
    assert run(*finished[1], "--run_dir", tmp_path / "run") == 0
    printed = capsys.readouterr()
    ends = [line for line in printed.err.splitlines() if re.fullmatch(ROUND_ENDS, line)]
    (begins,) = [line for line in printed.err.splitlines() if line not in ends]
    device = describe_device(torch.device("cpu"))
    assert begins == f"round 0 of 4 comes next, on {device} with 1 thread, in {tmp_path / 'run'}"
    assert len(ends) == 4
    lines = printed.out.splitlines()
    assert [line.split()[:5] for line in lines[:4]] == [["round", str(i), "of", "4", "test"] for i in range(4)]
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
    log = (tmp_path / "run/log.txt").read_text().splitlines()
    assert log[0] == begins
    assert [line for line in log[1:] if line not in ends] == lines
    assert set(ends) <= set(log)


def test_the_closing_table_marks_a_task_without_a_learner(tmp_path, capsys):
    assert run(*tiny_flags(tmp_path), "--tasks_per_round", 3, "--num_rounds", 1, "--run_dir", tmp_path / "run") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no learner" in line]
    (drawn,) = rounds_of(tmp_path / "run")
    assert int(line.split()[0]) not in drawn["tasks"]
    assert "50.00%" in line


def test_the_conv_nets_lack_of_dropout_is_said(tmp_path, capsys):
    flags = tiny_flags(tmp_path, recipe={"dropout": 0.2})
    assert run(*flags, "--num_rounds", 1, "--run_dir", tmp_path / "run") == 0
    assert capsys.readouterr().err.startswith("warning: dropout 0.2: the network conv has no dropout\nround 0 ")


def test_without_a_run_dir_the_folder_is_named_after_the_settings(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*finished[1], "--num_rounds", 1) == 0
    assert (tmp_path / "runs/tiny-small-continual-b5-e1-k1-s100/run.json").exists()


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


def test_config_yaml_is_plain(finished):
    values = yaml.safe_load((finished[0] / "config.yaml").read_text())
    assert (values["continual"], values["seed"], values["recipe"]["model"]) == (True, 100, "conv")


def test_the_environment_of_a_run_is_noted(finished):
    (env,) = json.loads((finished[0] / "env.json").read_text())
    assert env["command"].startswith("python modelzoo.py --device cpu --threads 1 --no_download --data_config ")
    assert (env["torch"], env["threads"], env["precision"]) == (torch.__version__, 1, "fp32")
    assert re.fullmatch(r"cpu \(.+, [A-Z0-9]+\)", env["device"])
    assert set(env) == {"command", "commit", "python", "torch", "device", "threads", "precision", "compiled"}


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
    ["--task_ids", "2", "0", "1"],
]


@pytest.mark.parametrize("flag", CHANGES, ids=" ".join)
def test_each_flag_changes_what_is_computed(multi_task, tmp_path, flag):
    assert run(*multi_task[1], *flag, "--run_dir", tmp_path / "run") == 0
    assert rounds_of(tmp_path / "run") != rounds_of(multi_task[0])


@pytest.mark.parametrize("fraction", ["0", "0.34"])
def test_limited_replay_changes_what_is_computed(finished, tmp_path, fraction):
    assert run(*finished[1], "--replay_frac", fraction, "--run_dir", tmp_path / "run") == 0
    limited, whole = rounds_of(tmp_path / "run"), rounds_of(finished[0])
    assert limited != whole
    assert limited[0]["accuracy"] == whole[0]["accuracy"]  # nothing is past yet
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
    assert json.loads((tmp_path / "run/env.json").read_text())[0]["threads"] == 2


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
    assert "fastest" not in printed.out  # only a GPU is timed with other flags than those given


@pytest.mark.parametrize("compiler", [True, False])
def test_a_dry_run_compares_precisions_on_a_gpu_and_compiling_where_that_works(monkeypatch, compiler):
    def check_compiler(device):
        if not compiler:
            raise UserError("no compiler")

    monkeypatch.setattr("modelzoo.check_compiler", check_compiler)
    monkeypatch.setattr("utils.run_net.compile_afresh", lambda network: network)
    monkeypatch.setattr("modelzoo.seconds_each", lambda steps, device: next(steps) / next(speed))
    speed = itertools.count(10)
    lines = modelzoo.compare_precisions(settings(), make_tasks(), torch.device("cpu")).splitlines()[1:]
    fastest_first = ["--precision fp16", "--precision bf16", "--precision tf32", "--precision fp32"]
    if compiler:
        fastest_first = [flags + more for flags in fastest_first for more in (" --compile", "")]
    assert [line.split(maxsplit=1)[1] for line in lines] == fastest_first


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
    assert run(*finished[1], "--num_rounds", 9, "--dry_run") == 2


def test_a_dry_run_in_multi_task_mode_plans_as_the_run_goes(multi_task, capsys):
    assert run(*multi_task[1], "--dry_run") == 0
    assert re.search(r"^0 to 2 +3 +36 +66$", capsys.readouterr().out, re.MULTILINE)


# ---- the data alone


def test_checking_the_data_loads_them_and_makes_no_run_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = [*tiny_flags(tmp_path), "--check_data"]
    before = content_of(tmp_path)
    assert run(*flags) == 0
    assert capsys.readouterr() == ("", "")
    assert content_of(tmp_path) == before
    (tmp_path / "wrong.yaml").write_text("dataset: npz\nroot: tiny.npz\ntasks: [[0, 1], [2, 99]]\n")
    assert run(*flags, "--data_config", "wrong.yaml", "--task_ids", 0) == 0  # the other task is not run
    assert run(*flags, "--data_config", "wrong.yaml") == 2
    (tmp_path / "tiny.npz").unlink()
    assert run(*flags) == 2
    wrong, gone = capsys.readouterr().err.splitlines()
    assert "tasks[1]: expected a class of ['0', '1', '2', '3', '4', '5', '6', '7'], or an id 0..7, got 99" in wrong
    assert f"{tmp_path}/tiny.npz: expected a whole npz file" in gone
