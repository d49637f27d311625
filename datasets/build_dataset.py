"""From what a benchmark file says to the list of its tasks."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from unicodedata import normalize

import torch

from datasets import cifar, custom, digits, mini_imagenet, mnist, modmnist
from datasets.data import Augmentation, ImageData, Task, cut_tasks
from utils.config import Benchmark, Options, Settings
from utils.errors import UserError, short

DATA_SETS: dict[str, Callable[[Benchmark, Options], ImageData]] = {
    "cifar10": cifar.load_cifar10,
    "cifar100": cifar.load_cifar100,
    "mnist": mnist.load_mnist,
    "rotated_mnist": modmnist.load_rotated_mnist,
    "permuted_mnist": modmnist.load_permuted_mnist,
    "mini_imagenet": mini_imagenet.load_mini_imagenet,
    "digits": digits.load_digits,
    "npz": custom.load_npz,
    "image_folder": custom.load_image_folder,
}
OWN_KEYS = {"root": ("npz", "image_folder"), "image_size": ("image_folder",), "test_fraction": ("image_folder",)}


def build_dataset(settings: Settings, options: Options, device: torch.device) -> list[Task]:
    """The tasks of a benchmark, as views on one copy of the images on ``device``.

    Args:
        settings: The run's settings; the benchmark, ``samples`` and the seed are used.
        options: Where data sets are looked for, and whether they may be downloaded and cached.
        device: The device to put the images on.

    Warns if the training images have no pixel above 1.

    Raises:
        UserError: The benchmark is wrong, or the data cannot be found or downloaded, is damaged, or lacks a class.
    """
    benchmark = settings.benchmark
    _check_keys(benchmark)
    data = DATA_SETS[benchmark.dataset](benchmark, options)
    _check_data(benchmark.dataset, data)
    if all(images.max() <= 1 for images in data.train_images.split(100)):  # mostly the first ones tell
        got = "got none above 1 in the training images: were they divided by 255?"
        warnings.warn(f"{benchmark.root or benchmark.dataset}: expected pixels uint8 0..255, {got}", stacklevel=2)
    tasks = [_class_ids(classes, task_id, data.class_names) for task_id, classes in enumerate(benchmark.tasks)]
    # As in the paper: colour images are cropped and mirrored, grey ones cropped, permuted ones left alone.
    augmentation = Augmentation(crop_padding=4, flip=benchmark.flip and data.train_images.shape[3] == 3)
    if benchmark.dataset == "permuted_mnist":
        augmentation = Augmentation()
    data = replace(data, train_images=data.train_images.to(device), test_images=data.test_images.to(device))
    return cut_tasks(data, tasks, settings, augmentation)


def _check_keys(benchmark: Benchmark) -> None:
    """Check the data set's name, and that no key is given that it does not take. Raises UserError."""
    if benchmark.dataset not in DATA_SETS:
        raise UserError(f"dataset: expected one of {', '.join(DATA_SETS)}, got {short(benchmark.dataset)}")
    for key, taken_by in OWN_KEYS.items():
        if (value := getattr(benchmark, key)) is not None and benchmark.dataset not in taken_by:
            raise UserError(f"{key}: expected none for {benchmark.dataset}, got {short(str(value))}")


def _check_data(dataset: str, data: ImageData) -> None:
    """Check what a loader made; other types would train on wrong values. Raises UserError."""
    for part in ("train", "test"):
        images, classes = getattr(data, f"{part}_images"), getattr(data, f"{part}_classes")
        is_right = (images.dtype, classes.dtype) == (torch.uint8, torch.int64)
        if not is_right or images.shape[3:] not in ((1,), (3,)) or classes.shape != images.shape[:1]:
            shapes = " and ".join(f"{it.dtype} {list(it.shape)}" for it in (images, classes))
            expected = "tensors, uint8 [N, H, W, 1 or 3] and int64 [N]"
            raise UserError(f"{dataset}: expected {part} images and class ids as {expected}, got {shapes}")


def _class_ids(classes: Sequence[int | str], task_id: int, class_names: Sequence[str]) -> list[int]:
    """A task's classes, given by name (in any Unicode form) or by id, as ids of the data set. Raises UserError."""
    ids = {normalize("NFC", name): class_id for class_id, name in enumerate(class_names)}
    known = [ids.get(normalize("NFC", item), -1) if isinstance(item, str) else item for item in classes]
    for item, class_id in zip(classes, known, strict=True):
        if not 0 <= class_id < len(class_names):
            expected = f"a class of {short(list(class_names))}, or an id 0..{len(class_names) - 1}"
            raise UserError(f"tasks[{task_id}]: expected {expected}, got {short(item)}")
        if ids.get(str(item), class_id) != class_id:
            expected = f"class names in quotes, since {item} is the id of one class and the name of another"
            raise UserError(f"tasks[{task_id}]: expected {expected}, got {short(item)}")
    if len(set(known)) < len(known):  # once as a name and once as an id
        raise UserError(f"tasks[{task_id}]: expected each class once, got {short(list(classes))}")
    return known
