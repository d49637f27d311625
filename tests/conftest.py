import signal

import hypothesis
import pytest
import torch

# The same examples each time: a change that breaks nothing is not to fail by chance. `--hypothesis-profile default`
# searches on.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _process_left_as_found():
    """The program takes over signals and sets the number of threads; a test within this process undoes it."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    torch.set_num_threads(1)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
