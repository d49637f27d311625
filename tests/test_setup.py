"""What sets the program up on a fresh machine says one thing in one place."""

import os
import re
import subprocess
import tomllib

import pytest
import yaml

from tests.small_runs import ROOT

REQUIREMENTS = [
    line.partition("#")[0].strip()
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if line.partition("#")[0].strip()
]


def test_every_requirement_is_pinned():
    for line in REQUIREMENTS:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line), line


def test_the_libraries_of_the_design_are_required():
    names = {line.partition("==")[0].lower() for line in REQUIREMENTS}
    assert names >= set("torch torchvision numpy scipy pyyaml pydantic tqdm matplotlib scikit-learn".split())
    assert {"torch==2.14.1", "torchvision==0.29.1"} <= set(REQUIREMENTS)
    assert not names & {"ray", "pytest", "ruff", "mypy"}


def test_the_development_requirements_contain_the_others():
    lines = (ROOT / "requirements-dev.txt").read_text().split("\n")
    assert "-r requirements.txt" in lines
    for tool in ("pytest", "hypothesis", "ruff", "mypy"):
        assert any(line.startswith(f"{tool}==") for line in lines), tool


def test_conda_takes_its_packages_from_the_requirements():
    env = yaml.safe_load((ROOT / "env.yaml").read_text())
    *conda, pip = env["dependencies"]
    assert pip == {"pip": ["-r requirements.txt"]}
    assert conda == ["python=3.11", "pip"]
    assert env["name"] == "modelzoo"


def test_pyproject_holds_tools_only_and_makes_warnings_errors():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project) == {"tool"}
    assert project["tool"]["pytest"]["ini_options"]["filterwarnings"][0] == "error"
    assert project["tool"]["pytest"]["ini_options"]["pythonpath"] == ["."]
    assert project["tool"]["ruff"]["line-length"] == 120
    assert project["tool"]["mypy"]["disallow_untyped_defs"] is True


@pytest.mark.parametrize("target", ["setup", "demo", "test", "check"])
def test_make_has_the_target_and_it_begins_with_the_environment(target):
    command = ["make", "--no-print-directory", "--dry-run", "--always-make", target]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}  # of an outer make
    planned = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert re.match(r"\S+ -m venv \.venv\n", planned)
    assert planned.count("pip install") == 1
    assert ("requirements-dev.txt" in planned) == (target in ("test", "check"))
    if target == "demo":
        assert "modelzoo.py --continual" in planned
        assert "split_digits.yaml" in planned
    if target in ("test", "check"):
        assert "-m pytest" in planned
    if target == "check":
        assert all(tool in planned for tool in ("ruff format", "ruff check", "mypy"))


def test_the_machines_check_can_be_run():
    path = ROOT / ".ci/run"
    assert path.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", path]).returncode == 0


def test_what_is_made_here_is_ignored():
    ignored = (ROOT / ".gitignore").read_text().split()
    assert {"/data", "/runs", "/.venv"} <= set(ignored)


def test_the_licence_is_mits():
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
