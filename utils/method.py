"""What a method is: it grows learners, one a round, and can be stopped after any minibatch and resumed later.

Letters: B examples of a minibatch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from utils.config import Settings
from utils.errors import UserError
from utils.rounds import Round, RoundSize
from utils.run_net import Examples, Minibatch, Training, cross_entropy
from utils.seeding import child_seed, generator


class Method(ABC):
    """A method grows learners; the run folder, the screen and the command line need nothing else of it.

    A round goes through ``meet_tasks``, ``draw_tasks`` and ``begin_training``. In the training, each minibatch goes
    through ``loss`` and, after the backward pass, ``adjust_gradient``. A class's own ``grow`` calls them, and what else
    a round needs. A method touches no file, and does not look at a task before it arrives.

    Attributes:
        name: The value of ``--method`` that stands for it. Under this name ``utils.config.METHODS``, which is read
            without torch, says which settings are its own, whether it needs ``--continual``, and whether a finished run
            may grow.
        round_id: The current round.
        training: The training of the current learner; None between two rounds.
    """

    name: ClassVar[str]

    def __init__(self, tasks: Sequence[Any], settings: Settings, *, compiled: bool = False):
        """Prepare it; ``grow`` does the work.

        Args:
            tasks: The benchmark's tasks, from ``build_dataset``.
            settings: The run's settings.
            compiled: Whether each network is compiled before it is trained.

        Raises:
            UserError: The settings are those of another method.
        """
        if settings.method != self.name:
            raise UserError(f"method: {type(self).__name__} expected settings with {self.name}, got {settings.method}")
        self.tasks, self.settings, self.compiled = tasks, settings, compiled
        self.round_id = 0
        self.training: Training[Any] | None = None
        self._saved_training: dict[str, Any] | None = None  # of the learner that was stopped

    @abstractmethod
    def grow(self) -> Iterator[Round | str]:
        """Yield "training" or "prediction" after every minibatch, and a Round when a learner is done.

        A caller may stop at any yield, keep ``state_dict()``, and continue from it in another process.

        Raises:
            UserError: A learner's loss, weights or predictions are not finite.
        """

    def plan(self) -> Iterator[RoundSize]:
        """Yield the sizes of the coming rounds, each while ``round_id`` is that round. Nothing is trained.

        So other tasks may be drawn than in ``grow``: the sizes are exact if all tasks have the same size.
        """
        while self.round_id < self.settings.total_rounds:
            self.meet_tasks()
            chosen, _ = self.draw_tasks()
            yield self.round_size(chosen)
            self.round_id += 1

    def last_training(self) -> Training[Any]:
        """Begin the training of the last round, with no learner trained before it: a dry run times its steps."""
        for _ in self.plan():
            if self.round_id == self.settings.total_rounds - 1:
                break
        return self.begin_training(self.draw_tasks()[0])

    @abstractmethod
    def meet_tasks(self) -> None:
        """Prepare the tasks that arrive with this round."""

    @abstractmethod
    def draw_tasks(self) -> tuple[list[int], dict[int, float]]:
        """The tasks of this round's learner, a head each, and the weight of each task that could be drawn."""

    @abstractmethod
    def round_size(self, chosen: list[int]) -> RoundSize:
        """The size of this round, with the chosen tasks."""

    @abstractmethod
    def begin_training(self, chosen: list[int]) -> Training[Any]:
        """Prepare the training of this round's learner."""

    @abstractmethod
    def build_learner(self, chosen: list[int]) -> nn.Module:
        """The network that this round begins with, with a head for each chosen task."""

    def train_network(self, network: nn.Module, examples: Examples, *, lr_factor: float = 1.0) -> Training[Any]:
        """The training of this round, from its beginning or from where an earlier process was stopped.

        Args:
            network: The network to train.
            examples: The training examples, in minibatches.
            lr_factor: The factor on the recipe's learning rate.
        """
        saved, self._saved_training = self._saved_training, None
        return Training(
            network,
            examples,
            recipe=self.settings.recipe,
            num_epochs=self.settings.epochs,
            seed=self.seed("dropout"),
            name=f"round {self.round_id}",
            lr_factor=lr_factor,
            compiled=self.compiled,
            loss_of=self.loss,
            adjust_gradient=self.adjust_gradient,
            state=saved,
        )

    def loss(self, training: Training[Any], batch: Minibatch) -> Tensor:
        """The loss of a minibatch, a scalar, which is differentiated: here the cross-entropy."""
        return cross_entropy(training, batch)

    def adjust_gradient(self, training: Training[Any]) -> None:  # noqa: B027 (a subclass may leave it as it is)
        """Change the gradient before the step; does nothing here."""

    def seed(self, *name: str | int) -> int:
        """The seed of a named random choice of this round."""
        return child_seed(self.settings.seed, "round", self.round_id, *name)

    def random(self, *name: str | int) -> torch.Generator:
        """The generator of a named random choice of this round."""
        return generator(self.settings.seed, "round", self.round_id, *name)

    def state_dict(self) -> dict[str, Any]:
        """All that ``load_state_dict`` needs, bit for bit; a subclass adds its own.

        Raises:
            UserError: The training is not finite.
        """
        return {"round_id": self.round_id, "training": self.training.state_dict() if self.training else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken."""
        self.round_id, self._saved_training = state["round_id"], state["training"]
