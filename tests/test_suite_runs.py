"""A suite's runs: carried out, failed, killed, interrupted, spread by Ray."""

import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest

from tests.make_runs import COLUMN, CONV, ROOT, write_suite
from tests.small_runs import settings, write_benchmark
from utils.errors import StopSignal, UserError
from utils.run_folder import is_locked
from utils.suite import __main__ as suite
from utils.suite import on_ray
from utils.suite import run as suite_run
from utils.suite.command import Command, read_command
from utils.suite.file import Run
from utils.suite.run import run_command

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
    (run_dir / "run.json").write_text("{}")
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "program.py").write_text(STAND_IN)
    monkeypatch.setattr(suite_run, "PROGRAM", tmp_path / "program.py")

    def planned(what: str, seed: int = 0) -> Run:
        (tmp_path / "runs").mkdir(exist_ok=True)
        return Run(what, "B", tmp_path / "runs", settings(), (what,)).with_seed(seed)

    return planned


def wait_for(path: Path, sec: float = 60) -> None:
    end = time.monotonic() + sec
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)


def test_a_run_that_is_to_stop_gets_the_signal_once_and_its_time(stand_in):
    job, stopping = stand_in("wait"), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(run_command, job, {}, stopping.is_set)
        wait_for(job.run_dir / "state")
        stopping.set()
        assert future.result().status == "stopped"
    assert not is_locked(job.run_dir)


def run_all(runs, num_slots=2):
    pool = suite_run.LocalPool([{}] * num_slots)
    try:
        stop = StopSignal()
        stop.defer()
        return suite.run_all(runs, pool, stop)
    finally:
        pool.close()


def test_a_failed_run_does_not_stop_the_others(stand_in, capsys):
    count = run_all([stand_in("do", 0), stand_in("fail", 1), stand_in("die", 2), stand_in("do", 3)])
    assert count == {"done": 2, "failed": 2}
    lines = capsys.readouterr().out.splitlines()
    assert {"begins   do / B / seed 3", "         exit status 1", "         a mistake"} <= set(lines)
    assert "         Died: killed by signal 9; the suite, started again, goes on with it" in lines
    assert any(line.startswith("failed   fail / B / seed 1   [") for line in lines)
    assert lines[-1].endswith("[4 of 4]") or "         log: " in lines[-1]


def test_a_folder_that_another_process_writes_is_waited_for_while_other_runs_go_on(stand_in, monkeypatch, capsys):
    taken, other = stand_in("do", 0), stand_in("do", 1)
    monkeypatch.setattr(suite_run, "POLL_SEC", 0.01)
    taken.run_dir.mkdir(parents=True)
    lock = taken.run_dir / ".lock"

    def hold():
        with filelock.FileLock(lock):
            lock.write_text("77\nnode7\n")
            held.set()
            wait_for(other.run_dir / "run.json")
            assert not (taken.run_dir / "run.json").exists()

    held = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        holding = threads.submit(hold)
        held.wait()
        assert run_all([taken, other], num_slots=1) == {"done": 2}
        holding.result()
    (waits,) = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(("begins", "done"))]
    assert waits.startswith("waits    do / B / seed 0, for process 77 on node7, since ")
    assert waits.endswith(f"; if it has died, delete {lock}")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_a_signal_to_the_suite_stops_its_runs(stand_in, name):
    job = stand_in("wait")

    def send():
        wait_for(job.run_dir / "state")
        os.kill(os.getpid(), getattr(signal, name))

    with ThreadPoolExecutor(1) as threads:
        threads.submit(send)
        assert run_all([job]) == {"stopped": 1}


# ---------------------------------------------------------------------------------------------------------------------
# Real runs


def start(path: Path, *flags: str) -> subprocess.Popen:
    """A suite, started in the folder of its file, where other packages have the names of ours."""
    for name in ("utils", "datasets"):
        (path.parent / name).mkdir(exist_ok=True)
        (path.parent / name / "__init__.py").touch()
    return subprocess.Popen(
        [sys.executable, str(ROOT / "utils/suite"), str(path), "--jobs", "1", "--device", "cpu", *flags],
        cwd=path.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
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
    return log.read_text().count(f"$ python {ROOT}/modelzoo.py")


def test_a_suite_end_to_end(tmp_path):
    """One run is done, another fails; the second time the first is not run again, and its data are not needed."""
    here = {"benchmark": str(write_benchmark(tmp_path, per_class=8)), "recipe": str(CONV), "flags": "--task_ids 0"}
    columns = {"Here": here, "Damaged": here | {"flags": "--task_ids 0 --model nonsense"}}
    path = write_suite(tmp_path / "try.yaml", columns=columns, rows={"Isolated": "--continual --tasks_per_round 1"})
    status, out, err = finish(path, "--no_download")
    assert (status, err) == (1, "")
    assert "failed   Isolated / Damaged / seed 0" in out
    assert "exit status 2" in out
    assert "model: expected one of" in out
    assert "2 runs: 0 were complete before, 1 done, 1 failed" in out
    assert f"the table: python {ROOT}/utils/report --suite {path}\n" in out
    folder = tmp_path / "runs/try/isolated"
    assert (folder / "here/s0/run.json").exists()
    assert begun(folder / "here/s0.log") == 1
    assert "--no_download" in (folder / "here/s0.log").read_text()
    (tmp_path / "tiny.npz").unlink()
    status, out, _ = finish(path, "--only", "here")
    assert status == 0
    assert "1 runs: 1 were complete before, 0 done, 0 failed" in out
    assert begun(folder / "here/s0.log") == 1


def test_data_that_are_missing_are_told_before_any_run_begins(tmp_path):
    names = ("split_mnist", "split_miniimagenet", "split_digits")
    columns = {name: {"benchmark": str(ROOT / f"config/dataset/{name}.yaml"), "recipe": str(CONV)} for name in names}
    path = write_suite(tmp_path / "try.yaml", columns=columns, seeds=[0, 1])
    status, out, err = finish(path, "--no_download", "--data_dir", str(tmp_path / "data"))
    assert (status, out) == (2, "")
    first, second, last = err.splitlines()
    assert first.startswith("modelzoo.py: mnist: expected ")
    assert second.startswith(f"modelzoo.py: {tmp_path}/data/mini_imagenet/mini-imagenet-cache-train.pkl: expected ")
    assert re.fullmatch(r"utils.suite: no run was started, .*: \S+split_mnist.yaml, \S+split_miniimagenet.yaml", last)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("utils", "datasets")] == ["try.yaml"]


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
    assert f"to go on: python {ROOT}/utils/suite {long_suite} --jobs 1 --device cpu" in out
    assert (long_suite.parent / "runs/try/isolated/digits/s0/checkpoint").exists()
    assert finish(long_suite)[0] == 0
    assert records(long_suite.parent / "runs/try") == undisturbed


def needs_ray():
    """Skip the test if Ray, an extra, is missing; in CI that is an error."""
    if os.environ.get("CI"):
        importlib.import_module("ray")
    pytest.importorskip("ray", reason="Ray is an extra: pip install -r requirements-ray.txt")


def process_of(run_dir: Path) -> int:
    """The process of a run whose folder has an absolute path."""
    found = subprocess.run(["pgrep", "-f", f"modelzoo.py .*{run_dir} "], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


def parent_of(pid: int) -> int:
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_by_ray_what_is_killed_is_done_again(long_suite, undisturbed):
    """Of one run the process is killed, of the other Ray's worker."""
    needs_ray()
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
    needs_ray()
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
        with pytest.raises(UserError, match=f"--ray: there is no cluster at '{address}'"):
            on_ray.check_reachable(address)
        taken.listen()
        for reachable in (address, f"ray://{address}", "auto", "local"):
            on_ray.check_reachable(reachable)


def test_a_cluster_may_have_an_address_of_ip_version_6():
    with socket.socket(socket.AF_INET6) as listening:
        try:
            listening.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        listening.listen()
        on_ray.check_reachable(f"[::1]:{listening.getsockname()[1]}")


@pytest.mark.slow
def test_a_token_that_ray_misses_is_a_line(tmp_path, monkeypatch):
    needs_ray()
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    path = write_suite(tmp_path / "try.yaml")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = subprocess.run(
            [sys.executable, "-m", "utils.suite", path, "--ray", f"127.0.0.1:{listening.getsockname()[1]}"],
            cwd=ROOT,
            env={**os.environ, "RAY_AUTH_MODE": "token", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "if it wants a token, set RAY_AUTH_MODE=token" in ended.stderr


class StandInForRay(types.ModuleType):
    """What a pool does with Ray; ``init`` notes its arguments."""

    exceptions = types.SimpleNamespace(RayError=RuntimeError)

    def init(self, address=None, **options):
        self.joined = {"address": address, **options}

    def nodes(self):
        return [{"Resources": {"CPU": 4}}]

    def remote(self, **_):
        return lambda function: function

    def shutdown(self):
        pass


@pytest.mark.parametrize("address", ["local", "auto", "127.0.0.1:6379"])
def test_ray_alone_is_a_local_cluster_whatever_its_environment_says(monkeypatch, address):
    ray = StandInForRay("ray")
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # Ray reads it, and a file, for no address and for auto
    monkeypatch.setattr(on_ray, "check_reachable", lambda address: None)
    words = ["suite.yaml", "--ray", *([] if address == "local" else [address])]
    on_ray.RayPool(read_command(words), num_cpus=2, threads=1).close()
    assert ray.joined["address"] == address
    assert ("num_cpus" in ray.joined) == (address == "local")


def test_ray_that_is_missing_is_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"requirements-ray\.txt"):
        on_ray.RayPool(Command(suite=Path("x.yaml"), ray="local"), num_cpus=1, threads=1)
