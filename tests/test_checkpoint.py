"""Files whole or not at all, states that are refused when damaged, and none that runs code."""

import errno
import hashlib
import io
import json
import math
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
import torch

from net.saved_zoo import SavedZoo
from tests.small_runs import (
    GONE,
    ROOT,
    change,
    num_rounds_done,
    results_of,
    run,
    start,
    tiny_flags,
    wait_for,
    without_progress,
)
from utils.checkpoint import DIGEST_BYTES, State, load_state, newest_state, save_next_state, save_state
from utils.errors import UserError
from utils.files import append, write_json, write_whole
from utils.run_folder import read_env

STATE = State(method={"tensor": torch.arange(5.0), "training": None}, zoo={"model": "conv"}, rounds_bytes=7)


class Evil:
    """A pickle of this makes a folder when it is opened by a careless reader."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def evil_bytes(path):
    buffer = io.BytesIO()
    torch.save({"rounds_bytes": 0, "method": Evil(path)}, buffer)
    return buffer.getvalue()


def with_digest(content):
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest() + content


# ---- files


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "file"
    for content in (b"old", b"new"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


REWRITE_FOR_EVER = """
import sys
from pathlib import Path
from utils.files import write_whole
for i in range(10**9):
    write_whole(Path(sys.argv[1]), bytes([i % 256]) * 300_000)
"""


def test_a_file_is_whole_at_whatever_instant_its_writer_is_killed(tmp_path):
    path = tmp_path / "file"
    writer = subprocess.Popen([sys.executable, "-c", REWRITE_FOR_EVER, path], cwd=ROOT)
    while not path.exists():
        time.sleep(0.01)
    for _ in range(200):
        content = path.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1
    writer.kill()
    assert writer.wait() == -signal.SIGKILL
    content = path.read_bytes()
    assert len(content) == 300_000
    assert len(set(content)) == 1


def test_a_file_that_cannot_be_written_is_named_and_the_old_one_stays(tmp_path):
    path = tmp_path / "taken"
    path.mkdir()
    (path / "inside").write_text("old")
    with pytest.raises(UserError, match=r"taken: could not be written \(.*\); what was saved before is kept"):
        write_whole(path, b"new")
    assert (path / "inside").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def refuse_to_sync(monkeypatch, number, *, folders):
    """Let the file system answer so to fsync of folders, or of files."""
    sync = os.fsync

    def answer(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == folders:
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", answer)


@pytest.mark.parametrize(
    ("number", "folders"),
    [(number, True) for number in (errno.EINVAL, errno.EIO, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EBADF)]
    + [(number, False) for number in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)],
)
def test_a_file_system_that_cannot_sync_is_no_error(tmp_path, monkeypatch, number, folders):
    refuse_to_sync(monkeypatch, number, folders=folders)
    write_whole(tmp_path / "file", b"new")
    append(tmp_path / "file", b" and more")
    assert (tmp_path / "file").read_bytes() == b"new and more"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_file_that_did_not_reach_the_disk_is_an_error(tmp_path, monkeypatch, number):
    (tmp_path / "file").write_bytes(b"old")
    refuse_to_sync(monkeypatch, number, folders=False)
    for write in (write_whole, append):
        with pytest.raises(UserError, match="file: could not be written"):
            write(tmp_path / "file", b"")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"accuracy": math.nan})
    assert not list(tmp_path.iterdir())


# ---- states


def test_a_state_comes_back_as_it_was(tmp_path):
    save_state(tmp_path / "state.pt", STATE)
    state = load_state(tmp_path / "state.pt")
    assert torch.equal(state.method["tensor"], STATE.method["tensor"])
    assert (state.method["training"], state.zoo, state.rounds_bytes) == (None, {"model": "conv"}, 7)


@pytest.mark.parametrize("tenth", range(10))
def test_a_state_cut_off_anywhere_is_refused_by_name(tmp_path, tenth):
    path = tmp_path / "state.pt"
    save_state(path, STATE)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])
    with pytest.raises(UserError, match=r"state\.pt: damaged"):
        load_state(path)


@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_state_with_one_changed_bit_is_refused_by_name(tmp_path, place):
    path = tmp_path / "state.pt"
    save_state(path, STATE)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"state\.pt: damaged"):
        load_state(path)


def test_a_state_that_would_run_code_is_refused_and_not_run(tmp_path):
    path = tmp_path / "state.pt"
    path.write_bytes(with_digest(evil_bytes(tmp_path / "made")))
    with pytest.raises(UserError, match=r"state\.pt: could not be read"):
        load_state(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x80\x02]."], ids=["empty", "text", "pickle"])
def test_a_state_with_a_right_digest_over_nonsense_is_refused(tmp_path, content):
    path = tmp_path / "state.pt"
    path.write_bytes(with_digest(content))
    with pytest.raises(UserError, match=r"state\.pt: "):
        load_state(path)


def test_two_states_are_kept_and_the_newest_whole_one_is_found(tmp_path):
    folder = tmp_path / "checkpoint"
    assert newest_state(tmp_path) == (State(), [])
    for number in range(4):
        save_next_state(tmp_path, State(rounds_bytes=number))
    assert len(list(folder.iterdir())) == 2
    assert newest_state(tmp_path) == (State(rounds_bytes=3), [])

    newest = max(folder.iterdir())
    newest.write_bytes(newest.read_bytes()[:-1])
    state, (warning,) = newest_state(tmp_path)
    assert state == State(rounds_bytes=2)
    assert newest.name in warning
    assert "going on from the state before it" in warning

    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no other state is left; --overwrite starts anew"):
        newest_state(tmp_path)


def test_states_are_in_the_order_of_their_numbers_however_long(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    for number in (99_999, 999_999):
        save_state(tmp_path / f"checkpoint/state_{number:06d}.pt", State(rounds_bytes=number))
    for number in (1_000_000, 1_000_001):
        save_next_state(tmp_path, State(rounds_bytes=number))
        assert newest_state(tmp_path) == (State(rounds_bytes=number), [])


# ---- a run whose files were damaged


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run, one that was killed in the middle of round 2, and the flags of both."""
    folder = tmp_path_factory.mktemp("runs")
    flags = [*tiny_flags(folder, per_class=12, recipe={"batch": 4}), "--continual", "--tasks_per_round", "2"]
    assert run(*flags, "--run_dir", folder / "finished") == 0
    killed = folder / "killed"
    process = start(*flags, "--run_dir", killed, "--checkpoint_every_sec", "0")
    wait_for(process, lambda: num_rounds_done(killed) == 2)
    time.sleep(0.1)
    process.kill()
    process.communicate()
    return folder / "finished", killed, flags


@pytest.fixture
def finished(runs, tmp_path):
    """A copy of the finished run, to be damaged."""
    return shutil.copytree(runs[0], tmp_path / "finished")


@pytest.fixture
def killed(runs, tmp_path):
    """A copy of the killed run, to be damaged, and the flags to go on with it."""
    run_dir = shutil.copytree(runs[1], tmp_path / "killed")
    return run_dir, [*runs[2], "--run_dir", run_dir, "--resume"]


def cut_off(path, tenth):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * tenth // 10])


@pytest.mark.parametrize("tenth", range(10))
def test_a_run_whose_newest_state_is_cut_off_goes_on_from_the_one_before(runs, killed, capsys, tenth):
    run_dir, flags = killed
    newest = max((run_dir / "checkpoint").glob("state_*.pt"))
    cut_off(newest, tenth)
    assert run(*flags) == 0
    (warning,) = without_progress(capsys.readouterr().err)
    assert warning.startswith("warning: ")
    assert f"{newest.name}: damaged" in warning
    assert results_of(run_dir) == results_of(runs[0])


def test_a_run_with_no_whole_state_is_refused_in_a_line_and_none_runs_code(killed, tmp_path, capsys):
    run_dir, flags = killed
    for content in (b"", with_digest(evil_bytes(tmp_path / "made"))):
        for path in (run_dir / "checkpoint").iterdir():
            path.write_bytes(content)
        assert run(*flags) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "no other state is left; --overwrite starts anew" in line
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("tenth", range(10))
@pytest.mark.parametrize(
    "name",
    ["config.yaml", "env.json", "rounds.jsonl", "accuracy.csv", "run.json", "zoo/state.pt", "zoo/zoo.json"],
)
def test_a_finished_run_with_a_file_cut_off_gives_its_results_or_says_which_is_damaged(
    runs, finished, capsys, name, tenth
):
    command = [*runs[2], "--run_dir", finished, "--resume"]
    assert run(*command) == 0
    expected = capsys.readouterr().out
    cut_off(finished / name, tenth)
    status = run(*command)
    printed = capsys.readouterr()
    if name in ("config.yaml", "run.json"):
        assert status == 2
        assert printed.err.count("\n") == 1
        assert name in printed.err
    else:
        assert (status, printed) == (0, (expected, ""))


@pytest.mark.parametrize("tenth", range(10))
@pytest.mark.parametrize("name", ["zoo.json", "learner_001.pt"])
def test_a_zoo_with_a_file_cut_off_is_refused_by_name(finished, name, tenth):
    cut_off(finished / "zoo" / name, tenth)
    with pytest.raises(UserError, match=rf"{name}: expected .*(missing|damaged)") as error:
        SavedZoo.load(finished)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"learners": [{"file": "x"}]}', "\x00"])
def test_a_zoo_that_describes_itself_wrongly_is_refused_by_name(finished, content):
    (finished / "zoo/zoo.json").write_text(content)
    with pytest.raises(UserError, match=r"zoo\.json: "):
        SavedZoo.load(finished)


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (("learners", 1, "votes"), {}),
        (("learners", 1, "votes"), []),
        (("learners", 1, "votes", "1"), "one"),
        (("learners", 1, "tasks"), [0, 3]),
        (("tasks", 0, "name"), GONE),
        (("tasks", 0, "task_id"), 1),
        (("tasks", 0, "classes"), 2),
        (("tasks", 3), GONE),
    ],
    ids=lambda value: "gone" if value is GONE else str(value),
)
def test_a_zoo_whose_description_lacks_a_part_is_refused_by_name(finished, keys, to):
    change(finished / "zoo/zoo.json", *keys, to=to)
    with pytest.raises(UserError, match=r"zoo\.json: ") as error:
        SavedZoo.load(finished)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{}", "5", "null", "[1]", ""])
def test_an_environment_that_is_none_counts_as_missing(tmp_path, content):
    (tmp_path / "env.json").write_text(content)
    assert read_env(tmp_path) == []


def test_an_evaluation_of_a_zoo_with_another_number_of_tasks_says_so(finished, capsys):
    more = {"task_id": 4, "name": "more", "classes": ["a", "b"], "fingerprint": ""}
    zoo = json.loads((finished / "zoo/zoo.json").read_text())
    change(finished / "zoo/zoo.json", "tasks", to=[*zoo["tasks"], more])
    assert run("--evaluate", finished) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{finished}: expected 4 tasks in zoo/zoo.json, got 5")


def test_a_learner_that_would_run_code_is_refused_and_not_run(finished, tmp_path):
    for content in (evil_bytes(tmp_path / "made"), pickle.dumps(Evil(tmp_path / "made"), protocol=2)):
        (finished / "zoo/learner_000.pt").write_bytes(content)
        with pytest.raises(UserError, match=r"learner_000\.pt: expected a learner's weights"):
            SavedZoo.load(finished)
        assert not (tmp_path / "made").exists()


def test_a_learner_that_is_missing_is_named(killed, capsys):
    run_dir, flags = killed
    (run_dir / "zoo/learner_000.pt").unlink()
    assert run(*flags) == 2
    assert "learner_000.pt: missing" in capsys.readouterr().err
