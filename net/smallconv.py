"""The small convolutional backbone: three 3 x 3 convolutions of 80 channels, each followed by pooling."""

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

WIDTH = 80


class SmallConv(nn.Module):
    """Images ``[B, C, H, W]`` to features ``[B, num_features]``; max-pooling by 2, by 3 for sides of 64 and more.

    Pooling comes before each ReLU: both keep the order of numbers, so the result is the same for a quarter (a ninth)
    of the work.
    """

    def __init__(self, num_channels: int, height: int, width: int):
        """Build it.

        Args:
            num_channels: C.
            height: H.
            width: W.

        Raises:
            ValueError: the image is used up before the last pooling.
        """
        super().__init__()
        self.pool_size = 3 if min(height, width) >= 64 else 2
        rows, columns = self._feature_side(height), self._feature_side(width)
        if min(rows, columns) < 1:
            raise ValueError(f"the small conv net: expected images of 22 x 22 pixels or more, got {height} x {width}")
        self.num_features = WIDTH * rows * columns
        self.conv1 = nn.Conv2d(num_channels, WIDTH, 3, bias=False)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3)
        self.norm2 = nn.BatchNorm2d(WIDTH)
        self.conv3 = nn.Conv2d(WIDTH, WIDTH, 3)
        self.norm3 = nn.BatchNorm2d(WIDTH)

    def _feature_side(self, side: int) -> int:
        for _ in range(3):
            side = (side - 2) // self.pool_size
        return side

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[B, num_features]``."""
        x = F.relu(F.max_pool2d(self.conv1(images), self.pool_size))
        x = F.relu(F.max_pool2d(self.norm2(self.conv2(x)), self.pool_size))
        x = F.relu(F.max_pool2d(self.norm3(self.conv3(x)), self.pool_size))
        return x.flatten(1)
