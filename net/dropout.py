"""Dropout that draws its masks fast on a CPU."""

import torch
import torch.nn as nn
from torch import Tensor

LEVELS = 2**16  # a mask's random numbers have 16 bits


class Dropout(nn.Dropout):
    """``torch.nn.Dropout``, on a CPU with masks from random whole numbers of 16 bits, four of which are drawn at once.

    There torch draws a mask one number after another, which takes a good part of a training step. The probability is
    rounded to a multiple of 1/65536, and what is kept is scaled up to keep the mean. The mask does not
    depend on the number of threads. On other devices, and in a network that is compiled, it is torch's own dropout.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Drop units in training. The input may have any shape; the output has its shape and memory format."""
        if not self.training or self.p in (0, 1) or x.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(x)
        num_dropped = min(round(self.p * LEVELS), LEVELS - 1)  # of the levels
        return x * draw_mask(x, num_dropped).mul_(LEVELS / (LEVELS - num_dropped))


def draw_mask(x: Tensor, num_dropped: int) -> Tensor:
    """0 with probability ``num_dropped`` / 65536, else 1, in the shape, type and memory format of ``x``."""
    mask = torch.empty_like(x)
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    numbers = bits.view(torch.int16)[: x.numel()]  # -32768 to 32767
    torch.ge(numbers, num_dropped - LEVELS // 2, out=mask.as_strided(numbers.shape, (1,)))  # as it lies in memory
    return mask
