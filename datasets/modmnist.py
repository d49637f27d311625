"""Rotated- and Permuted-MNIST: all of MNIST in several variants, class id 10x + y being digit y in variant x."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from datasets.data import ImageData
from datasets.files import DataRequest
from datasets.mnist import load_mnist

NUM_VARIANTS = 36  # rotations by 10 degrees; as many permutations, so that the coding is the same
NUM_PIXELS = 28 * 28


def load_rotated_mnist(request: DataRequest) -> ImageData:
    """MNIST, variant x turned counter-clockwise by 10x degrees (nearest pixel, corners black).

    Memory: 55 MB of uint8 a variant that the benchmark names (70,000 images of 784 bytes), 274 MB for the paper's
    five, made once; MNIST itself and the variant in the making, 55 MB each, are let go.

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
    """Images uint8 ``[N, 28, 28, 1]`` turned by 10 * variant degrees, by torchvision's ``rotate`` at its defaults.

    What is turned is one image of pixel numbers: it says where each pixel comes from, the same for all images, which
    is several times faster than turning them all.
    """
    from torchvision.transforms.functional import rotate  # here: importing torchvision takes a second

    numbers = torch.arange(1, NUM_PIXELS + 1, dtype=torch.float32).reshape(1, 1, 28, 28)
    order = rotate(numbers, 10.0 * variant).flatten().long() - 1
    is_outside = order < 0  # the corners
    turned = _reordered(images, order.clamp(min=0).numpy())
    turned.flatten(1)[:, is_outside] = 0
    return turned


def permuted(images: Tensor, variant: int) -> Tensor:
    """Images uint8 ``[N, 28, 28, 1]``, pixel i of the flattened result being pixel ``order[i]`` of the given one."""
    if variant == 0:
        return images
    return _reordered(images, np.random.default_rng(1000 * variant).permutation(NUM_PIXELS))


def _reordered(images: Tensor, order: np.ndarray) -> Tensor:
    flat = images.flatten(1).numpy()
    return torch.from_numpy(np.take(flat, order, axis=1)).reshape(images.shape)  # faster than torch's index_select


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
