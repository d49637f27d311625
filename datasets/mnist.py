"""MNIST: 28 x 28 grey handwritten digits, 60,000 to train and 10,000 to test (LeCun et al. 1998)."""

import math
import struct
from pathlib import Path
from typing import Any

from datasets.data import ImageData
from datasets.files import DataRequest, npz_or_torchvision

MNIST_CLASSES = tuple("0123456789")


def load_mnist(request: DataRequest) -> ImageData:
    """MNIST, uint8 ``[60000 and 10000, 28, 28, 1]``. Raises DataError where it cannot be had."""
    return npz_or_torchvision(
        "mnist",
        request,
        class_names=MNIST_CLASSES,
        side=28,
        torchvision_set="MNIST",
        layout="MNIST/raw",
        damage=_damage,
    )


def _damage(torchvision_set: Any, folder: Path) -> str | None:
    """The first file whose length is not what it says of itself (torchvision keeps no checksum of unpacked files)."""
    for archive, _ in torchvision_set.resources:
        path = folder / Path(archive).stem
        num_axes = 3 if "-idx3-" in path.name else 1
        if path.exists():
            with path.open("rb") as file:
                header = file.read(4 + 4 * num_axes)
            magic = bytes((0, 0, 8, num_axes))  # 8 stands for uint8
            if len(header) < 4 + 4 * num_axes or header[:4] != magic:
                return f"{path}: expected the header of an idx file of uint8 with {num_axes} axes, got {header[:4]!r}"
            expected = len(header) + math.prod(struct.unpack(f">{num_axes}I", header[4:]))
            if path.stat().st_size != expected:
                return f"{path}: expected {expected} bytes, got {path.stat().st_size}"
    return None
