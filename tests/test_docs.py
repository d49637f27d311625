"""What the pages in ``docs/`` show is taken out of them and run."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import modelzoo
from tests.small_runs import ROOT, num_rounds_done, rounds_of, tiny_flags, wait_for

PROGRAM = ("modelzoo.py", "baselines.py", "config", "datasets", "net", "utils")


def blocks(page, language):
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)


def commands(page):
    """The words after ``modelzoo.py`` of each command that stands on a line of its own."""
    lines = re.findall(r"^    python modelzoo\.py (.*)$", (ROOT / "docs" / page).read_text(), re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the program with all diffs of the page, in which all its commands were run, and a few beside them."""
    copy = tmp_path_factory.mktemp("extended")
    for name in PROGRAM:
        source, ignored = ROOT / name, shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, copy / name, ignore=ignored) if source.is_dir() else shutil.copy(source, copy)
    for diff in blocks("extending.md", "diff"):
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(copy.parent)}
        subprocess.run(["git", "apply", "-"], cwd=copy, env=environment, input=diff, text=True, check=True)
    *_, setting = shown = commands("extending.md")
    run_dir = "runs/split_digits-conv-continual-b2-e1-n16-sharpness2-s100"
    again = ["--sharpness", "3", "--resume", "--run_dir", run_dir]
    argvs = [*shown, [*setting, "--sharpness", "0", "--run_dir", "runs/uniform"], [*setting, *again]]
    program = (
        "import json, modelzoo, sys; from utils.command_line import build_parser; from utils.suite.file import FLAGS\n"
        "print(build_parser().format_help(), FLAGS)\n"
        "print([modelzoo.main(argv) for argv in json.load(sys.stdin)])"
    )
    options = ["--threads", "1", "--device", "cpu", "--no_download"]
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=copy,
        input=json.dumps([[*argv, *options] for argv in argvs]),
        capture_output=True,
        text=True,
        check=True,
    )
    return copy, ended


def test_the_diffs_apply_and_their_commands_run(extended):
    _, ended = extended
    assert len(blocks("extending.md", "diff")) == 6
    assert ended.stdout.splitlines()[-1] == "[0, 0, 0, 0, 0, 2]", ended.stderr
    assert ended.stdout.count("accuracy of the worst task ") == 5


def test_the_runs_have_the_names_on_the_page(extended):
    folder, _ = extended
    named = re.findall(r"`(runs/[^`]+)`", (ROOT / "docs/extending.md").read_text())
    assert len(named) == 2
    for run_dir in named:
        assert (folder / run_dir / "run.json").exists()


def test_the_new_setting_is_a_flag_kept_compared_and_at_work(extended):
    folder, ended = extended
    assert "exponent of the boosting weights" in ended.stdout
    assert "'--sharpness'" in ended.stdout  # a suite takes it
    run = folder / "runs/split_digits-conv-continual-b2-e1-n16-sharpness2-s100"
    assert yaml.safe_load((run / "config.yaml").read_text())["sharpness"] == 2.0
    assert "sharpness 3.0 (the run has 2.0)" in ended.stderr
    assert "sharpness 3.0 (the run has 2.0)" in (ROOT / "docs/extending.md").read_text()
    assert {weight for record in rounds_of(folder / "runs/uniform") for weight in record["weights"].values()} == {1.0}
    assert min(rounds_of(run)[-1]["weights"].values()) < 1 < max(rounds_of(run)[-1]["weights"].values())


def test_the_page_for_python_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)
    first, *others = blocks("library.md", "python")
    names = {}
    exec(compile(first, "library.md", "exec"), names)
    assert not (tmp_path / "runs").exists()
    (command,) = commands("library.md")
    assert modelzoo.main([*command, "--threads", "1", "--device", "cpu"]) == 0
    for block in others:
        exec(compile(block, "library.md", "exec"), names)
    assert (names["saved"] - names["probabilities"]).abs().max() < 1e-6
    assert len(names["rounds"]) == 5
    assert "6 and 7 tensor(" in capsys.readouterr().out


@pytest.fixture
def cluster(tmp_path):
    """A project's folder with the page's job script, and a ``scontrol`` that notes what it is told."""
    for name in ("modelzoo.py", "config"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (script,) = blocks("cluster.md", "bash")
    (tmp_path / "modelzoo.sh").write_text(script)
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(tmp_path / "queued"))}\n')
    scontrol.chmod(0o755)
    job = {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "1"}
    environment = {**os.environ, **job, "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    flags = tiny_flags(tmp_path, per_class=30)

    def start():
        command = ["bash", "modelzoo.sh", "--continual", *flags, "--run_dir", "run"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)

    return tmp_path, start


def test_a_slurm_job_saves_its_state_queues_itself_again_and_goes_on(cluster):
    folder, start = cluster
    job = start()
    wait_for(job, lambda: num_rounds_done(folder / "run") >= 1)
    os.kill(job.pid, signal.SIGTERM)  # to the shell alone, as Slurm does
    _, err = job.communicate()
    assert job.returncode == 3, err
    assert (folder / "queued").read_text() == "requeue 77_2\n"
    assert list(folder.glob("run/checkpoint/state_*.pt"))
    assert not (folder / "run/run.json").exists()

    job = start()
    out, err = job.communicate()
    assert job.returncode == 0, err
    assert "average accuracy" in out
    assert yaml.safe_load((folder / "run/config.yaml").read_text())["seed"] == 2
    assert (folder / "queued").read_text() == "requeue 77_2\n"


def test_every_page_is_linked_and_every_link_leads_somewhere():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    links = {
        (page.parent / link).resolve()
        for page in pages
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    }
    assert all(link.exists() for link in links), sorted(link for link in links if not link.exists())
    assert {page for page in pages if page.name != "README.md"} <= links


def test_the_citation_names_the_software_and_the_paper():
    citation = yaml.safe_load(Path(ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what version 1.2.0 requires
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= paper.keys()
    assert [author["family-names"] for author in paper["authors"]] == ["Ramesh", "Chaudhari"]
    assert "2106.03027" in paper["url"]
    assert "2106.03027" in (ROOT / "README.md").read_text()
