"""The device and the process: which device there is, how many threads, how memory is kept, how long a step takes."""

import contextlib
import ctypes
import itertools
import re
import statistics
import sys
import time
from collections.abc import Iterable

import threadpoolctl
import torch

from utils.errors import UserError, short

STEPS_TIMED = 20
STEPS_TO_WARM_UP = 3


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU if there is one. Raises UserError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    if re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        with contextlib.suppress(RuntimeError, AssertionError):  # AssertionError: torch was built without it
            device = torch.empty(0, device=name).device
            if device.type == "cuda":
                torch.cuda.set_device(device)  # whose generator a state keeps
            return device
    raise UserError(f"--device: expected auto, cpu, cuda, cuda:<i> or mps, one that is there, got {short(name)}")


def describe_device(device: torch.device) -> str:
    """The device in words, e.g. ``cuda (NVIDIA H100)`` or ``cpu (2 threads)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: torch has a class of its own for it on a GPU only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and re.search("can't allocate memory|out of memory", str(error)) is not None
    )


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all its work, before a clock is read."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def seconds_each(steps: Iterable[object], device: torch.device) -> float:
    """Median seconds of a step, of a few steps on a device, after some to warm up."""
    clock = [time.perf_counter()]
    for _ in itertools.islice(steps, STEPS_TO_WARM_UP + STEPS_TIMED):
        synchronise(device)
        clock.append(time.perf_counter())
    seconds = [after - before for before, after in itertools.pairwise(clock)]
    return statistics.median(seconds[STEPS_TO_WARM_UP:] or seconds)


def set_up_process(num_threads: int | None) -> None:
    """Settle how this process computes, before any work: its threads, its memory, the same bits each time.

    On a GPU the algorithms are those that give the same bits each time. On glibc freed memory is kept for the next
    minibatch: by default large blocks are returned to the system and mapped anew each time, which costs a sixth of the
    time of a training step.

    Args:
        num_threads: The threads of every pool; None leaves it to the libraries, which take all cores.
    """
    torch.backends.cudnn.deterministic = True
    if num_threads is not None:
        threadpoolctl.threadpool_limits(num_threads)  # numpy's pools too
        torch.set_num_threads(num_threads)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mmap_threshold, trim_threshold = -3, -1
            mallopt(mmap_threshold, 2**30)
            mallopt(trim_threshold, 2**31 - 1)
