"""Methods to compare Model Zoo with: one network with a head for each task, trained on one task after another.

    sgd     gradient descent; with ``lr_decay`` and ``dropout`` in the recipe it is Stable-SGD (Mirzadeh et al. 2020)
    ewc     elastic weight consolidation (Kirkpatrick et al. 2017)
    agem    averaged gradient episodic memory (Chaudhry et al. 2019a)
    er      experience replay from a reservoir (Chaudhry et al. 2019b)

Where these papers leave a choice open, the code published with TAG (Malviya et al. 2022) is followed: it made the
published curves in the suite ``single_epoch_methods``. A class says where it differs from that code.
"""

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.data import Minibatches, Split, Task
from net.average import Average, predict
from net.build_net import build_net
from net.multihead import MultiHead
from utils.config import Settings
from utils.device import allow_tf32
from utils.method import Method
from utils.rounds import Record, Round, RoundSize
from utils.run_net import Minibatch, Training, diverged

FISHER_EXAMPLES = 200
LARGEST_NORM = 100.0  # of the gradient under EWC


class OneNetwork(Method):
    """Stochastic gradient descent on one task after another; the other methods change its loss, or remember more.

    For each task, in this order: ``meet_tasks``; ``begin_training``, which adds the task's head; for each minibatch
    ``loss``, the backward pass, ``adjust_gradient``, the step; ``measure``; ``remember``; ``network`` becomes the
    trained network, in evaluation mode; ``consolidate``. So in ``loss`` and ``adjust_gradient`` the attribute
    ``network`` is still the one before the task. The attributes ``network``, ``memory`` and ``fisher`` are saved; a
    subclass with others adds them to ``state_dict`` and ``load_state_dict``.

    Attributes:
        network: The network as it was after the last task; None before the first task has ended.
        new: The new task's training examples, in minibatches.
        past: The remembered examples of the past tasks, in minibatches; ``sample_memory`` draws from them.
        memory: By past task: the examples that are remembered, positions in ``task.train``, int64; for agem and er.
        fisher: By parameter: how much it matters to the past tasks; for ewc.
        draws: By round and minibatch, for the current one alone: the number of its last draw from the memory.
    """

    name = "sgd"
    tasks: Sequence[Task]

    def __init__(self, tasks: Sequence[Task], settings: Settings, *, compiled: bool = False):
        super().__init__(tasks, settings, compiled=compiled)
        self.network: MultiHead | None = None
        self.memory: list[Tensor] = []
        self.fisher: list[Tensor] = []
        self.draws: dict[tuple[int, int], int] = {}

    def grow(self) -> Iterator[Round | str]:
        """Learn the tasks in turn, a task a round; see ``Method.grow``."""
        while self.round_id < self.settings.total_rounds:
            self.meet_tasks()
            chosen, _ = self.draw_tasks()
            self.training = self.begin_training(chosen)
            for _ in self.training.steps():
                yield "training"
            record = yield from self.measure(self.training)
            done = Round(record, dict.fromkeys(chosen, 1.0), self.training.network)
            self.end_task(self.training)
            yield done

    def end_task(self, training: Training[MultiHead]) -> None:
        """Keep what the coming tasks need of this one."""
        self.remember()
        self.network, self.training = training.network.eval(), None
        self.consolidate(self.network)
        self.round_id += 1

    def last_training(self) -> Training[MultiHead]:
        """Begin the training of the last task, after ``end_task`` for each task before it with an untrained network."""
        for _ in range(self.settings.total_rounds - 1):
            self.meet_tasks()
            self.training = self.begin_training(self.draw_tasks()[0])
            self.end_task(self.training)
        return super().last_training()

    def meet_tasks(self) -> None:
        """Prepare the new task's examples, and those that are remembered of the tasks before it."""
        tasks, none = self.tasks[: self.round_id + 1], torch.empty(0, dtype=torch.int64)
        everything = torch.arange(len(tasks[-1].train))
        self.new = Minibatches(tasks, [none] * self.round_id + [everything], self.settings, self.round_id)
        self.past = Minibatches(tasks, [*(self.memory or [none] * self.round_id), none], self.settings, self.round_id)

    def draw_tasks(self) -> tuple[list[int], dict[int, float]]:
        """The tasks that have a head, which are all that have arrived; nothing is drawn by weight."""
        return list(range(self.round_id + 1)), {}

    def round_size(self, chosen: list[int]) -> RoundSize:
        """The size of this round: the new task's training examples, and the test examples of all tasks seen."""
        num_train, num_test = len(self.tasks[chosen[-1]].train), sum(len(self.tasks[t].test) for t in chosen)
        return RoundSize(1, num_train, num_train + num_test)

    def begin_training(self, chosen: list[int]) -> Training[MultiHead]:
        """Prepare the training on the new task; the learning rate is multiplied by ``lr_decay`` after each task.

        The first task uses the full learning rate; in TAG's code it uses the decayed one.
        """
        lr_factor = self.settings.recipe.lr_decay**self.round_id
        return self.train_network(self.build_learner(chosen), self.new, lr_factor=lr_factor)

    def build_learner(self, chosen: list[int]) -> MultiHead:
        """The network after the last task, with a head for each chosen task, on the same device as the images."""
        first, recipe = self.tasks[chosen[0]], self.settings.recipe
        num_classes = [self.tasks[t].num_classes for t in chosen]
        net = build_net(recipe.model, first.image_shape, num_classes, dropout=recipe.dropout, seed=self.seed("init"))
        net = net.to(first.train.images.device)
        if self.network is not None:
            net.take_over(self.network)
        return net

    def sample_memory(self, training: Training[MultiHead]) -> Minibatch:
        """Draw a minibatch from the memory without replacement, a new one each time; also twice in a step.

        Its ``places`` are positions in ``torch.cat(self.memory)``. Its images are added to ``images_trained``. In the
        first task there is no memory to draw from: ``len(self.past)`` is 0.
        """
        step = self.round_id, training.num_done
        self.draws = {step: self.draws.get(step, -1) + 1}
        # Epoch numbers from ``epochs`` on name the shuffles of the memory: no epoch of the new task has them.
        number = self.settings.epochs + training.num_done + self.draws[step] * len(training)
        batch = next(iter(self.past.epoch(number)))
        training.num_images += len(batch.labels)
        return batch

    def remember(self) -> None:
        """Add examples of the new task to ``memory``, for methods that have one; does nothing here.

        ``self.training.network`` is the network after the task. In a dry run, which times a step of the last task, it
        is not trained.
        """

    def consolidate(self, network: MultiHead) -> None:
        """Keep what the method needs of the network as it is after the new task; does nothing here."""

    def measure(self, training: Training[MultiHead]) -> Generator[str, None, Record]:
        """Test the network on all tasks seen, and on the new task's training examples."""
        new, test = self.round_id, {}
        for t, task in enumerate(self.tasks[: new + 1]):
            test[t] = yield from _predict(training, t, task.test, task.num_classes)
        train = yield from _predict(training, new, self.tasks[new].train, self.tasks[new].num_classes)
        test_accuracy = {t: average.accuracy() for t, average in test.items()}
        return Record(
            round=new,
            tasks=[new],
            weights={},
            scored_on=self.settings.scored_on,
            train_loss={**dict.fromkeys(range(new)), new: train.loss()},
            train_accuracy={**dict.fromkeys(range(new)), new: train.accuracy()},
            loss={t: average.loss() for t, average in test.items()},
            accuracy=test_accuracy,
            epoch_loss=training.epoch_loss,
            learner_accuracy=test_accuracy,
            num_parameters=training.network.num_parameters,
            images_trained=training.num_images,
            images_stored=len(self.past.rows),
            replaces=True,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that ``load_state_dict`` needs, bit for bit. Raises UserError if the training is not finite."""
        return super().state_dict() | {
            "network": self.network.state_dict() if self.network else None,
            "memory": self.memory,
            "fisher": self.fisher,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where ``state_dict`` was taken."""
        super().load_state_dict(state)
        self.memory = state["memory"]
        if self.round_id > 0:
            self.network = self.build_learner(list(range(self.round_id)))
            self.network.load_state_dict(state["network"])
            self.network.eval()
        self.fisher = [importance.to(self.tasks[0].train.images.device) for importance in state["fisher"]]


class ElasticWeights(OneNetwork):
    """EWC: weights that matter to the past tasks are held near the values that they had after the last task.

    The loss is the cross-entropy + ``ewc_weight`` * sum_i F_i (theta_i - theta*_i)^2; theta* are the weights after the
    last task. F is the mean over the past tasks of the squared gradient of the mean loss on 200 of the task's examples,
    taken when the task ends; for a head, tasks before its own count as 0. The gradient's norm is clipped at 100. In
    TAG's code only the norm of the penalty's gradient is clipped, and F comes mostly from the newest task.
    """

    name = "ewc"

    def loss(self, training: Training[MultiHead], batch: Minibatch) -> Tensor:
        """The cross-entropy and the penalty."""
        loss = super().loss(training, batch)
        if self.network is None:
            return loss
        return loss + self.settings.ewc_weight * penalty(training.network, self.network, self.fisher)

    def adjust_gradient(self, training: Training[MultiHead]) -> None:
        """Clip the gradient's norm."""
        parameters = list(training.network.parameters())
        scale = training.scaler.scale(torch.ones((), device=training.device))  # of the gradient, under fp16
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]) / scale
        torch.nn.utils.clip_grads_with_norm_(parameters, LARGEST_NORM, norm)

    @allow_tf32(False)
    def consolidate(self, network: MultiHead) -> None:
        """Add the new task to F."""
        train = self.tasks[self.round_id].train
        some = torch.randperm(len(train), generator=self.random("fisher"))[:FISHER_EXAMPLES].to(train.rows.device)
        scores = network.eval()(train.images[train.rows[some]], torch.full_like(some, self.round_id))
        gradient = torch.autograd.grad(F.cross_entropy(scores, train.labels[some]), list(network.parameters()))
        num_tasks = self.round_id + 1
        fisher = [part.square() / num_tasks for part in gradient]
        for importance, before in zip(fisher, self.fisher, strict=False):  # there is none before the first task
            importance[: len(before)] += before * (self.round_id / num_tasks)
        self.fisher = fisher


class AveragedGem(OneNetwork):
    """A-GEM: no step against the past tasks' mean gradient.

    If the gradient g and the reference r, the gradient on a minibatch of the memory, have a negative product, g is
    replaced by g - (g.r / r.r) r, whose product with r is 0. The memory has ``memory`` examples of each class, those
    that came last in the last epoch.
    """

    name = "agem"

    def adjust_gradient(self, training: Training[MultiHead]) -> None:
        """Project the gradient."""
        if len(self.past) == 0:
            return
        gradient = _take_gradient(training.network)
        with training.autocast:
            loss = self.loss(training, self.sample_memory(training))
        training.scaler.scale(loss).backward()  # scaled like the gradient; this scale cancels in the projection
        reference = _take_gradient(training.network)
        project(gradient, reference)
        for parameter, part in zip(training.network.parameters(), gradient, strict=True):
            parameter.grad = part

    def remember(self) -> None:
        """Keep the newest examples of each class."""
        newest_first = self.new.order(self.settings.epochs - 1).flip(0)
        labels = self.new.labels[newest_first]
        newest = [newest_first[labels == label][: self.settings.memory] for label in labels.unique()]
        self.memory = [*self.memory, torch.cat(newest).cpu()]


class ExperienceReplay(OneNetwork):
    """ER: the loss on the new task, plus the loss on a minibatch of the memory.

    The memory is a reservoir (Vitter 1985, algorithm R): every example seen so far is in it with equal probability. It
    holds ``memory`` examples for each class of the benchmark. A task's examples are added when the task is done (in
    TAG's code after each minibatch, so that the current task's own examples are replayed too).
    """

    name = "er"

    def loss(self, training: Training[MultiHead], batch: Minibatch) -> Tensor:
        """The two cross-entropies."""
        loss = super().loss(training, batch)
        return loss + super().loss(training, self.sample_memory(training)) if len(self.past) else loss

    def remember(self) -> None:
        """Add the new task's examples to the reservoir, one by one."""
        capacity = self.settings.memory * sum(task.num_classes for task in self.tasks)
        random = self.random("reservoir")
        num_before = sum(len(task.train) for task in self.tasks[: self.round_id])
        kept = [(t, position) for t, positions in enumerate(self.memory) for position in positions.tolist()]
        for number, position in enumerate(self.new.order(0).tolist(), num_before):
            place = number if number < capacity else int(torch.randint(number + 1, (), generator=random))
            if place < capacity:
                kept[place : place + 1] = [(self.round_id, position)]
        task_ids, positions = torch.tensor(kept).unbind(1)
        self.memory = [positions[task_ids == t] for t in range(self.round_id + 1)]


def penalty(network: MultiHead, anchor: MultiHead, fisher: Sequence[Tensor]) -> Tensor:
    """sum_i F_i (theta_i - theta*_i)^2; heads that the anchor lacks are left out."""
    parts = zip(network.parameters(), anchor.parameters(), fisher, strict=True)
    return torch.stack([(f * (now[: len(f)] - before.detach()).square()).sum() for now, before, f in parts]).sum()


def project(gradient: Sequence[Tensor], reference: Sequence[Tensor]) -> None:
    """Replace g by g - (min(0, g.r) / r.r) r, in place; g and r are given in parts."""
    product = torch.stack([(g * r).sum() for g, r in zip(gradient, reference, strict=True)]).sum()
    square = torch.stack([r.square().sum() for r in reference]).sum()
    factor = product.clamp(max=0) / square.clamp(min=torch.finfo(square.dtype).tiny)
    for g, r in zip(gradient, reference, strict=True):
        g.sub_(factor * r)


def _take_gradient(network: MultiHead) -> list[Tensor]:
    # Cloned, since a compiled network may write its next gradient in the same place.
    gradient = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
    network.zero_grad()
    return gradient


def _predict(training: Training[MultiHead], t: int, split: Split, num_classes: int) -> Generator[str, None, Average]:
    """The network's prediction on a part of a task. Raises UserError if it is not finite."""
    average = Average.empty(split.labels, num_classes)
    yield from predict(training.network, t, split.images, split.rows, average.total)
    if not torch.isfinite(average.total).all():
        raise diverged(training.name, training.num_epochs - 1)
    average.votes = 1.0
    return average
