"""Training one learner.

Letters: B examples of a minibatch, K classes.
"""

import contextlib
import ctypes
import math
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

import threadpoolctl
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.optim.sgd import sgd

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class DivergedError(Exception):
    """The training loss is not a finite number any more."""


class DeviceError(Exception):
    """A device that is not there."""


class Epochs(Protocol):
    """Minibatches (images, heads, labels) that are shuffled anew each epoch, and can begin in the middle of one."""

    def __len__(self) -> int:
        """Minibatches in an epoch."""

    def epoch(self, epoch: int, first: int = 0) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
        """Those of an epoch, from the ``first`` on."""


class SGD:
    """Stochastic gradient descent: torch's own arithmetic, and the momentum that it keeps.

    ``torch.optim.SGD`` calls the same function, but loads torch's compiler as it is made: 1.6 s and 0.15 GB of every
    run. To a GradScaler this is an optimizer that unscales within its step: it reads ``param_groups`` and
    ``_step_supports_amp_scaling``, and sets ``grad_scale`` and ``found_inf`` for the time of a step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, momentum: float, nesterov: bool, l2_reg: float):
        self.parameters: list[Tensor] = list(parameters)
        # Zeros, not None: torch would leave what it makes unset if the first step of all is skipped, as under fp16.
        self.velocities: list[Tensor | None] = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.momentum = momentum
        self.nesterov = nesterov
        self.l2_reg = l2_reg
        self.fused = self.parameters[0].device.type in ("cpu", "cuda")
        self.param_groups = [{"params": self.parameters}]
        self._step_supports_amp_scaling = self.fused

    @torch.no_grad()
    def step(self, *, lr: float) -> None:
        """Move every parameter against its gradient, with Nesterov's look ahead if so set."""
        sgd(
            self.parameters,
            [cast(Tensor, parameter.grad) for parameter in self.parameters],
            self.velocities,
            fused=self.fused,
            grad_scale=getattr(self, "grad_scale", None),
            found_inf=getattr(self, "found_inf", None),
            lr=lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.l2_reg,
            dampening=0.0,
            maximize=False,
        )


class Training:
    """The training of one learner, which can be left after any minibatch and taken up again.

    Attributes:
        epoch: epochs done.
        minibatch: minibatches done of the epoch in hand.
    """

    def __init__(
        self,
        network: nn.Module,
        minibatches: Epochs,
        *,
        num_epochs: int,
        lr: float,
        momentum: float,
        nesterov: bool,
        l2_reg: float,
        schedule: str,
        precision: str,
        dropout_seed: int,
        name: str,
        compiled: bool = False,
    ):
        """Prepare it; ``steps`` does it.

        Args:
            network: scores ``[B, K]`` from (images, heads), on the device where the minibatches are.
            minibatches: the learner's examples.
            num_epochs: passes over them.
            lr: peak learning rate.
            momentum, nesterov, l2_reg: of the SGD.
            schedule: ``cosine`` to 0, stepped every minibatch, or ``constant``.
            precision: ``fp32``, ``bf16``, ``fp16`` (with loss scaling), or ``auto``: fp16 on a GPU, fp32 elsewhere.
            dropout_seed: of torch's global generator, which dropout draws from; it is set here.
            name: of the learner, for messages.
            compiled: whether the network is compiled first (on a GPU into CUDA graphs, which spare the launches).
        """
        self.network = network.train()
        self.forward = torch.compile(network, mode="reduce-overhead") if compiled else network
        self.minibatches = minibatches
        self.num_epochs = num_epochs
        self.name = name
        self.device = next(network.parameters()).device
        self.lr = lr
        self.schedule = schedule
        self.optimizer = SGD(network.parameters(), momentum=momentum, nesterov=nesterov, l2_reg=l2_reg)
        self.autocast = _autocast(self.device, precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=_dtype(self.device, precision) == torch.float16)
        self.loss_sum = torch.zeros((), device=self.device)
        self.epoch = 0
        self.minibatch = 0
        torch.manual_seed(dropout_seed)

    def __len__(self) -> int:
        """Minibatches in all."""
        return self.num_epochs * len(self.minibatches)

    @property
    def num_done(self) -> int:
        """Minibatches done."""
        return self.epoch * len(self.minibatches) + self.minibatch

    @property
    def rate(self) -> float:
        """Learning rate of the minibatch in hand."""
        if self.schedule == "constant":
            return self.lr
        return self.lr * (1 + math.cos(math.pi * self.num_done / len(self))) / 2

    def steps(self) -> Iterator[int]:
        """Train on, a minibatch at a time; gives the number of minibatches done, after each.

        Nothing in a step waits for the device: the loss is looked at once an epoch, and before the state is saved.

        Raises:
            DivergedError: the loss is not finite; the message names learner and epoch.
        """
        while self.epoch < self.num_epochs:
            for images, heads, labels in self.minibatches.epoch(self.epoch, first=self.minibatch):
                self._step(images, heads, labels)
                self.minibatch += 1
                yield self.num_done
            self.check_finite()
            self.epoch += 1
            self.minibatch = 0

    def _step(self, images: Tensor, heads: Tensor, labels: Tensor) -> None:
        with self.autocast:
            loss = F.cross_entropy(self.forward(images, heads), labels)
        self.network.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer, lr=self.rate)  # type: ignore[arg-type]  # see SGD
        self.scaler.update()
        self.loss_sum += loss.detach()

    def check_finite(self) -> None:
        """Raise DivergedError if the sum of the losses so far is not finite."""
        if not torch.isfinite(self.loss_sum):
            raise DivergedError(
                f"{self.name}, epoch {self.epoch}: the training loss is not finite any more; what was saved before is "
                "kept; try an --hp_config file with a smaller lr"
            )

    def state_dict(self) -> dict[str, Any]:
        """All that ``load_state_dict`` needs to go on from here, bit for bit. Raises DivergedError."""
        self.check_finite()
        return {
            "network": self.network.state_dict(),
            "velocities": self.optimizer.velocities,
            "scaler": self.scaler.state_dict(),
            "loss_sum": self.loss_sum,
            "epoch": self.epoch,
            "minibatch": self.minibatch,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken."""
        self.network.load_state_dict(state["network"])
        self.optimizer.velocities = [velocity.to(self.device) for velocity in state["velocities"]]
        self.scaler.load_state_dict(state["scaler"])
        self.loss_sum = state["loss_sum"].to(self.device)
        self.epoch, self.minibatch = state["epoch"], state["minibatch"]
        torch.set_rng_state(state["random"].cpu())
        if self.device.type == "cuda" and state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"].cpu(), self.device)


def _dtype(device: torch.device, precision: str) -> torch.dtype:
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return DTYPES[precision]


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    dtype = _dtype(device, precision)
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU if there is one. Raises DeviceError: it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"--device: expected auto, cpu, cuda, cuda:<i> or mps, got {name!r}") from None
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.mps.is_available())}
    if (device.index or 0) >= there.get(device.type, 0):
        listed = ", ".join(f"{count} {kind}" for kind, count in there.items())
        raise DeviceError(f"--device: expected one that is there ({listed}), got {name!r}")
    return device


def describe_device(device: torch.device) -> str:
    """The device by name, e.g. ``cuda (NVIDIA H100)`` or ``cpu (2 threads)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed: torch has a class of its own for it on a GPU only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and re.search("can't allocate memory|out of memory", str(error)) is not None
    )


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given, before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def set_up_process(num_threads: int | None) -> None:
    """Settle how this process computes, before any work: its threads, its memory, the same bits each time.

    Args:
        num_threads: of every pool; None leaves it to the libraries, which take all cores.

    On a GPU the algorithms chosen are those that give the same bits each time. On glibc, freed memory is kept for
    the next minibatch: returned to the system and mapped anew each time, as is the default for large blocks, it costs
    a sixth of the time of a training step.
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
