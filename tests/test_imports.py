"""utils is the ground floor, datasets and net stand on it side by side, modelzoo.py is on top."""

import ast
import runpy
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {"utils": set(), "datasets": {"utils"}, "net": {"utils"}}
FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


def imported_packages(path):
    """Top-level names that a file imports anywhere, in functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_imports_only_from_the_floors_below(path):
    own = path.relative_to(ROOT).parts[0]
    ours = imported_packages(path) & {*MAY_IMPORT, "modelzoo", "tests", "benchmarks"}
    assert ours <= MAY_IMPORT[own] | {own}


def imported_modules(path):
    """The full names of the modules that a file imports from."""
    return {node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)}


def test_the_run_folder_knows_no_command_line_and_of_networks_only_the_saved_zoo_knows_files():
    assert "utils.command_line" not in imported_modules(ROOT / "utils/run_folder.py")
    readers = {path.name for path in (ROOT / "net").glob("*.py") if imported_modules(path) & {"pathlib", "utils.files"}}
    assert readers == {"saved_zoo.py"}


def test_settings_suites_and_reports_start_without_torch():
    modules = ["utils.config", "utils.run_folder", "utils.suite.__main__", "utils.report.__main__"]
    lines = [f"import {module}; assert 'torch' not in sys.modules, '{module}'" for module in modules]
    ended = subprocess.run([sys.executable, "-c", "\n".join(["import sys", *lines])], cwd=ROOT)
    assert ended.returncode == 0


def test_training_does_not_load_torchs_compiler():
    train = "list(tests.training(tests.network()).steps())"
    code = f"import sys, tests.test_run_net as tests; {train}; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("name", ["baselines", "datasets", "net", "utils"])
def test_another_module_in_the_place_of_an_own_one_is_told_in_a_line(name, tmp_path, monkeypatch):
    other, path = types.ModuleType(name), list(sys.path)
    monkeypatch.setitem(sys.modules, name, other)
    for file in (str(tmp_path / name / "__init__.py"), None):  # a folder without __init__.py has no file
        other.__file__ = file
        with pytest.raises(ImportError) as error:
            runpy.run_path(str(ROOT / "modelzoo.py"))
        advice = "is in the place of modelzoo's own; restart Python, and import modelzoo without it"
        assert str(error.value) == f"{other} {advice}"
    assert sys.path == path
