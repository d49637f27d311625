"""datasets, net and utils are independent; only modelzoo.py joins them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("datasets", "net", "utils")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


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
def test_leaf_imports_no_sibling(path):
    own = path.relative_to(ROOT).parts[0]
    assert not imported_packages(path) & ({*PACKAGES, "modelzoo", "tests", "benchmarks"} - {own})


def test_the_program_joins_all_three():
    assert set(PACKAGES) <= imported_packages(ROOT / "modelzoo.py")


def test_settings_are_read_without_torch():
    code = "import sys, utils.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_training_does_not_load_torchs_compiler():
    train = "list(tests.training(tests.network()).steps())"
    code = f"import sys, tests.test_run_net as tests; {train}; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
