"""From what a benchmark file says to the list of its tasks."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from datasets.cifar import load_cifar10, load_cifar100
from datasets.custom import load_image_folder, load_npz
from datasets.data import Augmentation, DataError, ImageData, NamedGenerator, Task, cut_tasks
from datasets.digits import load_digits
from datasets.files import DataRequest
from datasets.mini_imagenet import load_mini_imagenet
from datasets.mnist import load_mnist
from datasets.modmnist import load_permuted_mnist, load_rotated_mnist

LOADERS: dict[str, Callable[[DataRequest], ImageData]] = {
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "mnist": load_mnist,
    "rotated_mnist": load_rotated_mnist,
    "permuted_mnist": load_permuted_mnist,
    "mini_imagenet": load_mini_imagenet,
    "digits": load_digits,
    "npz": load_npz,
    "image_folder": load_image_folder,
}


def build_dataset(
    dataset: str,
    tasks: Sequence[Sequence[int | str]],
    *,
    task_names: Sequence[str],
    data_dir: Path,
    download: bool,
    keep: bool,
    device: torch.device,
    named: NamedGenerator,
    flip: bool = True,
    root: Path | None = None,
    image_size: int | None = None,
    test_fraction: float | None = None,
    samples: int | None = None,
) -> list[Task]:
    """The tasks of a benchmark, views on images that are on ``device`` once.

    Args:
        dataset: a key of ``LOADERS``.
        tasks: each task's class ids (class names, too, where the data set is the user's own).
        task_names: each task's name.
        data_dir: where data sets are looked for, and downloaded to.
        download: whether the network may be used.
        keep: whether prepared images may be kept below ``data_dir``.
        device: where the images are to be.
        named: generators by name, for the choice of samples.
        flip: whether mirror images may serve as augmentation (of colour images; others are never mirrored).
        root, image_size, test_fraction: of the user's own data, see ``DataRequest``.
        samples: training examples kept per class; None keeps all.

    Raises:
        DataError: the data cannot be had, is damaged, or lacks a class that a task names.
    """
    class_ids = tuple(sorted({class_id for task in tasks for class_id in task if isinstance(class_id, int)}))
    request = DataRequest(data_dir, download, keep, class_ids, root, image_size, test_fraction, named)
    data = LOADERS[dataset](request)
    class_ids_of_tasks = [_class_ids(classes, task_id, data) for task_id, classes in enumerate(tasks)]
    augmentation = _augmentation(dataset, num_channels=data.train_images.shape[3], flip=flip)
    return cut_tasks(
        data.to(device),
        class_ids_of_tasks,
        names=task_names,
        augmentation=augmentation,
        samples=samples,
        named=named,
    )


def _class_ids(classes: Sequence[int | str], task_id: int, data: ImageData) -> list[int]:
    ids = {name: class_id for class_id, name in enumerate(data.class_names)}
    known = [ids.get(item, -1) if isinstance(item, str) else item for item in classes]
    for item, class_id in zip(classes, known, strict=True):
        if not 0 <= class_id < len(data.class_names):
            expected = f"one of {', '.join(data.class_names[:12])}" + (", ..." if len(data.class_names) > 12 else "")
            raise DataError(f"tasks[{task_id}]: expected a class of the data set ({expected}), got {item!r}")
        if ids.get(str(item), class_id) != class_id:
            both = f"which is the id of class {data.class_names[class_id]!r} and the name of another"
            raise DataError(f"tasks[{task_id}]: expected class names (in quotes) in place of {item}, {both}")
    if len(set(known)) < len(known):  # as a name and as an id
        raise DataError(f"tasks[{task_id}]: expected each class once, got {list(classes)}")
    return known


def _augmentation(dataset: str, *, num_channels: int, flip: bool) -> Augmentation:
    """As in the paper: colour images are cropped and mirrored, grey ones cropped, permuted ones left alone."""
    if dataset == "permuted_mnist":
        return Augmentation()
    return Augmentation(crop_padding=4, flip=flip and num_channels == 3)
