"""Runs of one network that learns task after task: saved, grown, and refused where settings do not fit the method."""

import pytest

from modelzoo import METHOD_CLASSES, ModelZoo
from net.saved_zoo import SavedZoo
from tests.small_runs import FOUR_TASKS, results_of, rounds_of, run, settings, tiny_flags, write_benchmark
from tests.tiny_zoo import make_tasks
from utils.config import METHODS, Recipe, Settings
from utils.errors import UserError

PLAIN = {"l2_reg": 0.0, "momentum": 0.0, "nesterov": False, "schedule": "constant"}


def one_network(method, **changes):
    return settings(tasks_per_round=5, method=method, **changes)


def flags_of(method, folder, **options):
    recipe = PLAIN | {"lr": 0.02}
    return [*tiny_flags(folder, recipe=recipe, **options), "--continual", "--method", method]


def test_a_saved_network_is_the_one_after_the_last_task(tmp_path, capsys):
    flags = [*flags_of("er", tmp_path, per_class=20), "--run_dir", tmp_path / "run"]
    assert run(*flags) == 0
    zoo = SavedZoo.load(tmp_path / "run")
    (about,) = zoo.info.learners
    assert (about.round, about.file, about.tasks) == (3, "learner_003.pt", [0, 1, 2, 3])
    assert [zoo.num_learners(t) for t in range(4)] == [1] * 4
    assert len(list((tmp_path / "run/zoo").glob("learner_*.pt"))) == 4
    capsys.readouterr()
    assert run("--evaluate", tmp_path / "run") == 0
    assert "4 of 4 tasks as in" in capsys.readouterr().out


@pytest.mark.parametrize("method", ["sgd", "ewc", "agem"])
def test_a_finished_run_grows_to_what_the_longer_benchmark_gives_from_the_start(tmp_path, method):
    flags = flags_of(method, tmp_path)
    assert run(*flags, "--run_dir", tmp_path / "longer") == 0
    short = ["--data_config", write_benchmark(tmp_path, FOUR_TASKS[:2], name="short")]
    assert run(*flags, *short, "--run_dir", tmp_path / "grown") == 0
    assert run(*flags, "--run_dir", tmp_path / "grown", "--resume") == 0
    assert results_of(tmp_path / "grown") == results_of(tmp_path / "longer")


def test_a_reservoir_grows_by_rounds_but_not_by_tasks(tmp_path, capsys):
    flags = [*flags_of("er", tmp_path), "--run_dir", tmp_path / "grown"]
    assert run(*flags, "--num_rounds", "2") == 0
    assert run(*flags, "--resume") == 0
    assert run(*flags[:-1], tmp_path / "whole") == 0
    assert rounds_of(tmp_path / "grown") == rounds_of(tmp_path / "whole")
    longer = write_benchmark(tmp_path, (*FOUR_TASKS, (8, 9)), name="longer")
    assert run(*flags, "--data_config", longer, "--resume") == 2
    err = capsys.readouterr().err
    assert "--resume: not the settings of the run: " in err
    assert "benchmark.tasks [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]] (the run has " in err


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("--method er", "method: expected modelzoo without --continual, got er"),
        ("--continual --method erx", f"method: expected one of {', '.join(METHODS)}, got 'erx'"),
        ("--continual --memory 2", "memory: expected 1 with --method modelzoo (it is for agem, er), got 2"),
        (
            "--continual --method sgd --ewc_weight 2",
            "ewc_weight: expected 1.0 with --method sgd (it is for ewc), got 2.0",
        ),
        ("--continual --method er --memory 0", "--memory: expected greater than or equal to 1, got '0'"),
        (
            "--continual --lr_decay 0.9",
            f"lr_decay: expected 1.0 with --method modelzoo (it is for {', '.join(list(METHODS)[1:])}), got 0.9",
        ),
        (
            "--continual --method sgd --replay_frac 0.5",
            "replay_frac: expected 1.0 with --method sgd (it is for modelzoo), got 0.5",
        ),
        (
            "--continual --method agem --tasks_per_round 1",
            "tasks_per_round: expected 5 with --method agem (it is for modelzoo), got 1",
        ),
    ],
)
def test_settings_of_another_method_are_refused_by_name(tmp_path, capsys, more, line):
    assert run(*tiny_flags(tmp_path), *more.split(), "--run_dir", tmp_path / "run") == 2
    assert capsys.readouterr().err.strip().endswith(line)
    assert not (tmp_path / "run").exists()


def test_names_of_runs_tell_the_method(tmp_path):
    assert one_network("sgd").run_name == "tiny-small-continual-sgd-e1-s0"
    assert one_network("er", memory=5).run_name == "tiny-small-continual-er-e1-memory5-s0"
    assert one_network("ewc", ewc_weight=10.0).run_name == "tiny-small-continual-ewc-e1-ewc_weight10-s0"


def test_the_names_in_settings_are_those_of_the_classes():
    assert list(METHOD_CLASSES) == list(METHODS)
    assert all(method.name == name for name, method in METHOD_CLASSES.items())
    assert {key for rules in METHODS.values() for key in rules.own} <= {*Settings.model_fields, *Recipe.model_fields}


def test_a_class_refuses_the_settings_of_another_method():
    with pytest.raises(UserError, match=r"method: ModelZoo expected settings with modelzoo, got er"):
        ModelZoo(make_tasks(), one_network("er"))
    with pytest.raises(UserError, match=r"method: ExperienceReplay expected settings with er, got modelzoo"):
        METHOD_CLASSES["er"](make_tasks(), settings())
