"""A learner's network: one backbone that its tasks share, and a linear layer, a head, for each of them.

Letters: B images, H x W x C pixels, F features, K classes.
"""

from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from utils.device import allow_tf32


class MultiHead(nn.Module):
    """A backbone and its heads, which may differ in their number of classes.

    All heads are rows of one linear layer, so that a minibatch that mixes tasks takes one matrix product and no loop;
    an example picks the rows of its own head, and only these take part in its loss and its gradient.
    """

    def __init__(self, backbone: nn.Module, num_features: int, num_classes: Sequence[int]):
        """Join a backbone and its heads.

        Args:
            backbone: A module from images to features ``[B, F]``.
            num_features: F.
            num_classes: The number of classes of each head.
        """
        super().__init__()
        self.backbone = backbone
        self.num_classes = tuple(num_classes)
        self.heads = nn.Linear(num_features, sum(num_classes))
        nn.init.zeros_(self.heads.bias)
        rows = torch.arange(sum(num_classes)).split(list(num_classes))
        absent = torch.arange(max(num_classes)) >= torch.tensor(num_classes)[:, None]
        # [heads, K]: rows of the linear layer, and where a head has no class
        self.head_rows = nn.Buffer(nn.utils.rnn.pad_sequence(rows, batch_first=True), persistent=False)
        self.absent = nn.Buffer(absent, persistent=False)

    @property
    def num_parameters(self) -> int:
        """The number of parameters, heads included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, images: Tensor, heads: Tensor | None) -> Tensor:
        """Scores of each image under its head, or under all heads.

        Args:
            images: uint8 ``[B, H, W, C]``.
            heads: The head of each image, int64 ``[B]``; None for all heads.

        Returns:
            Float ``[B, K]``, K of the largest head; minus infinity where the image's head has no class, which the
            cross-entropy ignores, but with which a squared error is NaN. For all heads ``[B, sum of num_classes]``, the
            scores of one head after those of another: ``split(num_classes, dim=1)`` takes them apart.
        """
        scores = self.heads(self.backbone(normalise(images)))
        if heads is None:
            return scores
        return scores.gather(1, self.head_rows[heads]).masked_fill(self.absent[heads], -torch.inf)

    @torch.no_grad()
    def take_over(self, other: "MultiHead") -> None:
        """Copy the weights of a network that has the first of these heads; the further heads keep their own."""
        self.backbone.load_state_dict(other.backbone.state_dict())
        for mine, others in zip(self.heads.parameters(), other.heads.parameters(), strict=True):
            mine[: len(others)] = others

    @torch.inference_mode()
    @allow_tf32(False)
    def probabilities(self, images: Tensor, head: int) -> Tensor:
        """Class probabilities under one head, as in evaluation.

        Args:
            images: uint8 ``[B, H, W, C]``, on the network's device.
            head: The head's place among the heads.

        Returns:
            float32 ``[B, K]`` on the CPU, K of this head.
        """
        heads = torch.full((len(images),), head, device=images.device)
        scores = self.eval()(images, heads)[:, : self.num_classes[head]]
        return scores.softmax(dim=1).cpu()


def normalise(images: Tensor) -> Tensor:
    """Turn uint8 pixels ``[B, H, W, C]`` into what a backbone takes: float ``[B, C, H, W]``, channels-last.

    Pixels are scaled to [0, 1], then to mean 0.5 and standard deviation 0.25, whatever the data set: the data set's own
    statistics would leak information about tasks that have not arrived.
    """
    return images.permute(0, 3, 1, 2).to(torch.get_default_dtype()).div_(255 * 0.25).sub_(0.5 / 0.25)
