"""From a recipe's model name to a network."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch

from net.multihead import MultiHead
from net.resnet import ResNet18
from net.smallconv import SmallConv
from net.wideresnet import WideResNet
from utils.errors import UserError, short
from utils.seeding import ambient_seed

# The one table of models: a name, with <...> for a whole number, and the backbone that it stands for. A backbone is a
# module with an attribute ``num_features``; it is called with the images' shape (C, H, W), the numbers and ``dropout``.
MODELS: dict[str, Callable[..., Any]] = {
    "conv": SmallConv,
    "wrn<depth>_<width>": WideResNet,
    "resnet18_<width>": ResNet18,
}


def build_net(
    model: str, image_shape: tuple[int, int, int], num_classes: Sequence[int], *, dropout: float, seed: int
) -> MultiHead:
    """Build a network on the CPU, in channels-last memory.

    Args:
        model: A name as in ``MODELS``, such as ``wrn16_4``.
        image_shape: (C, H, W).
        num_classes: The number of classes of each head.
        dropout: The probability of dropping a unit, in a network that has dropout.
        seed: The seed of the initial weights.

    Raises:
        UserError: There is no such model, or the images are too small for it.
    """
    for name, backbone_class in MODELS.items():
        if match := re.fullmatch(re.sub(r"<\w+>", r"(\\d{1,15})", name), model):
            with ambient_seed(seed):
                backbone = backbone_class(image_shape, *map(int, match.groups()), dropout=dropout)
                network = MultiHead(backbone, backbone.num_features, num_classes)
            return network.to(memory_format=torch.channels_last)
    raise UserError(f"model: expected one of {', '.join(MODELS)}, got {short(model)}")
