import shutil
import signal

import hypothesis
import pytest
import torch

from tests.small_reports import make_run_folders
from tests.small_runs import run, tiny_flags
from utils.plot import to_image

# In a shell's background SIGINT is ignored, under nohup SIGHUP, by the processes that tests start too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The same examples each time: a change that breaks nothing is not to fail by chance. `--hypothesis-profile default`
# searches on.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _process_left_as_found():
    """The program takes over signals and sets the number of threads; a test within this process undoes it."""
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    torch.set_num_threads(1)
    yield
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture
def every_image():
    """For tests that look at the images of figures: each is made."""


IMAGES = {}


@pytest.fixture(autouse=True)
def _first_image_stands_for_all(request, monkeypatch):
    """To turn its figure into an image takes most of a tiny run's time, so only the first one of a kind is made.

    All figures are drawn. The runs that a module shares have images of their own, and ``every_image`` asks for them.
    """

    def first_image(figure, kind="png"):
        if kind not in IMAGES:
            IMAGES[kind] = to_image(figure, kind)
        return IMAGES[kind]

    if "every_image" not in request.fixturenames:
        monkeypatch.setattr("utils.plot.to_image", first_image)
        monkeypatch.setattr("utils.report.report.to_image", first_image)


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


@pytest.fixture
def folders(tmp_path):
    """A folder with the runs of a report."""
    make_run_folders(tmp_path)
    return tmp_path
