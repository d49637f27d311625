"""Rotated- and Permuted-MNIST: all of MNIST in several variants, class id 10x + y being digit y in variant x."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from datasets.data import ImageData
from datasets.files import DataRequest
from datasets.mnist import load_mnist

NUM_VARIANTS = 36  # rotations by 10 degrees; as many permutations, so that the coding is the same
_CHUNK = 2_000  # images turned at once: rotation passes through float32, of which only so many are held


def load_rotated_mnist(request: DataRequest) -> ImageData:
    """MNIST, variant x turned counter-clockwise by 10x degrees (nearest pixel, corners black).

    Memory: 55 MB of uint8 a variant that the benchmark names (70,000 images of 784 bytes), 274 MB for the paper's
    five, made once; MNIST itself and the variant in the making, 55 MB each, are let go afterwards.

    Raises:
        DataError: MNIST cannot be had.
    """
    names = tuple(f"{digit} at {10 * variant} degrees" for variant in range(NUM_VARIANTS) for digit in range(10))
    return _variants(request, rotated, names)


def load_permuted_mnist(request: DataRequest) -> ImageData:
    """MNIST, variant x with its pixels in another order, the same for all its images; variant 0 is MNIST itself.

    Memory: as ``load_rotated_mnist``.

    Raises:
        DataError: MNIST cannot be had.
    """
    names = tuple(f"{digit} permuted {variant}" for variant in range(NUM_VARIANTS) for digit in range(10))
    return _variants(request, permuted, names)


def rotated(images: Tensor, variant: int) -> Tensor:
    """Images uint8 ``[N, H, W, 1]`` turned by 10 * variant degrees."""
    from torchvision.transforms.functional import rotate  # here: importing torchvision takes a second

    chunks = images.permute(0, 3, 1, 2).split(_CHUNK)
    return torch.cat([rotate(chunk, 10.0 * variant) for chunk in chunks]).permute(0, 2, 3, 1)


def permuted(images: Tensor, variant: int) -> Tensor:
    """Images uint8 ``[N, 28, 28, 1]``, pixel i of the flattened result being pixel ``order[i]`` of the given one."""
    if variant == 0:
        return images
    order = torch.from_numpy(np.random.default_rng(1000 * variant).permutation(28 * 28))
    return images.flatten(1).index_select(1, order).reshape(images.shape)


def _variants(request: DataRequest, change: Callable[[Tensor, int], Tensor], names: tuple[str, ...]) -> ImageData:
    variants = sorted({class_id // 10 for class_id in request.class_ids})
    mnist = load_mnist(request)

    def stacked(images: Tensor) -> Tensor:
        rows = torch.empty((len(variants), *images.shape), dtype=torch.uint8)
        for place, variant in enumerate(variants):
            rows[place] = change(images, variant)
        return rows.flatten(0, 1)

    def coded(digits: Tensor) -> Tensor:
        return torch.cat([10 * variant + digits for variant in variants])

    return ImageData(
        stacked(mnist.train_images),
        coded(mnist.train_classes),
        stacked(mnist.test_images),
        coded(mnist.test_classes),
        names,
    )
