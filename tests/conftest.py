import shutil
import signal

import hypothesis
import pytest
import torch

from tests.small_runs import run, tiny_flags

# In a shell's background SIGINT is ignored, by the processes that tests start too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time: a change that breaks nothing is not to fail by chance. `--hypothesis-profile default`
# searches on.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _process_left_as_found():
    """The program takes over signals and sets the number of threads; a test within this process undoes it."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    torch.set_num_threads(1)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _grow(folder, *more):
    flags = [*tiny_flags(folder), *more]
    assert run(*flags, "--run_dir", folder / "run") == 0
    return folder / "run", flags


@pytest.fixture(scope="module")
def finished(request, tmp_path_factory):
    """A finished continual run, by the module's own flags, and all flags that made it."""
    return _grow(tmp_path_factory.mktemp("finished"), *request.module.CONTINUAL)


@pytest.fixture(scope="module")
def multi_task(tmp_path_factory):
    """A finished multi-task run, three tasks a round, and the flags that made it."""
    return _grow(tmp_path_factory.mktemp("multi_task"), "--num_rounds", "3", "--tasks_per_round", "3")


@pytest.fixture
def run_dir(finished, tmp_path):
    """A copy of the finished run, to be changed."""
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"
