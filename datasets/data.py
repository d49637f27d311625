"""Images in memory once, tasks as views on them, and the minibatches a learner is trained on.

Letters: N images of a data set, M examples of a task, B examples of a minibatch, H x W x C pixels, K classes.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.config import Settings
from utils.errors import UserError, short
from utils.run_net import Minibatch
from utils.seeding import generator

_BLOCK_BYTES = 1 << 24  # of images that are read at once for a fingerprint


@dataclass(frozen=True)
class ImageData:
    """A data set in memory: uint8 images ``[N, H, W, C]``, and int64 class ids ``[N]`` that index ``class_names``.

    ``drawn_as`` gives each class a name for random draws (empty: its own name). Classes with the same name, such as the
    rotations of one digit, get the same draw of positions: their images must be in the same order.
    """

    train_images: Tensor
    train_classes: Tensor
    test_images: Tensor
    test_classes: Tensor
    class_names: tuple[str, ...]
    drawn_as: tuple[str, ...] = ()


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied: a random crop after zero padding of ``crop_padding`` pixels, a mirror image."""

    crop_padding: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Split:
    """A view on a data set: rows ``[M]`` of the shared ``images`` ``[N, H, W, C]``, and their labels in 0..K-1."""

    images: Tensor
    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Task:
    """A classification problem with classes of its own; label i is the i-th of ``class_names``.

    ``train`` and ``test`` are what a run uses; ``whole`` are all training and test images of the classes, if these are
    more.
    """

    task_id: int
    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    augmentation: Augmentation
    whole: tuple[Split, ...] = ()

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        height, width, channels = self.train.images.shape[1:]
        return channels, height, width

    @property
    def fingerprint(self) -> str:
        """A short digest of every image and label of the task's classes: it tells the task's data from others.

        It does not depend on the seed, ``samples`` or ``validation``, nor on whether the images are in memory, on a GPU
        or in a file that is mapped into memory. It takes about a second for each GB of images.
        """
        digest = hashlib.blake2b(digest_size=8)
        for split in self.whole or (self.train, self.test):
            digest.update(repr((self.image_shape, len(split))).encode())
            digest.update(split.labels.cpu().numpy().data)
            for rows in split.rows.split(max(1, _BLOCK_BYTES // split.images.shape[1:].numel())):
                digest.update(split.images.index_select(0, rows).flatten().cpu().numpy().data)
        return digest.hexdigest()


def cut_tasks(
    data: ImageData, tasks: Sequence[Sequence[int]], settings: Settings, augmentation: Augmentation
) -> list[Task]:
    """The tasks of a benchmark as views on its images.

    Args:
        data: The data set.
        tasks: Each task's class ids, in the order of its labels.
        settings: The task names, ``samples``, ``validation`` and the seed. They decide which training examples of a
            class are kept, or held out and scored in place of the test images: the same ones in every task that has
            the class, and for all variants of a class.
        augmentation: What may be done to a training image.

    Raises:
        UserError: A class has no training images or no test images, or too few to hold one out.
    """
    scored_images = data.train_images if settings.validation > 0 else data.test_images
    views = []
    for task_id, class_ids in enumerate(tasks):
        class_names = tuple(data.class_names[class_id] for class_id in class_ids)
        rows_by_label = (_rows_of_class(data, class_id, settings, task_id) for class_id in class_ids)
        train_rows, scored_rows = zip(*rows_by_label, strict=True)
        every_train = _view(data.train_images, [_rows_of(data.train_classes, class_id) for class_id in class_ids])
        every_test = _view(data.test_images, [_rows_of(data.test_classes, class_id) for class_id in class_ids])
        train, test = _view(data.train_images, train_rows), _view(scored_images, scored_rows)
        name, whole = settings.benchmark.names[task_id], (every_train, every_test)
        views.append(Task(task_id, name, class_names, train, test, augmentation, whole))
    return views


def _rows_of(classes: Tensor, class_id: int) -> Tensor:
    """The rows of a class's images, ascending."""
    return torch.nonzero(classes == class_id).flatten()


def _rows_of_class(data: ImageData, class_id: int, settings: Settings, task_id: int) -> tuple[Tensor, Tensor]:
    """The rows of a class's images that are trained on, and of those that are scored, ascending. Raises UserError."""
    train, test = _rows_of(data.train_classes, class_id), _rows_of(data.test_classes, class_id)
    needed = [("train", train, 2)] if settings.validation > 0 else [("train", train, 1), ("test", test, 1)]
    for part, rows, least in needed:
        if len(rows) < least:
            expected = f"{part} images of class {short(data.class_names[class_id])}, {least} at least"
            raise UserError(f"tasks[{task_id}]: expected {expected}, got {len(rows) or 'none'}")
    drawn_as = (data.drawn_as or data.class_names)[class_id]
    if settings.validation > 0:
        shuffled = train[torch.randperm(len(train), generator=generator(settings.seed, "validation", drawn_as))]
        num_held_out = min(max(1, round(settings.validation * len(train))), len(train) - 1)
        train, test = shuffled[num_held_out:], shuffled[:num_held_out]
    if settings.samples is not None:
        order = torch.randperm(len(train), generator=generator(settings.seed, "samples", drawn_as))
        train = train[order[: settings.samples]]
    return train.sort().values, test.sort().values


def _view(images: Tensor, rows_by_label: tuple[Tensor, ...] | list[Tensor]) -> Split:
    """The view on these rows of the images; label i is that of the i-th rows."""
    labels = torch.repeat_interleave(torch.tensor([len(rows) for rows in rows_by_label]))
    return Split(images, torch.cat(rows_by_label).to(images.device), labels.to(images.device))


def shuffled_by_label(labels: Tensor, generator: torch.Generator) -> Tensor:
    """The positions of all examples, label after label, in random order within each label: int64 ``[M]`` on the CPU."""
    order = torch.randperm(len(labels), generator=generator)
    return order[labels.cpu()[order].argsort(stable=True)]


def replay_subset(labels: Tensor, replay_frac: float, generator: torch.Generator) -> Tensor:
    """The training examples of a past task that may be used again.

    Args:
        labels: The labels of the task's training examples, int64 ``[M]``.
        replay_frac: The fraction kept: max(1, round(replay_frac * n)) of each class's n examples; 0 keeps none.
        generator: The task's own.

    Returns:
        Positions among the task's examples, ascending, int64 on the CPU.
    """
    least = 1 if replay_frac > 0 else 0
    by_label = shuffled_by_label(labels, generator).split(labels.cpu().bincount().tolist())
    kept = [positions[: max(least, round(replay_frac * len(positions)))] for positions in by_label]
    return torch.cat(kept).sort().values


def replay_repeats(labels: Tensor, repeats: float, generator: torch.Generator) -> Tensor:
    """Which examples of a replay subset a learner sees in an epoch, and how often.

    Systematic sampling: the examples lie in a row, label after label, and equally spaced picks with one random start
    are made from it. So each example is seen ``repeats`` times on average, rounded down or up, and so is each label
    as a whole. The total is repeats * M, rounded to a whole number.

    Args:
        labels: The labels of the subset, int64 ``[M]``, M > 0.
        repeats: How often each example is seen on average, at least 1.
        generator: The learner's own for this task.

    Returns:
        Positions in the subset, int64 on the CPU.
    """
    total = round(repeats * len(labels))
    by_label = shuffled_by_label(labels, generator)
    start = torch.randint(len(labels), (1,), generator=generator)
    picks_before = (torch.arange(len(labels) + 1) * total + start) // len(labels)  # whole numbers, hence exact
    return by_label.repeat_interleave(picks_before.diff())


class Minibatches:
    """A learner's training examples, pooled over its tasks, shuffled and cut anew each epoch.

    An epoch's order and augmentation depend on nothing but the run's seed, the round and the epoch's number, so that
    training can be taken up again in the middle of an epoch.

    Attributes:
        rows: The row of each example in the images, int64; an example that is used twice stands there twice.
    """

    def __init__(self, tasks: Sequence[Task], positions: Sequence[Tensor], settings: Settings, round_id: int):
        """Pool the examples.

        Args:
            tasks: The learner's tasks in the order of its heads; all are views on the same images.
            positions: For each task the examples used, as positions in ``task.train``; repetitions are allowed.
            settings: The run's settings. The last minibatch of an epoch may be smaller than ``settings.recipe.batch``.
            round_id: The learner's round.
        """
        self.images = tasks[0].train.images
        device = self.images.device
        used = [position.to(device) for position in positions]
        self.rows = torch.cat([task.train.rows[p] for task, p in zip(tasks, used, strict=True)])
        self.labels = torch.cat([task.train.labels[p] for task, p in zip(tasks, used, strict=True)])
        self.heads = torch.repeat_interleave(torch.tensor([len(p) for p in used])).to(device)
        self.batch_size = settings.recipe.batch
        is_plain = settings.epochs == 1 or settings.recipe.augment == "none"
        self.augmentation = Augmentation() if is_plain else tasks[0].augmentation
        self.seed, self.round_id = settings.seed, round_id

    def __len__(self) -> int:
        """Minibatches in an epoch."""
        return -(-len(self.rows) // self.batch_size)

    def order(self, epoch: int) -> Tensor:
        """The order of an epoch: each example once, positions in ``rows``, int64."""
        random = generator(self.seed, "round", self.round_id, "epoch", epoch, "order")
        return to_device(torch.randperm(len(self.rows), generator=random), self.rows.device)

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Minibatch]:
        """The minibatches of an epoch, from the ``first`` on."""
        order = self.order(epoch)
        rows, heads, labels = self.rows[order], self.heads[order], self.labels[order]
        random = generator(self.seed, "round", self.round_id, "epoch", epoch, "augmentation")
        crops = to_device(draw_crops(len(rows), self.augmentation, random), rows.device)
        for start in range(first * self.batch_size, len(rows), self.batch_size):
            batch = slice(start, start + self.batch_size)
            images = self.images.index_select(0, rows[batch])  # ten times as fast as self.images[rows[batch]]
            images = crop_and_flip(images, crops[batch], self.augmentation)
            yield Minibatch(images, heads[batch], labels[batch], rows[batch], order[batch])


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Values from the CPU on a device. A GPU fetches them from memory that is not moved, and nothing waits for it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def draw_crops(count: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Random crops, int64 ``[count, 3]``: the top row and left column in the padded image, and 1 for a mirror image."""
    offsets = torch.randint(0, 2 * augmentation.crop_padding + 1, (count, 2), generator=generator)
    mirrored = torch.randint(0, 2, (count, 1), generator=generator) * augmentation.flip
    return torch.cat([offsets, mirrored], dim=1)


def crop_and_flip(images: Tensor, crops: Tensor, augmentation: Augmentation) -> Tensor:
    """Augmented images, uint8 ``[B, H, W, C]`` as given, each cut and mirrored as its row of ``draw_crops`` says."""
    if augmentation == Augmentation():
        return images
    pad = augmentation.crop_padding
    batch, height, width, _ = images.shape
    example = torch.arange(batch, device=images.device)
    top, left, mirrored = crops.unbind(1)
    if augmentation.flip:  # the mirror images stand behind the images, and are cut from the other side
        images = torch.cat([images, images.flip(2)])
        example = example + batch * mirrored
        left = torch.where(mirrored == 1, 2 * pad - left, left)
    padded = F.pad(images, (0, 0, pad, pad, pad, pad))
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)  # a view: [2B, top, left, C, H, W]
    return windows.permute(0, 1, 2, 4, 5, 3)[example, top, left]
