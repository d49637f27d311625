import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest
import torch
import yaml

from tests.make_runs import CONV, DIGITS, ROOT, continual, make_run
from utils.config import ConfigError, read_benchmark, read_command
from utils.suite import __main__ as suite
from utils.suite import on_ray
from utils.suite import run as suite_run
from utils.suite.file import read_cells, read_labelled_csv, read_suite, slug, write_benchmarks
from utils.suite.progress import duration, seconds_left
from utils.suite.run import Died, Job, Outcome, carry_out, is_locked

COLUMN = {"benchmark": str(DIGITS), "recipe": str(CONV)}
ROWS = {"Isolated": "--continual --tasks_per_round 1", "Model Zoo, b = 2": "--continual --tasks_per_round 2"}


def write_suite(path: Path, **values) -> Path:
    base = {
        "title": "Title",
        "flags": "--epochs 1 --samples 8",
        "seeds": [0],
        "rows": ROWS,
        "columns": {"Digits": COLUMN | {"task_ids": [3, 1]}},
    }
    path.write_text(yaml.safe_dump(base | values))
    return path


def cells_of(path: Path):
    return read_cells(read_suite(path), path, path.parent / "runs")


# ---------------------------------------------------------------------------------------------------------------------
# The file


SHIPPED = sorted((ROOT / "config/suite").glob("*.yaml"))
# Digests of all that a suite says, its published numbers among it, and of the files of published numbers.
GOLDEN = {
    "coarse_cifar100_competition.csv": "8b35e6358f03bffb",
    "competition.yaml": "e0ccbeec2a58e1ea",
    "demo.yaml": "dec68868bf3e4df0",
    "notebook.yaml": "8de80a43052d2499",
    "paper_multi_epoch.yaml": "8bbc2085082bcf8d",
    "replay.yaml": "96aab89234a0d0c7",
    "single_epoch_conv.yaml": "257106ea5a7b61e0",
    "split_cifar100_single_epoch_curves.csv": "24cb76be4406aefe",
    "tasks_per_round.yaml": "6a7ec7e78ae04a55",
}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_suites_are_sound(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cells_of(path)


def test_shipped_suites_and_published_numbers_are_as_they_were():
    content = {path.name: read_suite(path).model_dump_json() for path in SHIPPED}
    content |= {path.name: repr(read_labelled_csv(path)) for path in (ROOT / "config/suite").glob("*.csv")}
    digests = {name: hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for name, text in content.items()}
    assert digests == GOLDEN


def test_some_tasks_of_a_benchmark(tmp_path):
    cells = cells_of(write_suite(tmp_path / "suite.yaml"))
    assert not (tmp_path / "runs").exists()
    write_benchmarks(cells)
    reduced = read_benchmark(tmp_path / "runs/benchmarks/digits.yaml")
    assert reduced.tasks == ((6, 7), (2, 3))
    assert reduced.task_names == ("6 and 7", "2 and 3")
    for cell in cells:
        assert read_command([*cell.flags, "--seed", "0"]).settings == cell.settings


def test_tasks_without_names_keep_their_numbers(tmp_path):
    (tmp_path / "plain.yaml").write_text("dataset: digits\ntasks: [[0, 1], [2, 3], [4, 5]]\n")
    column = {"benchmark": str(tmp_path / "plain.yaml"), "recipe": str(CONV), "task_ids": [2, 0]}
    cell = cells_of(write_suite(tmp_path / "suite.yaml", columns={"C": column}))[0]
    assert cell.settings.benchmark.task_names == ("task 2", "task 0")


def test_pairs_stand_for_a_column_each_and_rows_may_be_named(tmp_path):
    columns = {"pairs": COLUMN | {"pairs_of": [0, 1, 4], "rows": ["Isolated"]}}
    cells = cells_of(write_suite(tmp_path / "suite.yaml", columns=columns))
    assert [(cell.row, cell.column, cell.group) for cell in cells] == [
        ("Isolated", "pairs 0+1", "pairs"),
        ("Isolated", "pairs 0+4", "pairs"),
        ("Isolated", "pairs 1+4", "pairs"),
    ]
    assert cells[1].settings.benchmark.tasks == ((0, 1), (8, 9))


def test_flags_come_from_suite_column_and_row_the_last_counting(tmp_path):
    columns = {"C": COLUMN | {"flags": "--samples 9"}}
    cell = cells_of(write_suite(tmp_path / "suite.yaml", columns=columns))[1]
    assert (cell.settings.epochs, cell.settings.samples, cell.settings.tasks_per_round) == (1, 9, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flags": "--epoch 1"}, "row Isolated, column Digits: unrecognized arguments: --epoch"),
        ({"flags": "--epochs 1 --seed 3"}, "--seed: expected flags that say how a zoo grows"),
        ({"flags": "--run_dir x"}, "--run_dir: expected flags"),
        ({"flags": "--samples '5"}, "expected words as on a command line"),
        ({"rows": {"A": "--tasks_per_round 3"}}, "tasks_per_round: expected at most 2"),
        ({"rows": {}}, "rows:"),
        ({"rows": {"A b": "", "a-B": ""}}, "expected names that differ"),
        ({"columns": {"C": COLUMN | {"benchmark": "nowhere.yaml"}}}, "columns.C.benchmark: nowhere.yaml"),
        ({"columns": {"C": COLUMN | {"recipe": "nowhere.yaml"}}}, "nowhere.yaml: expected a YAML file"),
        ({"columns": {"C": COLUMN | {"task_ids": [0, 5]}}}, "columns.C.task_ids: expected task ids 0..4, each once"),
        ({"columns": {"C": COLUMN | {"task_ids": [0, 0]}}}, "each once, got [0, 0]"),
        ({"columns": {"C": COLUMN | {"pairs_of": [0]}}}, "expected two or more task ids"),
        ({"columns": {"C": COLUMN | {"task_ids": [0], "pairs_of": [0, 1]}}}, "expected one of them, got both"),
        ({"columns": {"C": COLUMN | {"rows": ["Nobody"]}}}, "columns.C.rows: expected one of Isolated"),
        ({"columns": {"C": COLUMN | {"colour": 1}}}, "columns.C.colour: expected one of the keys benchmark, recipe,"),
        ({"published": [{"row": "X", "percent": {}, "source": "s"}]}, "published[0].row: expected one of"),
        ({"published": [{"row": "Isolated", "percent": {"X": 1.0}, "source": "s"}]}, "published[0].percent"),
        ({"curves": {"column": "Digits", "file": "no.csv", "source": "s"}}, "no.csv: expected a header"),
        ({"flags": "--continual true"}, "expected flags that say how a zoo grows, got the word 'true'"),
        ({"flags": "--help"}, "--help: expected flags that say how a zoo grows"),
        ({"seeds": []}, "seeds:"),
        ({"seeds": [0, 0]}, "seeds: expected each once, got 0 twice"),
        ({"title": 3}, "title:"),
        ({"columns": {"C": COLUMN | {"rows": ["Isolated", "Isolated"]}}}, "columns.C.rows: expected each once, got"),
        (
            {
                "published": [
                    {"row": "Isolated", "percent": {"Digits": percent}, "source": "s"} for percent in (1.0, 2.0)
                ]
            },
            "published: expected each once, got ('Isolated', 'average_accuracy', 'Digits') twice",
        ),
    ],
)
def test_a_mistake_is_a_line_and_status_2_before_anything_starts(values, message, tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml", **values)
    assert suite.main([str(path), "--suite_dir", str(tmp_path / "runs"), "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert str(path) in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--only", "nobody"], "--only: expected a part of a name such as 'Isolated / Digits / seed 0', got 'nobody'"),
        (["--device", "nonsense"], "--device: expected auto, cpu, cuda, cuda:<i> or mps, got 'nonsense'"),
        (["--device", "cuda:0", "--ray"], "--device: expected cuda beside --ray"),
        (["--checkpoint_every_sec", "-1"], "--checkpoint_every_sec: expected 0 or more, got -1"),
        (["--checkpoint_every_sec", "nan"], "--checkpoint_every_sec: expected 0 or more, got nan"),
        (["--jobs", "0"], "--jobs: expected 1 or more"),
        (["--jobs", "1", "--per_gpu", "1"], "--jobs, --per_gpu"),
        (["--jobs", "1", "--ray", "auto"], "--jobs: expected without an address"),
        (["--seeds", "1", "1"], "--seeds"),
        (["--colour"], "--colour"),
    ],
)
def test_a_wrong_flag_is_a_line_and_status_2(argv, message, tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    assert suite.main([str(path), "--suite_dir", str(tmp_path / "runs"), *argv]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_suite_that_is_missing(capsys):
    assert suite.main(["nowhere.yaml"]) == 2
    assert "nowhere.yaml: expected a YAML file" in capsys.readouterr().err


def test_runs_of_other_settings_are_not_taken_for_the_suites(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    cell = cells_of(path)[0]
    other = cell.settings.model_copy(update={"epochs": 7})
    make_run(cell.run_dir(0), other, continual(0.5, 0.5))
    assert suite.main([str(path), "--suite_dir", str(tmp_path / "runs"), "--device", "cpu"]) == 2
    assert "expected the suite's settings, got others for epochs" in capsys.readouterr().err


def test_runs_that_are_not_asked_for_may_have_other_settings(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    cell = cells_of(path)[0]
    make_run(cell.run_dir(0), cell.settings.model_copy(update={"epochs": 7}), continual(0.5, 0.5))
    argv = [str(path), "--suite_dir", str(tmp_path / "runs"), "--device", "cpu", "--dry_run"]
    assert suite.main([*argv, "--only", "model zoo"]) == 0
    assert suite.main([*argv, "--only", "isolated"]) == 2


def test_a_damaged_summary_does_not_stop_the_others(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    cell = cells_of(path)[0]
    make_run(cell.run_dir(0), cell.settings, continual(0.5, 0.5))
    (cell.run_dir(0) / "summary.json").write_text("{}")
    argv = [str(path), "--suite_dir", str(tmp_path / "runs"), "--device", "cpu", "--no_download"]
    assert suite.main([*argv, "--only", "isolated"]) == 0
    assert "1 runs: 1 were complete before" in capsys.readouterr().out


def test_ray_before_the_suite_file_is_understood():
    flags = suite.read_flags(["--ray", "some/suite.yaml"])
    assert (flags.suite, flags.ray) == (Path("some/suite.yaml"), "local")
    with pytest.raises(ConfigError, match=r"SUITE\.yaml: expected a suite file, got none"):
        suite.read_flags(["--ray"])


def test_dry_run_prints_commands_and_writes_nothing(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    argv = ["--suite_dir", str(tmp_path / "runs"), "--seeds", "4", "5", "--only", "isolated", "--dry_run"]
    assert suite.main([str(path), *argv, "--device", "cpu", "--threads", "3", "--no_download"]) == 0
    out = capsys.readouterr().out
    assert "# Isolated / Digits / seed 5: new" in out
    assert f"--seed 5 --run_dir {tmp_path}/runs/isolated/digits/s5 --resume --device cpu --threads 3 --no_dow" in out
    assert "# 2 runs, 0 of them complete" in out
    assert list(tmp_path.iterdir()) == [path]


def test_slots_share_out_the_gpus():
    assert suite.local_slots([], jobs=3, per_gpu=1) == [{}, {}, {}]
    devices = [slot["CUDA_VISIBLE_DEVICES"] for slot in suite.local_slots(["0", "2"], jobs=None, per_gpu=2)]
    assert devices == ["0", "2", "0", "2"]
    assert len(suite.local_slots(["0", "2"], jobs=3, per_gpu=1)) == 3


def test_slots_share_out_the_cores(monkeypatch):
    monkeypatch.setattr(suite, "num_cores", lambda: 16)
    assert len(suite.local_slots([], jobs=None, per_gpu=1)) == 16
    assert len(suite.local_slots([], jobs=None, per_gpu=1, threads=5)) == 3
    assert len(suite.local_slots([], jobs=None, per_gpu=1, threads=99)) == 1


def test_no_gpus_for_runs_on_a_cpu():
    assert suite.visible_gpus("cpu") == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_gpus_that_are_not_there_are_told_before_anything_starts(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    assert suite.main([str(path), "--suite_dir", str(tmp_path / "runs"), "--device", "cuda"]) == 2
    assert "--device: expected one that is there (no GPU is), got 'cuda'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_suite_folder_that_cannot_be_made_is_a_line(tmp_path, capsys):
    path = write_suite(tmp_path / "suite.yaml")
    (tmp_path / "file").touch()
    assert suite.main([str(path), "--suite_dir", str(tmp_path / "file" / "runs"), "--device", "cpu"]) == 2
    assert (
        f"--suite_dir: expected a folder, or a new one in a folder, got the file {tmp_path}/file"
        in capsys.readouterr().err
    )


def test_names_as_paths():
    assert slug("Model Zoo, b = 5") == "model_zoo_b_5"
    assert slug("../10 %") == "10"


# ---------------------------------------------------------------------------------------------------------------------
# Progress


def test_time_left_from_runs_of_a_kind():
    took = {("a", "x"): [10.0, 20.0], ("b", "x"): [45.0]}
    assert seconds_left(took, [(("a", "x"), 1.0), (("b", "x"), 0.5), (("c", "x"), 1.0)], 1) == 15 + 22.5 + 30
    assert seconds_left(took, [(("a", "x"), 1.0)], 4) == 15  # one run is not divided
    assert seconds_left({}, [(("a", "x"), 1.0)], 1) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "unknown"), (5.2, "5 s"), (240, "4 min"), (2 * 3600 + 1800, "2.5 h")]
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


# ---------------------------------------------------------------------------------------------------------------------
# A run, by a program that does not take seconds to begin

STAND_IN = """
import os, pathlib, signal, sys, time
import filelock
run_dir = pathlib.Path(sys.argv[sys.argv.index("--run_dir") + 1])
what = sys.argv[1]
if what == "fail":
    sys.exit("a mistake")
run_dir.mkdir(parents=True, exist_ok=True)
with filelock.FileLock(run_dir / ".lock", timeout=0):
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "wait":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
        (run_dir / "state").write_text("begun")
        time.sleep(60)
    (run_dir / "summary.json").write_text('{"elapsed_sec": 1.0}')
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(STAND_IN)
    monkeypatch.setattr(suite_run, "PROGRAM", tmp_path / "program.py")

    def job(what: str, name: str = "s0") -> Job:
        run_dir = tmp_path / "runs" / name
        return Job(f"{what} {name}", run_dir, (what, "--run_dir", str(run_dir)), num_rounds=2, kind=("a", "b"))

    return job


def wait_for(path: Path, sec: float = 60) -> None:
    end = time.monotonic() + sec
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def test_a_run_that_ends_well_is_not_run_again(stand_in):
    job = stand_in("do")
    assert carry_out(job, {}, lambda: False).status == "done"
    log = job.log.read_text()
    assert carry_out(job, {}, lambda: False).status == "done"
    assert job.log.read_text() == log


def test_a_run_that_fails_shows_the_end_of_its_log(stand_in):
    outcome = carry_out(stand_in("fail"), {}, lambda: False)
    assert (outcome.status, outcome.detail) == ("failed", "exit status 1\na mistake")


def test_a_run_that_is_killed(stand_in):
    with pytest.raises(Died, match="killed by signal 9"):
        carry_out(stand_in("die"), {}, lambda: False)


def test_a_run_that_is_to_stop_gets_the_signal_once_and_its_time(stand_in):
    job, stopping = stand_in("wait"), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(carry_out, job, {}, stopping.is_set)
        wait_for(job.run_dir / "state")
        stopping.set()
        assert future.result().status == "stopped"
    assert not is_locked(job.run_dir)


def test_a_folder_that_another_process_writes_is_waited_for(stand_in):
    job = stand_in("do")
    job.run_dir.mkdir(parents=True)
    with ThreadPoolExecutor(1) as threads:
        with filelock.FileLock(job.run_dir / ".lock"):
            future = threads.submit(carry_out, job, {}, lambda: False)
            wait_for(job.log)
            time.sleep(0.3)
            assert not future.done()
        assert future.result().status == "done"
    assert "another process is writing" in job.log.read_text()


def run_jobs(jobs, num_slots=2):
    pool = suite.LocalPool([{}] * num_slots)
    board = suite.Board(jobs, num_slots=num_slots, took={}, live=False)
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        return suite.run_all(jobs, pool, board, suite.StopSignal())
    finally:
        pool.close()
        for number, handler in signals.items():
            signal.signal(number, handler)


def test_a_failed_run_does_not_stop_the_others(stand_in, capsys):
    outcomes = run_jobs([stand_in("do", "s0"), stand_in("fail", "s1"), stand_in("die", "s2"), stand_in("do", "s3")])
    assert sorted(outcome.status for outcome in outcomes) == ["done", "done", "failed", "failed"]
    out = capsys.readouterr().out
    assert "         a mistake" in out
    assert "killed by signal 9; the suite, started again, goes on with it" in out
    assert "2 done, 2 failed" in out


# ---------------------------------------------------------------------------------------------------------------------
# Real runs


def start(path: Path, *flags: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "utils.suite", str(path), "--jobs", "1", "--device", "cpu", *flags],
        cwd=path.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(path: Path, *flags: str) -> tuple[int, str, str]:
    process = start(path, *flags)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def records(folder: Path) -> dict[str, list]:
    """Each run's rounds, without the seconds."""
    found = {}
    for path in sorted(folder.rglob("rounds.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[str(path.relative_to(folder))] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    return found


def begun(log: Path) -> int:
    return log.read_text().count("$ python modelzoo.py")


def test_a_suite_end_to_end(tmp_path):
    """One run is done, another fails; the second time the first is not run again."""
    missing = {"benchmark": str(ROOT / "config/dataset/split_mnist.yaml"), "recipe": str(CONV)}
    columns = {"Digits": COLUMN | {"task_ids": [0]}, "Missing": missing}
    path = write_suite(tmp_path / "try.yaml", columns=columns, rows={"Isolated": "--continual --tasks_per_round 1"})
    status, out, err = finish(path, "--no_download", "--data_dir", str(tmp_path / "nowhere"))
    assert (status, err) == (1, "")
    assert "failed   Isolated / Missing / seed 0" in out
    assert "exit status 2" in out
    assert "2 runs: 0 were complete before, 1 done, 1 failed" in out
    folder = tmp_path / "runs/try/isolated"
    assert (folder / "digits/s0/summary.json").exists()
    assert begun(folder / "digits/s0.log") == 1
    status, out, _ = finish(path, "--only", "digits")
    assert status == 0
    assert "1 runs: 1 were complete before, 0 done, 0 failed" in out
    assert begun(folder / "digits/s0.log") == 1


def write_long_suite(folder: Path) -> Path:
    return write_suite(folder / "try.yaml", flags="--epochs 6 --samples 100", columns={"Digits": COLUMN})


@pytest.fixture
def long_suite(tmp_path):
    """Two runs of some seconds."""
    return write_long_suite(tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Their records where nothing is killed."""
    path = write_long_suite(tmp_path_factory.mktemp("undisturbed"))
    status, _, err = finish(path)
    assert (status, err) == (0, "")
    return records(path.parent / "runs/try")


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(word) for word in found.split()]


@pytest.mark.slow
def test_killed_and_started_again_every_run_is_done_once_with_the_same_numbers(long_suite, undisturbed):
    """First a worker is killed, then the suite; its runs go on, and the suite that comes after waits for them."""
    folder = long_suite.parent / "runs/try"
    process = start(long_suite, "--checkpoint_every_sec", "0.5")
    wait_for(folder / "isolated/digits/s0/rounds.jsonl")
    os.kill(children_of(process.pid)[0], signal.SIGKILL)
    wait_for(folder / "model_zoo_b_2/digits/s0/rounds.jsonl")
    process.kill()
    out, _ = process.communicate()
    assert "killed by signal 9; the suite, started again, goes on with it" in out
    status, out, err = finish(long_suite)
    assert (status, err) == (0, "")
    assert "2 runs: 0 were complete before, 2 done, 0 failed" in out
    assert records(folder) == undisturbed
    assert begun(folder / "isolated/digits/s0.log") == 2  # the second time it went on
    assert begun(folder / "model_zoo_b_2/digits/s0.log") == 1  # waited for


@pytest.mark.slow
def test_interrupted_it_saves_the_states_and_prints_the_command_to_go_on(long_suite, undisturbed):
    process = start(long_suite)
    wait_for(long_suite.parent / "runs/try/isolated/digits/s0/rounds.jsonl")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (3, "")
    assert "2 stopped" in out
    assert f"to go on: python -m utils.suite {long_suite} --jobs 1 --device cpu" in out
    assert (long_suite.parent / "runs/try/isolated/digits/s0/checkpoint").exists()
    assert finish(long_suite)[0] == 0
    assert records(long_suite.parent / "runs/try") == undisturbed


def process_of(run_dir: Path) -> int:
    """The process of a run whose folder has an absolute path."""
    found = subprocess.run(["pgrep", "-f", f"modelzoo.py .*{run_dir} "], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


def parent_of(pid: int) -> int:
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_by_ray_what_is_killed_is_done_again(long_suite, undisturbed):
    """Of one run the process is killed, of the other Ray's worker."""
    pytest.importorskip("ray", reason="Ray is an extra: pip install -r requirements-ray.txt")
    folder = long_suite.parent / "by_ray"
    process = start(long_suite, "--ray", "--suite_dir", str(folder))
    first, second = folder / "isolated/digits/s0", folder / "model_zoo_b_2/digits/s0"
    wait_for(first / "rounds.jsonl")
    os.kill(process_of(first), signal.SIGKILL)
    wait_for(second / "rounds.jsonl")
    os.kill(parent_of(process_of(second)), signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert "2 runs: 0 were complete before, 2 done, 0 failed" in out
    assert begun(first.with_name("s0.log")) == 2
    assert records(folder) == undisturbed


@pytest.mark.slow
def test_by_ray_interrupted_it_saves_the_states(long_suite):
    pytest.importorskip("ray", reason="Ray is an extra: pip install -r requirements-ray.txt")
    folder = long_suite.parent / "by_ray"
    process = start(long_suite, "--ray", "--suite_dir", str(folder))
    wait_for(folder / "isolated/digits/s0/rounds.jsonl")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3, out
    assert "stopped by a signal" in (folder / "isolated/digits/s0.log").read_text()


def test_a_cluster_that_does_not_answer_is_a_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"--ray: expected a cluster at '{address}', got none"):
            on_ray.check_reachable(address)
        taken.listen()
        for reachable in (address, f"ray://{address}", "auto", "local"):
            on_ray.check_reachable(reachable)


def test_what_was_wrong_on_another_machine_is_told_without_its_traceback(stand_in):
    class OfRay(Exception):
        cause = Died("killed by signal 9")

    future: Future = Future()
    future.set_exception(OfRay("pages of it"))
    assert suite._outcome(future, stand_in("die"), False) == Outcome("failed", "killed by signal 9")


def test_ray_that_is_missing_is_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"requirements-ray\.txt"):
        on_ray.RayPool("local", num_slots=1, threads=1, device="cpu", per_gpu=1)
