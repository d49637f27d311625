"""Wide residual networks (Zagoruyko and Komodakis 2016), without their last layer."""

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from net.batchnorm import BatchNorm2d
from net.dropout import Dropout
from utils.errors import UserError


class Block(nn.Module):
    """Pre-activation residual block: twice normalise, ReLU, convolve, with dropout between the convolutions."""

    def __init__(self, num_in: int, num_out: int, stride: int, dropout: float):
        super().__init__()
        self.norm1 = BatchNorm2d(num_in)
        self.conv1 = nn.Conv2d(num_in, num_out, 3, stride, padding=1, bias=False)
        self.norm2 = BatchNorm2d(num_out)
        self.conv2 = nn.Conv2d(num_out, num_out, 3, padding=1, bias=False)
        self.dropout = Dropout(dropout)
        # Only where the width changes: elsewhere the identity needs no parameters.
        self.shortcut = nn.Conv2d(num_in, num_out, 1, stride, bias=False) if num_in != num_out else None

    def forward(self, x: Tensor) -> Tensor:
        """``[B, num_in, H, W]`` to ``[B, num_out, H / stride, W / stride]``."""
        activated = F.relu(self.norm1(x))
        skipped = x if self.shortcut is None else self.shortcut(activated)
        x = F.relu(self.norm2(self.conv1(activated)))
        return self.conv2(self.dropout(x)) + skipped


class WideResNet(nn.Module):
    """Images ``[B, C, H, W]`` to features ``[B, num_features]``: three groups of blocks, then the mean over pixels."""

    def __init__(self, image_shape: tuple[int, int, int], depth: int, width: int, *, dropout: float):
        """Build it.

        Args:
            image_shape: (C, H, W).
            depth: 6n + 4, for n blocks a group.
            width: The factor k on the groups' 16, 32 and 64 channels.
            dropout: The probability of dropping a unit.

        Raises:
            UserError: No whole number of blocks gives this depth, the width is not positive, or the images are too
                small to be halved twice.
        """
        super().__init__()
        num_channels, *sides = image_shape
        if depth < 10 or (depth - 4) % 6 or width < 1:
            expected = "expected wrn<depth>_<width> with depth 10, 16, 22, ... and width 1 or more"
            raise UserError(f"model: {expected}, got wrn{depth}_{width}")
        if min(sides) < 8:
            raise UserError(f"model wrn: expected images of 8 x 8 pixels or more, got {sides[0]} x {sides[1]}")
        blocks_per_group = (depth - 4) // 6
        blocks = []
        num_in = 16
        for num_out, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            blocks.append(Block(num_in, num_out, stride, dropout))
            blocks += [Block(num_out, num_out, 1, dropout) for _ in range(blocks_per_group - 1)]
            num_in = num_out
        self.stem = nn.Conv2d(num_channels, 16, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(*blocks)
        self.norm = BatchNorm2d(num_in)
        self.num_features = num_in
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[B, num_features]``."""
        x = F.relu(self.norm(self.blocks(self.stem(images))))
        return x.mean(dim=(2, 3))
