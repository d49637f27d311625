import signal

import pytest
import torch


@pytest.fixture(autouse=True)
def _process_left_as_found():
    """The program takes over signals and sets the number of threads; a test within this process undoes it."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    torch.set_num_threads(1)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
