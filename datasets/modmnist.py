"""Rotated- and Permuted-MNIST: all of MNIST in several variants, class id 10x + y being digit y in variant x."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.data import ImageData
from datasets.mnist import load_mnist
from utils.config import Benchmark, Options
from utils.errors import UserError, short

NUM_VARIANTS = 36  # rotations by 10 degrees; as many permutations, so that the coding is the same
NUM_PIXELS = 28 * 28


def load_rotated_mnist(benchmark: Benchmark, options: Options) -> ImageData:
    """MNIST, variant x turned counter-clockwise by 10x degrees (nearest pixel, corners black).

    Memory: 55 MB of uint8 for each variant that the benchmark names (70,000 images of 784 bytes), 274 MB for the
    paper's five. Meanwhile 165 MB more are needed (MNIST, a copy, the variant being made).

    Raises:
        UserError: A task is not of one variant, or MNIST cannot be found or downloaded.
    """
    return _variants(benchmark, options, rotated, lambda variant: f"at {10 * variant} degrees")


def load_permuted_mnist(benchmark: Benchmark, options: Options) -> ImageData:
    """MNIST, variant x with its pixels in another order, the same for all its images; variant 0 is MNIST itself.

    Memory and errors: as ``load_rotated_mnist``.
    """
    return _variants(benchmark, options, permuted, lambda variant: f"permuted {variant}")


def rotated(images: Tensor, variant: int) -> Tensor:
    """Images uint8 ``[N, 28, 28, 1]`` turned by 10 * variant degrees, by torchvision's ``rotate`` at its defaults.

    What is turned is one image of pixel numbers: it says where each pixel comes from, the same for all images, which
    is several times faster than turning them all.
    """
    from torchvision.transforms.functional import rotate  # here: importing torchvision takes a second

    numbers = torch.arange(1, NUM_PIXELS + 1, dtype=torch.float32).reshape(1, 1, 28, 28)
    order = rotate(numbers, 10.0 * variant).flatten().long().numpy()
    return _reordered(F.pad(images.flatten(1), (1, 0)), order)  # pixel 0 is black: the corners


def permuted(images: Tensor, variant: int) -> Tensor:
    """Images uint8 ``[N, 28, 28, 1]``, pixel i of the flattened result being pixel ``order[i]`` of the given one."""
    if variant == 0:
        return images
    return _reordered(images.flatten(1), np.random.default_rng(1000 * variant).permutation(NUM_PIXELS))


def _reordered(pixels: Tensor, order: np.ndarray) -> Tensor:
    reordered = np.take(pixels.numpy(), order, axis=1)  # faster than torch's index_select
    return torch.from_numpy(reordered).reshape(-1, 28, 28, 1)


def _variants(
    benchmark: Benchmark, options: Options, change: Callable[[Tensor, int], Tensor], name: Callable[[int], str]
) -> ImageData:
    """The variants that the benchmark names, one after the other; ``change`` makes one from MNIST's images."""
    variants = sorted({_variant(task_id, classes) for task_id, classes in enumerate(benchmark.tasks)})
    mnist = load_mnist(benchmark, options)

    def in_variants(images: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
        stacked = torch.empty((len(variants), *images.shape), dtype=torch.uint8)
        for place, variant in enumerate(variants):
            stacked[place] = change(images, variant)
        return stacked.flatten(0, 1), torch.cat([10 * variant + digits for variant in variants])

    train = in_variants(mnist.train_images, mnist.train_classes)
    test = in_variants(mnist.test_images, mnist.test_classes)
    names = tuple(f"{digit} {name(variant)}" for variant in range(NUM_VARIANTS) for digit in range(10))
    # All variants keep the same originals.
    return ImageData(*train, *test, names, drawn_as=mnist.class_names * NUM_VARIANTS)


def _variant(task_id: int, classes: Sequence[int | str]) -> int:
    """The variant that all classes of a task belong to. Raises UserError."""
    variants = {class_id // 10 if isinstance(class_id, int) else -1 for class_id in classes}
    variant = variants.pop()
    if variants or not 0 <= variant < NUM_VARIANTS:
        expected = f"classes 10x..10x+9 of one variant x, 0 <= x <= {NUM_VARIANTS - 1}"
        raise UserError(f"tasks[{task_id}]: expected {expected}, got {short(list(classes))}")
    return variant
