"""``--compile``: what torch compiles for each learner, and that a training goes on in the middle of an epoch."""

import copy
import functools

import pytest
import torch
import torch.nn.functional as F

from net.dropout import Dropout
from net.multihead import MultiHead
from tests.small_runs import run, settings, tiny_flags
from tests.test_run_net import RECIPE, Batches, weights_digest
from utils.run_net import Training


class TinyBackbone(torch.nn.Module):
    """As little as has a convolution and dropout."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3, stride=3)
        self.dropout = Dropout(0.3)

    def forward(self, images):
        return self.dropout(F.relu(self.conv(images))).mean(dim=(2, 3))


def compiled_training(state=None, *, other_draws=0):
    torch.manual_seed(0)
    network = MultiHead(TinyBackbone(), 4, [2, 3])
    torch.manual_seed(other_draws)
    recipe = settings(recipe=RECIPE).recipe
    return Training(network, Batches(), recipe=recipe, num_epochs=2, seed=7, name="x", compiled=True, state=state)


@pytest.fixture
def count_graphs(monkeypatch):
    """Graphs, counted in place of being compiled: the first size of each."""
    graphs = []

    def backend(graph, inputs, **_):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    return graphs


def test_each_learner_is_compiled_at_most_twice_over_six_rounds(count_graphs, tmp_path, monkeypatch):
    monkeypatch.setattr("modelzoo.set_up_process", lambda options: torch.device("cpu"))  # no C++ compiler is needed
    tasks = [(2 * task, 2 * task + 1) for task in range(6)]
    flags = tiny_flags(tmp_path, tasks, recipe={"batch": 16})  # epochs of 12 to 60 examples
    assert run("--continual", "--compile", *flags, "--run_dir", tmp_path / "run") == 0
    assert 6 <= len(count_graphs) <= 12


@pytest.mark.filterwarnings("default:--compile")
def test_a_compiler_that_gives_up_is_noted_in_the_log(count_graphs, tmp_path, monkeypatch):
    monkeypatch.setattr("modelzoo.set_up_process", lambda options: torch.device("cpu"))
    flags = tiny_flags(tmp_path, recipe={"batch": 8})  # 12 examples: two sizes of minibatches
    with torch._dynamo.config.patch(recompile_limit=1):
        assert run("--continual", "--compile", *flags, "--run_dir", tmp_path / "run") == 0
    assert "warning: --compile: torch._dynamo hit config.recompile_limit (1)" in (tmp_path / "run/log.txt").read_text()


@pytest.mark.slow
def test_a_compiled_training_goes_on_within_an_epoch_to_the_bit():
    whole = compiled_training()
    states = [copy.deepcopy(whole.state_dict()) for _ in whole.steps()]
    for num_done in (1, 4, 5, 7, 9):
        again = compiled_training(states[num_done - 1], other_draws=num_done)
        assert list(again.steps()) == list(range(num_done + 1, 11))
        assert weights_digest(again.network) == weights_digest(whole.network)
