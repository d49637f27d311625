"""The device: which one there is, its precisions, threads and memory, and how long a step on it takes."""

import contextlib
import ctypes
import itertools
import platform
import re
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import threadpoolctl
import torch

from utils import program
from utils.config import Options
from utils.errors import UserError, in_one_line, short

STEPS_TIMED = 20
STEPS_TO_WARM_UP = 3


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU if there is one. Raises UserError if it is not available."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"
    reason = ""
    if re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        try:
            device = torch.empty(0, device=name).device
            if device.type == "cuda":
                torch.cuda.set_device(device)
            return device
        except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without it
            reason = f" ({in_one_line(error)})"
    raise UserError(
        f"--device: expected auto, cpu, cuda, cuda:<i> or mps, one that is there, got {short(name)}{reason}"
    )


def check_compiler(device: torch.device) -> None:
    """Compile something small, before a run begins. Raises UserError if torch cannot compile on this machine."""
    try:
        torch.compile(torch.neg)(torch.zeros(1, device=device))
    except Exception as error:  # compiling runs other people's programs
        reason = str(error).partition("\n")[0]
        raise UserError(f"--compile: torch cannot compile for {device.type} here ({reason})") from error


def describe_device(device: torch.device) -> str:
    """The device in words, e.g. ``cuda (NVIDIA H100)`` or ``cpu (AMD EPYC, AVX2)``; equal ones have the same words."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({_cpu_name()}, {torch.backends.cpu.get_cpu_capability()})"
    return device.type


def _cpu_name() -> str:
    with contextlib.suppress(OSError):  # only Linux has the file, and it does not name every CPU
        if named := re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return named[1]
    return platform.processor() or platform.machine()


def describe_invocation(command: str, device: torch.device, precision: str, *, compiled: bool) -> dict[str, Any]:
    """An entry of ``env.json``: the command, versions and device of this process; ``precision`` is the recipe's."""
    return {
        "command": command,
        "commit": program.commit(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": describe_device(device),
        "threads": torch.get_num_threads(),
        "precision": resolve_precision(device, precision),
        "compiled": compiled,
    }


def resolve_precision(device: torch.device, precision: str) -> str:
    """What a precision means on a device: ``auto`` is fp16 on CUDA, else fp32, which ``tf32`` is too without CUDA."""
    if device.type == "cuda":
        return "fp16" if precision == "auto" else precision
    return "fp32" if precision in ("auto", "tf32") else precision


@contextlib.contextmanager
def allow_tf32(allowed: bool) -> Iterator[None]:
    """Let CUDA compute float32 convolutions and matrix products in TF32 (10 bits after the point), or not.

    Torch's default is TF32 in convolutions. With or without it, cuDNN's algorithms are deterministic.
    """
    if not torch.cuda.is_initialized():
        yield
        return
    product = torch.backends.cuda.matmul
    before = product.allow_tf32
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=allowed):
        product.allow_tf32 = allowed
        try:
            yield
        finally:
            product.allow_tf32 = before


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed. Torch has a class of its own for it, but does not always raise that."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # torch on a CPU; CUDA, MPS; on Windows; cuBLAS and cuDNN
    words = "can't allocate memory|out of memory|not enough memory|ALLOC(ATION)?_FAILED"
    return isinstance(error, RuntimeError) and re.search(words, str(error)) is not None


def seconds_each(steps: Iterable[object], device: torch.device) -> float:
    """Median seconds of a step, of a few steps on a device, after some to warm up."""
    clock = [time.perf_counter()]
    for _ in itertools.islice(steps, STEPS_TO_WARM_UP + STEPS_TIMED):
        if device.type != "cpu":
            torch.accelerator.synchronize(device)  # wait until it has done all its work
        clock.append(time.perf_counter())
    seconds = [after - before for before, after in itertools.pairwise(clock)]
    return statistics.median(seconds[STEPS_TO_WARM_UP:] or seconds)


def set_up_process(options: Options) -> torch.device:
    """Set up the device, threads and memory of this process, before any work.

    With glibc, freed memory is kept for the next minibatch: by default large blocks are returned to the system and
    mapped anew each time, which costs a sixth of a training step's time.

    Raises:
        UserError: The device is not available, or ``--compile`` is given and torch cannot compile for it.
    """
    if options.threads is not None:  # else the libraries take all cores
        threadpoolctl.threadpool_limits(options.threads)  # numpy's pools too
        torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    if options.compile:
        check_compiler(device)
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):  # musl has none
        mmap_threshold, trim_threshold = -3, -1
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, 2**31 - 1)
    return device
