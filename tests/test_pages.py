"""Pages of results: every number of a result in them is computed from the run files."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.make_runs import ROOT

SHIPPED = ("docs/results.md", "README.md")
TEMPLATES = ("results.md.j2", "readme.md.j2")


def page_texts(root):
    """The pages that the script in this copy of the project makes, by their paths, and its suites' reports."""
    code = "import json, pages; root = pages.RESULTS.parent\n"
    code += "texts = {str(path.relative_to(root)): text for path, text in pages.pages().items()}\n"
    code += "texts |= {f'results/{it}/report.md': pages.report_of(it).page() for it in pages.SUITES}\n"
    code += "print(json.dumps(texts))"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=root / "results", capture_output=True, text=True, check=True)
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def texts():
    return page_texts(ROOT)


def test_shipped_pages_are_those_that_the_run_files_give(texts):
    assert set(SHIPPED) < set(texts)
    for path, text in texts.items():
        written = (ROOT / path).read_text(encoding="utf-8")
        assert written.startswith(text) if path.endswith("report.md") else written == text, f"{path}: run make results"


def test_shipped_figures_are_there(texts):
    for path in texts:
        page = (ROOT / path).read_text(encoding="utf-8")
        for figure in re.findall(r"!\[[^]]*\]\(([^)]+\.png)\)", page):
            assert (ROOT / path).parent.joinpath(figure).read_bytes().startswith(b"\x89PNG"), figure


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_holds_no_number_of_a_result(name):
    template = (ROOT / "results" / name).read_text(encoding="utf-8")
    outside = re.sub(r"\{[{%#].*?[}%#]\}", "", template, flags=re.DOTALL)
    assert not re.findall(r"\d+\.\d\d", outside)


def test_a_digit_changed_in_a_run_file_changes_the_pages(texts, tmp_path):
    for name in ("config", "datasets", "net", "utils", "results", "docs", "README.md"):
        source, ignored = ROOT / name, shutil.ignore_patterns("__pycache__", "*.png")
        shutil.copytree(source, tmp_path / name, ignore=ignored) if source.is_dir() else shutil.copy(source, tmp_path)
    run = tmp_path / "results/single_epoch_conv/model_zoo/split_cifar100/s0/run.json"
    content = json.loads(run.read_text())
    content["accuracy"][-1][0] += 0.1
    run.write_text(json.dumps(content))
    changed = page_texts(tmp_path)
    for path in (*SHIPPED, "results/single_epoch_conv/report.md"):
        assert changed[path] != texts[path]
    assert changed["results/replay/report.md"] == texts["results/replay/report.md"]


def test_what_git_keeps_of_a_run_is_its_run_file():
    kept = subprocess.run(["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    if not kept:
        pytest.skip("this is no clone of the repository")
    inside = [path for path in kept.splitlines() if path.count("/") > 2]
    assert inside
    assert {path.rpartition("/")[2] for path in inside} == {"run.json"}
