"""The small convolutional backbone: three 3 x 3 convolutions of 80 channels, each followed by pooling."""

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from net.batchnorm import BatchNorm2d
from utils.errors import UserError

WIDTH = 80


class SmallConv(nn.Module):
    """Images ``[B, C, H, W]`` to features ``[B, num_features]``; max-pooling by 2, by 3 for sides of 64 and more.

    Pooling comes before each ReLU: both keep the order of numbers, so that the result is the same, with a quarter (or
    a ninth) of the work.
    """

    def __init__(self, image_shape: tuple[int, int, int], *, dropout: float = 0.0):
        """Build it.

        Args:
            image_shape: (C, H, W).
            dropout: Not used: this network has no dropout.

        Raises:
            UserError: The images are too small for three convolutions and poolings.
        """
        super().__init__()
        num_channels, height, width = image_shape
        self.pool_size = 3 if min(height, width) >= 64 else 2
        rows, columns = height, width
        for _ in range(3):
            rows, columns = (rows - 2) // self.pool_size, (columns - 2) // self.pool_size
        if min(rows, columns) < 1:
            raise UserError(f"model conv: expected images of 22 x 22 pixels or more, got {height} x {width}")
        self.num_features = WIDTH * rows * columns
        self.conv1 = nn.Conv2d(num_channels, WIDTH, 3, bias=False)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3)
        self.norm2 = BatchNorm2d(WIDTH)
        self.conv3 = nn.Conv2d(WIDTH, WIDTH, 3)
        self.norm3 = BatchNorm2d(WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[B, num_features]``."""
        x = F.relu(F.max_pool2d(self.conv1(images), self.pool_size))
        x = F.relu(F.max_pool2d(self.norm2(self.conv2(x)), self.pool_size))
        x = F.relu(F.max_pool2d(self.norm3(self.conv3(x)), self.pool_size))
        return x.flatten(1)
