"""Training one learner.

Letters: B examples of a minibatch, H x W x C pixels, K classes.
"""

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.optim.sgd import sgd

from utils.config import Recipe
from utils.device import allow_tf32, resolve_precision
from utils.errors import UserError
from utils.seeding import OwnRandom

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Network = TypeVar("Network", bound=nn.Module)


class Minibatch(NamedTuple):
    """Training examples.

    Attributes:
        images: uint8 ``[B, H, W, C]``, augmented.
        heads: The head that classifies each image, int64 ``[B]``.
        labels: The label that it should give, int64 ``[B]``.
        rows: The row of each example in the data set's images, int64 ``[B]``: which examples these are.
        places: The position of each example among those that the minibatch is drawn from, int64 ``[B]``.
    """

    images: Tensor
    heads: Tensor
    labels: Tensor
    rows: Tensor
    places: Tensor


class Examples(Protocol):
    """A learner's training examples, in minibatches."""

    def __len__(self) -> int:
        """How many minibatches an epoch has."""

    def epoch(self, epoch: int, first: int = 0) -> Iterable[Minibatch]:
        """The minibatches of an epoch, from the ``first`` on."""


def diverged(name: str, epoch: int) -> UserError:
    """The error for a learner whose loss, weights or predictions are not finite any more."""
    problem = f"{name}, epoch {epoch}: the training loss is not finite any more"
    return UserError(f"{problem}; what was saved before is kept; try a smaller --lr")


class SGD:
    """Stochastic gradient descent: torch's own arithmetic, and the momentum that it keeps.

    ``torch.optim.SGD`` calls the same function, but it loads torch's compiler when it is made, which costs every run
    more than a second. To a GradScaler this class is an optimizer that unscales within its step: the scaler reads
    ``param_groups`` and ``_step_supports_amp_scaling``, and sets ``grad_scale`` and ``found_inf`` during a step.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], recipe: Recipe):
        self.parameters: list[Tensor] = list(parameters)
        # Zeros, not None: under fp16 the first step of all may be skipped, and torch would then leave memory unset.
        self.velocities: list[Tensor | None] = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.recipe = recipe
        self.fused = self.parameters[0].device.type in ("cpu", "cuda")
        self.param_groups = [{"params": self.parameters}]
        self._step_supports_amp_scaling = self.fused

    @torch.no_grad()
    def step(self, *, lr: float) -> None:
        """Move every parameter against its gradient."""
        sgd(
            self.parameters,
            [cast(Tensor, parameter.grad) for parameter in self.parameters],
            self.velocities,
            fused=self.fused,
            grad_scale=getattr(self, "grad_scale", None),
            found_inf=getattr(self, "found_inf", None),
            lr=lr,
            momentum=self.recipe.momentum,
            nesterov=self.recipe.nesterov,
            weight_decay=self.recipe.l2_reg,
            dampening=0.0,
            maximize=False,
        )


def cross_entropy(training: "Training[Any]", batch: Minibatch) -> Tensor:
    """The mean cross-entropy of a minibatch, each example under its own head, a scalar."""
    return F.cross_entropy(training.forward(batch.images, batch.heads), batch.labels)


class _AsWarning(logging.Handler):
    """Turns what a library logs into a warning, which the program notes in ``log.txt``."""

    def emit(self, record: logging.LogRecord) -> None:
        warnings.warn(f"--compile: {record.getMessage()}".partition("\n")[0], stacklevel=2)


_AS_WARNING = _AsWarning(logging.WARNING)


def compile_afresh(network: nn.Module) -> Callable[..., Any]:
    """The network, compiled when it is called: on a GPU into CUDA graphs, which save kernel launches.

    What torch compiled before is forgotten, since it compiles only a few versions of the same code, and all learners
    share theirs. Each size of a minibatch has a graph of its own, chosen without measuring times, so that a training
    that is resumed computes the same. If torch stops compiling, there is a warning.
    """
    torch.compiler.reset()
    logging.getLogger("torch._dynamo").addHandler(_AS_WARNING)  # the same handler is added once
    return torch.compile(network, dynamic=False, options={"triton.cudagraphs": True, "deterministic": True})


@dataclass(eq=False)
class Training(Generic[Network]):
    """The training of one learner, which can be stopped after any minibatch and resumed; ``steps`` does it.

    Attributes:
        network: A module from (images, heads) to scores ``[B, K]``, on the same device as the minibatches; ``forward``
            is the same, compiled if it is to be. For a class that an image's head lacks the score is minus infinity.
        examples: The minibatches of each epoch.
        recipe: How the network is trained.
        num_epochs: The number of epochs.
        seed: The seed of what a step draws, as dropout does; see ``OwnRandom``.
        name: The learner's name in messages.
        lr_factor: The factor on the recipe's learning rate.
        compiled: Whether the network is compiled; see ``compile_afresh``.
        loss_of: The loss of a minibatch that is differentiated, a scalar.
        adjust_gradient: May change the gradient before the step.
        state: From ``state_dict``, to go on from there.
        epoch: How many epochs are done.
        minibatch: How many minibatches of the current epoch are done.
        epoch_loss: The mean training loss of each epoch that is done, over its minibatches.
        num_images: How many images the network was trained on so far.
    """

    network: Network
    examples: Examples
    _: KW_ONLY
    recipe: Recipe
    num_epochs: int
    seed: int
    name: str
    lr_factor: float = 1.0
    compiled: bool = False
    loss_of: Callable[["Training[Any]", Minibatch], Tensor] = cross_entropy
    adjust_gradient: Callable[["Training[Any]"], None] = lambda training: None
    state: InitVar[dict[str, Any] | None] = None

    def __post_init__(self, state: dict[str, Any] | None) -> None:
        """Prepare the training."""
        self.network.train()
        self.forward = compile_afresh(self.network) if self.compiled else self.network
        self.device = next(self.network.parameters()).device
        self.optimizer = SGD(self.network.parameters(), self.recipe)
        dtype = _dtype(self.device, self.recipe.precision)
        self.autocast = contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(self.device.type, dtype)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)
        self.loss_sum = torch.zeros((), device=self.device)
        self.random = OwnRandom(self.seed, self.device)
        self.epoch = 0
        self.minibatch = 0
        self.num_images = 0
        self.epoch_loss: list[float] = []
        if state is not None:
            self._load(state)

    def __len__(self) -> int:
        """How many minibatches there are in all epochs together."""
        return self.num_epochs * len(self.examples)

    @property
    def num_done(self) -> int:
        """How many minibatches are done."""
        return self.epoch * len(self.examples) + self.minibatch

    @property
    def rate(self) -> float:
        """The learning rate of the next minibatch."""
        highest = self.recipe.lr * self.lr_factor
        if self.recipe.schedule == "constant":
            return highest
        return highest * (1 + math.cos(math.pi * self.num_done / len(self))) / 2

    @property
    def loss(self) -> float:
        """The mean training loss of the current epoch, or of the one before it; reading it waits for the device."""
        return float(self.loss_sum) / self.minibatch if self.minibatch else [math.nan, *self.epoch_loss][-1]

    def steps(self) -> Iterator[int]:
        """Train on, a minibatch at a time; yields the number of minibatches done, after each.

        Nothing in a step waits for the device: the loss is looked at once an epoch, and before the state is saved.

        Raises:
            UserError: The loss or the weights are not finite; the message names learner and epoch.
        """
        while self.epoch < self.num_epochs:
            for batch in self.examples.epoch(self.epoch, self.minibatch):
                self._step(batch)
                self.minibatch += 1
                yield self.num_done
            self.check_finite()
            self.epoch_loss.append(self.loss)
            self.loss_sum.zero_()
            self.epoch += 1
            self.minibatch = 0

    def _step(self, batch: Minibatch) -> None:
        with self.random, allow_tf32(self.recipe.precision == "tf32"):
            with self.autocast:
                loss = self.loss_of(self, batch)
            self.network.zero_grad()
            self.scaler.scale(loss).backward()
            self.adjust_gradient(self)
        self.scaler.step(self.optimizer, lr=self.rate)  # type: ignore[arg-type]  # see SGD
        self.scaler.update()
        self.loss_sum += loss.detach()
        self.num_images += len(batch.labels)

    def check_finite(self) -> None:
        """Raise UserError if the losses of the current epoch or the network's weights are not finite."""
        values = [self.loss_sum, *self.network.state_dict().values()]
        if not all(bool(torch.isfinite(value).all()) for value in values):
            raise diverged(self.name, self.epoch)

    def state_dict(self) -> dict[str, Any]:
        """All that another Training needs to go on from here, bit for bit. Raises UserError if it is not finite."""
        self.check_finite()
        return {
            "network": self.network.state_dict(),
            "velocities": self.optimizer.velocities,
            "scaler": self.scaler.state_dict(),
            "loss_sum": self.loss_sum,
            "epoch": self.epoch,
            "minibatch": self.minibatch,
            "epoch_loss": self.epoch_loss,
            "num_images": self.num_images,
            "random": self.random.states,
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.velocities = [velocity.to(self.device) for velocity in state["velocities"]]
        if state["scaler"]:  # none if it was trained without fp16 so far
            self.scaler.load_state_dict(state["scaler"])
        self.loss_sum = state["loss_sum"].to(self.device)
        for key in ("epoch", "minibatch", "epoch_loss", "num_images"):
            setattr(self, key, state[key])
        self.random.load(state["random"])


def _dtype(device: torch.device, precision: str) -> torch.dtype:
    """What a network computes in; apart, so that another kind of device can have another answer."""
    return DTYPES[resolve_precision(device, precision)]
