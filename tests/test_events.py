"""Event files for TensorBoard. What is in them is tested where its package is installed."""

import importlib.util
import subprocess
import sys

import pytest

from modelzoo import ModelZoo
from tests.small_runs import results_of, rounds_of, run, tiny_flags
from utils import config

NEEDS_PACKAGE = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs pip install -r requirements-tensorboard.txt"
)
RECORD = ModelZoo.record


@pytest.fixture
def flags(tmp_path):
    return [*tiny_flags(tmp_path), "--continual", "--epochs", "2"]


def events_of(run_dir):
    """Steps and values by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run_dir / "tensorboard"))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def times_of(run_dir):
    """When each value was made, by tag and step."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    files = (run_dir / "tensorboard").iterdir()
    events = [event for path in files for event in EventFileLoader(str(path)).Load()]
    return {(value.tag, event.step): event.wall_time for event in events for value in event.summary.value}


def expected_events(run_dir):
    rounds = rounds_of(run_dir)
    accuracies = [record["accuracy"] for record in rounds]
    losses = [loss for record in rounds for loss in record["epoch_loss"]]
    expected = {
        "training loss": list(enumerate(losses)),
        "average test accuracy": [(step, sum(found.values()) / len(found)) for step, found in enumerate(accuracies)],
    }
    for task_id in range(4):
        arrived = [(step, found[str(task_id)]) for step, found in enumerate(accuracies) if str(task_id) in found]
        expected[f"test accuracy/{task_id} task {task_id}"] = arrived
    return {tag: [(step, pytest.approx(value, rel=1e-6)) for step, value in found] for tag, found in expected.items()}


@NEEDS_PACKAGE
def test_losses_and_accuracies_are_those_of_the_rounds_after_a_resume_too(flags, tmp_path, monkeypatch):
    assert run(*flags, "--run_dir", tmp_path / "whole", "--tensorboard") == 0
    assert events_of(tmp_path / "whole") == expected_events(tmp_path / "whole")

    with monkeypatch.context() as patch:
        patch.setattr(ModelZoo, "record", lambda zoo, *rest: 1 / (zoo.round_id - 2) and RECORD(zoo, *rest))
        with pytest.raises(ZeroDivisionError):  # in round 2, when its learner is trained
            run(*flags, "--run_dir", tmp_path / "run", "--tensorboard", "--checkpoint_every_sec", 0)
    assert len(events_of(tmp_path / "run")["training loss"]) == 6  # the third learner was trained
    times = times_of(tmp_path / "run")
    assert run(*flags, "--run_dir", tmp_path / "run", "--tensorboard", "--resume") == 0
    assert events_of(tmp_path / "run") == expected_events(tmp_path / "run")
    assert len(times) == 11
    assert times.items() <= times_of(tmp_path / "run").items()
    assert results_of(tmp_path / "run") == results_of(tmp_path / "whole")
    assert run(*flags, "--run_dir", tmp_path / "run", "--overwrite") == 0
    assert not list((tmp_path / "run/tensorboard").iterdir())


@NEEDS_PACKAGE
def test_a_damaged_event_file_costs_at_most_the_times_of_its_values(flags, tmp_path):
    again = [*flags, "--run_dir", tmp_path / "run", "--num_rounds", 2, "--tensorboard"]
    assert run(*again) == 0
    whole = events_of(tmp_path / "run")
    for damage in (
        lambda content: content + content,  # as if it had been killed while it wrote the file anew
        lambda content: content[:-9],
        lambda content: content + bytes(range(99)),
        lambda content: content[:300] + b"xyz" + content[303:],
        lambda content: b"",
    ):
        before = times_of(tmp_path / "run")
        (path,) = (tmp_path / "run/tensorboard").iterdir()
        path.write_bytes(damage(path.read_bytes()))
        kept = times_of(tmp_path / "run")
        assert kept.items() <= before.items()
        assert run(*again, "--resume") == 0
        assert events_of(tmp_path / "run") == whole
        assert len(before) == len(times_of(tmp_path / "run"))
        assert kept.items() <= times_of(tmp_path / "run").items()


@NEEDS_PACKAGE
def test_event_files_that_cannot_be_written_are_one_warning(flags, tmp_path, capsys):
    assert run(*flags, "--run_dir", tmp_path / "run", "--num_rounds", 1) == 0
    (tmp_path / "run/tensorboard").write_text("a file where the folder should be")
    capsys.readouterr()
    assert run(*flags, "--run_dir", tmp_path / "run", "--tensorboard", "--overwrite") == 0
    assert capsys.readouterr().err.count("event files could not be written") == 1


def test_without_the_package_it_is_one_line_and_no_folder(flags, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    for more in ([], ["--dry_run"]):
        assert run(*flags, "--run_dir", tmp_path / "run", "--tensorboard", *more) == 2
        expected = "--tensorboard needs its package: pip install -r requirements-tensorboard.txt"
        assert capsys.readouterr().err == f"modelzoo.py: {expected}\n"
        assert not (tmp_path / "run").exists()


@NEEDS_PACKAGE
def test_curves_that_would_fall_behind_go_on_and_a_complete_run_gets_them_later(flags, tmp_path):
    assert run(*flags, "--run_dir", tmp_path / "run", "--num_rounds", 2, "--tensorboard") == 0
    assert len(events_of(tmp_path / "run")["training loss"]) == 4
    assert run(*flags, "--run_dir", tmp_path / "run", "--resume") == 0
    assert events_of(tmp_path / "run") == expected_events(tmp_path / "run")
    assert run(*flags, "--run_dir", tmp_path / "later") == 0
    assert not (tmp_path / "later/tensorboard").exists()
    assert run(*flags, "--run_dir", tmp_path / "later", "--resume", "--tensorboard") == 0
    assert events_of(tmp_path / "later") == expected_events(tmp_path / "later")


@NEEDS_PACKAGE
def test_the_page_itself_can_be_started():
    subprocess.run([sys.executable, "-c", "import tensorboard.default"], check=True)  # its parts; 2.20.0 lacks one
