"""Nothing is lost: runs that are killed, stopped, or run out of room end with the bits of one that was not.

    python -m tests.interruption [--kills N]

kills real runs on the bundled digits 20 times in each mode; here the same is done with few kills.
"""

import os
import shlex
import shutil
import signal
import subprocess
import time

import pytest

import modelzoo
from tests.interruption import MODES, compare, kill_at_random
from tests.small_runs import (
    results_of,
    run,
    start,
    tiny_flags,
    wait_for,
    without_progress,
    write_yaml,
)
from utils.checkpoint import load_state
from utils.run_folder import RunFolder

TEN_TASKS = [[2 * i, 2 * i + 1] for i in range(10)]


def test_a_tiny_run_killed_twice_ends_with_the_same_bits(tmp_path):
    flags = [*tiny_flags(tmp_path, per_class=30), "--continual", "--tasks_per_round", "2"]
    assert run(*flags, "--run_dir", tmp_path / "whole") == 0
    assert kill_at_random(flags, tmp_path / "killed", work_sec=0.0, num_kills=2, seed=0) == 2  # as states appear
    assert run(*flags, "--run_dir", tmp_path / "killed", "--resume") == 0
    assert results_of(tmp_path / "killed") == results_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_digits_killed_at_random_instants_end_with_the_same_bits(tmp_path, mode):
    _, equal = compare(tmp_path, MODES[mode], num_kills=5, seed=1)
    assert equal


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of two rounds that gets no signal, and its flags."""
    folder = tmp_path_factory.mktemp("undisturbed")
    flags = [*tiny_flags(folder, per_class=20, recipe={"model": "wrn10_1", "dropout": 0.2}), "--epochs", "2"]
    flags = [*flags, "--continual", "--num_rounds", "2"]
    assert run(*flags, "--run_dir", folder / "run") == 0
    return folder / "run", flags


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_in_the_middle_of_an_epoch_saves_the_state_and_prints_the_command_to_go_on(
    undisturbed, tmp_path, number
):
    whole, flags = undisturbed
    process = start(*flags, "--run_dir", tmp_path / "run", "--overwrite")
    assert process.stdout.readline().startswith("round   0 of 2")
    time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    (line,) = without_progress(err)
    assert line.startswith("modelzoo.py: stopped by a signal, the state is saved; to go on: python modelzoo.py ")

    state = load_state(max((tmp_path / "run/checkpoint").glob("state_*.pt")))
    assert len(state.zoo["learners"]) == 1
    training = state.method["training"]  # of the second learner, between two minibatches
    assert 0 < 10 * training["epoch"] + training["minibatch"] < 2 * 10
    python, *argv = shlex.split(line.partition("to go on: ")[2])
    assert (python, argv[0], argv[-1]) == ("python", "modelzoo.py", "--resume")
    assert "--overwrite" not in argv
    assert modelzoo.main(argv[1:]) == 0
    assert results_of(tmp_path / "run") == results_of(whole)


def stopped_while_training(tmp_path, *numbers):
    """The exit status of a run that gets signals at once, one after the other, and what it said."""
    flags = [*tiny_flags(tmp_path, per_class=4000, side=28), "--continual", "--run_dir", tmp_path / "run"]
    process = start(*flags)
    wait_for(process, (tmp_path / "run/zoo/zoo.json").exists)
    time.sleep(0.5)
    for number in numbers:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_a_scheduler_may_signal_more_than_once_while_the_state_is_saved(tmp_path):
    status, err = stopped_while_training(tmp_path, *[signal.SIGTERM] * 3, signal.SIGHUP)
    assert status == 3
    assert "the state is saved" in err
    assert any((tmp_path / "run/checkpoint").glob("state_*.pt"))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_every_signal_that_a_scheduler_may_send_saves_the_state(undisturbed, tmp_path, monkeypatch, capsys, name):
    keep = RunFolder.keep

    def keep_and_signal(*arguments):
        keep(*arguments)
        os.kill(os.getpid(), getattr(signal, name))

    monkeypatch.setattr(RunFolder, "keep", keep_and_signal)
    assert run(*undisturbed[1], "--run_dir", tmp_path / "run") == 3
    (line,) = without_progress(capsys.readouterr().err)
    assert "stopped by a signal, the state is saved" in line
    assert any((tmp_path / "run/checkpoint").glob("state_*.pt"))


def test_an_impatient_person_ends_the_run_at_once(tmp_path):
    status, _ = stopped_while_training(tmp_path, signal.SIGINT, signal.SIGINT)
    assert status in (3, -signal.SIGINT)


# ---- no room


@pytest.fixture
def small_disk(tmp_path):
    """Makes file systems of so many kilobytes and files."""
    mounted = []

    def mount(size_kb, num_files=1000):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        options = f"size={size_kb}k,nr_inodes={num_files}"
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"a small file system cannot be mounted here: {made.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that had room, and its flags."""
    folder = tmp_path_factory.mktemp("whole")
    flags = [*tiny_flags(folder), "--continual", "--tasks_per_round", "2"]
    assert run(*flags, "--run_dir", folder / "run") == 0
    return folder / "run", flags


@pytest.mark.parametrize("size_kb", [4, 12, 60, 900, 1500, 2200])
def test_a_disk_that_fills_up_costs_nothing_that_was_saved(small_disk, whole, capsys, size_kb):
    _, flags = whole
    disk = small_disk(size_kb)
    capsys.readouterr()
    assert run(*flags, "--run_dir", disk / "run", "--checkpoint_every_sec", 0) == 2
    printed = capsys.readouterr()
    (line,) = without_progress(printed.err)
    assert "No space left on device" in line
    assert str(disk / "run") in line
    num_rounds = printed.out.count("round ")
    remount(disk, "size=20m")
    assert run(*flags, "--run_dir", disk / "run", "--resume") == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if line.startswith("round ")]) <= 4 - num_rounds
    assert results_of(disk / "run") == results_of(whole[0])


@pytest.mark.parametrize("num_files", [2, 3, 4, 5, 6, 7, 8, 9, 10, 12])
def test_a_disk_that_admits_no_more_files_costs_nothing_that_was_saved(small_disk, whole, capsys, num_files):
    _, flags = whole
    disk = small_disk(20_000, num_files)
    capsys.readouterr()
    assert run(*flags, "--run_dir", disk / "run") == 2
    *warnings, line = without_progress(capsys.readouterr().err)
    assert "No space left on device" in line
    assert all("warning: " in warning and "accuracy.png: could not be drawn" in warning for warning in warnings)
    remount(disk, "nr_inodes=100")
    assert run(*flags, "--run_dir", disk / "run", "--resume") == 0
    assert results_of(disk / "run") == results_of(whole[0])


def test_a_folder_that_cannot_be_written_is_named(small_disk, whole, capsys):
    _, flags = whole
    disk = small_disk(20_000)
    assert run(*flags, "--run_dir", disk / "run", "--num_rounds", 2) == 0
    remount(disk, "ro")
    capsys.readouterr()
    for more in (
        ["--run_dir", disk / "new"],
        ["--run_dir", disk / "run", "--overwrite"],
        ["--run_dir", disk / "run", "--resume"],
    ):
        assert run(*flags, *more) == 2
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()
        assert str(disk) in line
        assert "Read-only file system" in line
    assert run(*flags, "--run_dir", disk / "run", "--resume", "--num_rounds", 2) == 0  # it has nothing left to write
    remount(disk, "rw")


# ---- a task more


def test_an_eleventh_task_gives_what_the_longer_file_gives_from_the_start(tmp_path):
    longer = [*TEN_TASKS, [0, 3, 5]]
    flags = [*tiny_flags(tmp_path, longer, per_class=1, test_per_class=2), "--continual", "--tasks_per_round", "2"]
    short = write_yaml(tmp_path / "ten.yaml", dataset="npz", root="tiny.npz", tasks=TEN_TASKS)
    assert run(*flags, "--data_config", short, "--run_dir", tmp_path / "grown") == 0
    shutil.copytree(tmp_path / "grown/zoo", tmp_path / "zoo_of_ten")
    assert run(*flags, "--run_dir", tmp_path / "grown", "--resume") == 0
    assert run(*flags, "--run_dir", tmp_path / "whole") == 0
    assert results_of(tmp_path / "grown") == results_of(tmp_path / "whole")
    for learner in (tmp_path / "zoo_of_ten").glob("learner_*.pt"):
        assert learner.read_bytes() == (tmp_path / "grown/zoo" / learner.name).read_bytes()
