"""From a recipe's model name to a network."""

import re
from collections.abc import Sequence

from net.multihead import MultiHead
from net.smallconv import SmallConv
from net.wideresnet import WideResNet


class NetError(Exception):
    """A network that cannot be built from what the user asked for."""


def build_net(
    model: str, *, image_shape: tuple[int, int, int], num_classes: Sequence[int], dropout: float
) -> MultiHead:
    """A network with initial weights from torch's global generator.

    Args:
        model: ``conv`` or ``wrn<depth>_<width>``.
        image_shape: (C, H, W).
        num_classes: of each head.
        dropout: probability of dropping a unit; the small conv net has none.

    Raises:
        NetError: no such model, or images too small for it.
    """
    num_channels, height, width = image_shape
    wrn = re.fullmatch(r"wrn(\d+)_(\d+)", model)
    try:
        if wrn and min(height, width) < 8:
            raise ValueError(f"expected images of 8 x 8 pixels or more, got {height} x {width}")
        if wrn:
            backbone = WideResNet(num_channels, int(wrn[1]), int(wrn[2]), dropout)
            return MultiHead(backbone, backbone.num_features, num_classes)
        if model == "conv":
            small = SmallConv(num_channels, height, width)
            return MultiHead(small, small.num_features, num_classes)
    except ValueError as error:
        raise NetError(f"model {model}: {error}") from error
    raise NetError(f"model: expected conv or wrn<depth>_<width>, got {model!r}")
