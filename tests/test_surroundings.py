"""What surrounds the program: its screen, names in any script, Python's own switches, a compiler."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.make_data import make_image_folder
from tests.make_runs import CONV, write_suite
from tests.small_runs import HERE, ROOT, run, tiny_flags, write_recipe, write_yaml

CONTINUAL = ("--continual", "--num_rounds", "1")
PYTHON = (sys.executable,)
MODELZOO = (*PYTHON, ROOT / "modelzoo.py", *HERE)
SUITE, REPORT = (*PYTHON, "-m", "utils.suite"), (*PYTHON, "-m", "utils.report")
NOT_UTF8 = os.fsdecode(b"caf\xe9")
any_bytes = pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes any bytes in a file's name")


def by_shell(command, redirection="", **environment):
    """The command's exit status, stdout and stderr; by default Python buffers what it prints."""
    given = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    ended = subprocess.run(
        ["bash", "-c", f'"$@" {redirection}', "bash", *map(str, command)],
        cwd=ROOT,
        env={**given, **environment},
        capture_output=True,
    )
    return ended.returncode, ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace")


# ---- the screen

GONE = [">&-", "2>&-", "<&- >&- 2>&-", "> >(true)", "2> >(true)"]
FULL = ["> /dev/full", "2> /dev/full"] if sys.platform == "linux" else []


@pytest.mark.parametrize("redirection", GONE + FULL)
def test_a_screen_that_takes_nothing_changes_no_exit_status(redirection, tmp_path):
    path = write_suite(tmp_path / "suite.yaml")
    commands = {(*SUITE, "--help"): 0, (*SUITE, path, "--dry_run", "--device", "cpu"): 0, (*SUITE, "nowhere"): 2}
    for command, expected in commands.items():
        status, out, err = by_shell(command, redirection)
        assert status == expected, (command, err)
        assert "Exception" not in err
        assert "utils.suite:" not in out  # a mistake is for stderr alone


def test_images_are_decoded_behind_a_closed_screen(tmp_path):
    make_image_folder(tmp_path / "pets", ("cat", "dog"), sizes=((24, 24),))
    values = {"dataset": "image_folder", "root": "pets", "test_fraction": 0.4, "tasks": [["cat", "dog"]]}
    files = write_yaml(tmp_path / "pets.yaml", **values, task_names=["$x_1$ é 鱼"]), write_recipe(tmp_path)
    flags = ["--data_config", files[0], "--hp_config", files[1], "--epochs", "1", "--data_dir", tmp_path / "data"]
    assert by_shell([*MODELZOO, *flags, "--run_dir", tmp_path / "run"], "<&- >&- 2>&-")[0] == 0
    assert (tmp_path / "run/run.json").exists()
    assert (tmp_path / "run/accuracy.png").exists()


@pytest.mark.parametrize(("encoding", "programs"), [("ascii", [SUITE, REPORT]), ("cp1252", [SUITE])])
def test_letters_that_a_screen_lacks_are_spelled_out(encoding, programs, tmp_path):
    path = write_suite(tmp_path / "suite.yaml", rows={"猫": "--continual"})
    status, out, err = by_shell([*SUITE, path, "--dry_run", "--device", "cpu"], PYTHONIOENCODING=encoding)
    assert (status, err) == (0, "")
    assert out.startswith("# \\u732b / Digits / seed 0: new\n")
    for program in programs:
        status, out, err = by_shell([*program, "猫"], PYTHONIOENCODING=encoding)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "\\u732b: " in err


# ---- names that are not UTF-8


@any_bytes
def test_paths_that_are_not_utf8_are_paths(finished, tmp_path, capsys):
    run_dir, image = tmp_path / NOT_UTF8, tmp_path / f"{NOT_UTF8}.png"
    make_image_folder(tmp_path / "pets", ("cat",), sizes=((22, 22),))
    shutil.copy(next((tmp_path / "pets").rglob("*.png")), image)
    for more in ((), ("--resume",)):
        assert run(*finished[1], "--run_dir", run_dir, *more) == 0
    capsys.readouterr()
    assert run("--predict", run_dir, "--task", "0", image) == 0
    assert "caf\\udce9.png" in capsys.readouterr().out
    columns = {"Here": {"benchmark": str(finished[0].parent / "tiny.yaml"), "recipe": str(CONV)}}
    path = write_suite(tmp_path / "suite.yaml", flags="--epochs 1 --num_rounds 1", columns=columns)
    argv = [*SUITE, path, "--device", "cpu", "--only", "isolated", "--suite_dir", tmp_path / f"{NOT_UTF8}s"]
    assert by_shell(argv)[::2] == (0, "")


@any_bytes
def test_a_class_whose_name_is_not_utf8_is_a_class(tmp_path):
    make_image_folder(tmp_path / "pets", ("cat", NOT_UTF8), sizes=((24, 24),))
    values = {"dataset": "image_folder", "root": "pets", "test_fraction": 0.4, "tasks": [[0, 1]]}
    files = write_yaml(tmp_path / "pets.yaml", **values), write_recipe(tmp_path)
    flags = ["--data_config", files[0], "--hp_config", files[1], "--epochs", 1, "--data_dir", tmp_path / "data"]
    assert run(*flags, "--run_dir", tmp_path / "run") == 0
    assert run("--data_dir", tmp_path / "data", "--evaluate", tmp_path / "run") == 0


@any_bytes
@pytest.mark.parametrize("dry", [[], ["--dry_run"]], ids=["run", "dry run"])
def test_a_name_that_config_yaml_cannot_hold_is_a_mistake(dry, tmp_path, capsys):
    (tmp_path / NOT_UTF8).mkdir()
    flags = tiny_flags(tmp_path / NOT_UTF8)
    assert run(*flags, "--run_dir", tmp_path / "run", *dry) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected names in UTF-8, got" in line
    assert not (tmp_path / "run").exists()


# ---- Python's own switches


def test_a_warning_that_is_to_be_an_error_is_a_line_and_without_its_folder_the_program_finds_its_own_files(tmp_path):
    make_image_folder(tmp_path / "pets", ("cat", "dog"), sizes=((24, 24),))
    (tmp_path / "pets/cat/notes.txt").write_text("")
    values = {"dataset": "image_folder", "root": "pets", "test_fraction": 0.4, "tasks": [["cat", "dog"]]}
    files = write_yaml(tmp_path / "pets.yaml", **values), write_recipe(tmp_path)
    flags = ["--data_config", files[0], "--hp_config", files[1], "--epochs", "1", "--data_dir", tmp_path / "data"]
    command = [*PYTHON, "-I", "-W", "error", *MODELZOO[1:], *flags, "--run_dir", tmp_path / "run"]
    status, out, err = by_shell(command)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "notes.txt" in err
    assert not (tmp_path / "run").exists()


# ---- a compiler


@pytest.mark.skipif(sys.platform == "win32", reason="another compiler is looked for in another way")
def test_without_a_compiler_compile_is_a_line_before_a_folder_is_made(finished, tmp_path):
    bash = shutil.which("bash")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/bash").symlink_to(bash)
    command = [*MODELZOO, *finished[1], "--compile", "--run_dir", tmp_path / "run"]
    environment = {"PATH": str(tmp_path / "bin"), "CXX": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "made")}
    status, out, err = by_shell(command, **environment)
    assert (status, out) == (2, "")
    assert re.search(r"^modelzoo\.py: --compile: torch cannot compile for cpu here \(.*\)\n\Z", err, re.MULTILINE)
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
