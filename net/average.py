"""The zoo's prediction on a task: the mean over its learners.

Letters: M examples of a task, N images, H x W x C pixels, K classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from net.multihead import MultiHead

Probabilities = dict[int, tuple[Tensor, Tensor]]  # by task id: a learner's, on its training and its test examples
PREDICTION_BATCH = 100  # images at once, in growing and in using a zoo, so that both give the same numbers


@dataclass
class Average:
    """The class probabilities of some examples, averaged over learners that are added one by one.

    Attributes:
        labels: The right labels, int64 ``[M]``, on the CPU.
        total: The weighted sum of the learners' probabilities, float32 ``[M, K]``, on the CPU.
        votes: The sum of the weights; 0 if there is no learner yet, and then all classes are equally likely.
    """

    labels: Tensor
    total: Tensor
    votes: float = 0.0

    @classmethod
    def empty(cls, labels: Tensor, num_classes: int) -> "Average":
        """An average over no learners."""
        return cls(labels.cpu(), torch.zeros(len(labels), num_classes))

    def add(self, probabilities: Tensor, vote: float) -> None:
        """Add one more learner.

        Args:
            probabilities: The learner's class probabilities, float32 ``[M, K]``.
            vote: The learner's weight.
        """
        self.total += vote * probabilities
        self.votes += vote

    def keep(self, positions: Tensor) -> "Average":
        """The average on some of the examples: positions int64, or bool ``[M]``."""
        return Average(self.labels[positions], self.total[positions], self.votes)

    def loss(self) -> float | None:
        """Mean negative log-likelihood, with probabilities clamped at 1e-12; None if there are no examples."""
        assert len(self.total) == len(self.labels), "every example has a prediction"
        if len(self.labels) == 0:
            return None
        if self.votes == 0:
            return float(np.log(self.total.shape[1]))
        likelihood = self.total.gather(1, self.labels[:, None]).double() / self.votes
        return float(-likelihood.clamp(1e-12, 1).log().mean())

    def accuracy(self) -> float | None:
        """The fraction of examples whose likeliest class is right; 1/K without a learner; None without examples."""
        if len(self.labels) == 0:
            return None
        if self.votes == 0:
            return 1 / self.total.shape[1]
        return accuracy(self.total, self.labels)


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """The fraction of examples, float ``[M, K]``, whose likeliest class is their label, int64 ``[M]``."""
    return float((scores.argmax(dim=1) == labels).double().mean())


def predict(learner: MultiHead, head: int, images: Tensor, rows: Tensor, out: Tensor) -> Iterator[str]:
    """Fill in class probabilities of some images under one head; yield "prediction" after each batch.

    The results are written into ``out``: allocating them batch by batch would fragment the memory.

    Args:
        learner: The network.
        head: The head's place among the network's heads.
        images: uint8 ``[N, H, W, C]``.
        rows: Which of the images, int64 ``[M]``, on the same device as the images.
        out: The class probabilities, float32 ``[M, K]`` on the CPU.
    """
    device = learner.heads.weight.device
    for batch, part in zip(rows.split(PREDICTION_BATCH), out.split(PREDICTION_BATCH), strict=True):
        part.copy_(learner.probabilities(images.index_select(0, batch).to(device), head))
        yield "prediction"
