import os
import runpy
import struct
import subprocess
import sys

import matplotlib
import numpy as np
import pytest

from tests.make_runs import continual
from tests.small_runs import ROOT
from utils.plot import draw_accuracy, spread_out, to_image

NAMES = ("a", "b", "c")
R = np.array(continual(0.5, 0.6, 0.7))


def accuracy_figure(*values, **options):
    return to_image(draw_accuracy(*values, **options))


def size(png: bytes) -> tuple[int, int]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_evolution_in_both_modes():
    plain = accuracy_figure(R, NAMES, continual=True)
    assert size(plain) == (1170, 585)
    assert size(accuracy_figure(R[-1:].repeat(2, axis=0), NAMES, continual=False)) == (1170, 585)
    for accuracy in ([[0.5]], [[0.5, np.nan, np.nan]], [[0.5, 0.5, 0.5]], R[:2]):
        size(accuracy_figure(np.array(accuracy), NAMES[: len(accuracy[0])], continual=True))


def test_evolution_shows_isolated_tasks_as_crosses():
    assert accuracy_figure(R, NAMES, continual=True) != accuracy_figure(
        R, NAMES, continual=True, isolated=np.array([0.5, 0.5, 0.5])
    )


def test_names_are_text_whatever_letters_they_have():
    plain = accuracy_figure(R, NAMES, continual=True, title="title")
    names = ("cost in $", "$x^{$ of $", "\u4e2d\u6587 \U0001f600")
    assert accuracy_figure(R, names, continual=True, title="$\\bad{$") != plain


def test_the_users_own_style_changes_nothing():
    plain = accuracy_figure(R, NAMES, continual=True)
    with matplotlib.rc_context({"axes.facecolor": "black", "figure.dpi": 33, "font.size": 30}):
        assert accuracy_figure(R, NAMES, continual=True) == plain


AFTERWARDS = """
import os
from utils.plot import frame, to_image
to_image(frame(3, 3, "x", "y", "title")[0])
import matplotlib
print(os.environ["MPLBACKEND"], matplotlib.get_backend(auto_select=False))
"""


@pytest.mark.parametrize(
    ("chosen", "backend"), [("module://notebook.inline", "module://notebook.inline"), ("no", None)]
)
def test_the_users_own_backend_stays_and_one_that_does_not_exist_stops_nothing(chosen, backend):
    command, environment = [sys.executable, "-c", AFTERWARDS], {**os.environ, "MPLBACKEND": chosen}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == (f"{chosen} {backend}\n", "")


def test_a_backend_that_was_chosen_before_stays(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "svg")
    with matplotlib.rc_context():
        matplotlib.rcParams["backend"] = "pdf"
        runpy.run_path(str(ROOT / "utils/plot.py"))
        assert (os.environ["MPLBACKEND"], matplotlib.get_backend()) == ("svg", "pdf")


@pytest.mark.parametrize(
    ("heights", "places"),
    [
        ([0.5, 0.1], [0.5, 0.1]),  # apart already
        ([0.5, 0.5], [0.45, 0.55]),
        ([1.0, 1.0, 0.0], [0.9, 1.0, 0.0]),  # pushed down from the upper edge
        ([-0.2, 0.0], [0.0, 0.1]),
        ([0.3], [0.3]),
        ([0.5] * 21, [place / 20 for place in range(21)]),  # too many for the gap
    ],
)
def test_names_are_spread_out(heights, places):
    np.testing.assert_allclose(spread_out(np.array(heights), gap=0.1), places, atol=1e-12)
