"""The reduced ResNet-18 of continual learning, without its last layer: 20, 40, 80 and 160 channels.

Reduced by Lopez-Paz and Ranzato (2017). The block is that of TAG (Malviya et al. 2022), whose published curves are
compared here: one convolution where the usual block has two, and ReLU before batch normalisation, not after it.
"""

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from net.batchnorm import BatchNorm2d
from net.dropout import Dropout
from utils.errors import UserError


class Block(nn.Module):
    """Convolve, ReLU, normalise, drop; add the input; ReLU, normalise, drop."""

    def __init__(self, num_in: int, num_out: int, stride: int, dropout: float):
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, 3, stride, padding=1, bias=False)
        self.norm1 = BatchNorm2d(num_out)
        self.norm2 = BatchNorm2d(num_out)
        self.dropout = Dropout(dropout)
        # Only where the shape changes: elsewhere the identity needs no parameters. ``forward`` strides the input first,
        # since a strided 1 x 1 convolution with few channels writes beyond its memory (oneDNN's issue 6035).
        self.stride = stride
        self.shortcut = nn.Conv2d(num_in, num_out, 1, bias=False) if num_in != num_out else None

    def forward(self, x: Tensor) -> Tensor:
        """``[B, num_in, H, W]`` to ``[B, num_out, H / stride, W / stride]``."""
        skipped = x if self.shortcut is None else self.shortcut(x[:, :, :: self.stride, :: self.stride])
        x = self.dropout(self.norm1(F.relu(self.conv(x))))
        return self.dropout(self.norm2(F.relu(x + skipped)))


class ResNet18(nn.Module):
    """Images ``[B, C, H, W]`` to features ``[B, num_features]``: four stages of two blocks, then the mean over pixels.

    With width 20 and a linear layer of 100 classes it has 496,680 parameters.
    """

    def __init__(self, image_shape: tuple[int, int, int], width: int, *, dropout: float):
        """Build it.

        Args:
            image_shape: (C, H, W).
            width: The channels of the first stage; each stage after it has twice as many, and half the side.
            dropout: The probability of dropping a unit.

        Raises:
            UserError: The width is not positive, or the images are too small.
        """
        super().__init__()
        num_channels, *sides = image_shape
        if width < 1:
            raise UserError(f"model: expected resnet18_<width> with width 1 or more, got resnet18_{width}")
        if min(sides) < 9:  # else the last stage is 1 x 1, where batch norm fails on a single example
            raise UserError(f"model resnet18: expected images of 9 x 9 pixels or more, got {sides[0]} x {sides[1]}")
        self.stem = nn.Conv2d(num_channels, width, 3, padding=1, bias=False)
        self.norm = BatchNorm2d(width)
        blocks, num_in = [], width
        for num_out, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
            blocks += [Block(num_in, num_out, stride, dropout), Block(num_out, num_out, 1, dropout)]
            num_in = num_out
        self.blocks = nn.Sequential(*blocks)
        self.num_features = num_in

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[B, num_features]``."""
        x = self.blocks(F.relu(self.norm(self.stem(images))))
        return x.mean(dim=(2, 3))
