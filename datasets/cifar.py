"""CIFAR-10 and CIFAR-100: 32 x 32 colour images, 50,000 to train and 10,000 to test (Krizhevsky 2009)."""

import functools
import hashlib
from pathlib import Path
from typing import Any

from datasets.data import ImageData
from datasets.files import DataRequest, npz_or_torchvision

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_CLASSES = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm""".split()
)


def load_cifar10(request: DataRequest) -> ImageData:
    """CIFAR-10, uint8 ``[50000 and 10000, 32, 32, 3]``. Raises DataError where it cannot be had."""
    return npz_or_torchvision(
        "cifar10",
        request,
        class_names=CIFAR10_CLASSES,
        side=32,
        torchvision_set="CIFAR10",
        layout="cifar-10-batches-py",
        damage=_damage,
    )


def load_cifar100(request: DataRequest) -> ImageData:
    """CIFAR-100 with its fine labels, uint8 ``[50000 and 10000, 32, 32, 3]``. Raises DataError where it is not had."""
    return npz_or_torchvision(
        "cifar100",
        request,
        class_names=CIFAR100_CLASSES,
        side=32,
        torchvision_set="CIFAR100",
        layout="cifar-100-python",
        damage=_damage,
    )


def _damage(torchvision_set: Any, folder: Path) -> str | None:
    """The first file whose checksum is not torchvision's. They are pickles: only the known ones are ever opened."""
    meta = (torchvision_set.meta["filename"], torchvision_set.meta["md5"])
    for filename, md5 in [*torchvision_set.train_list, *torchvision_set.test_list, meta]:
        path = folder / filename
        if path.exists():
            with path.open("rb") as file:
                got = hashlib.file_digest(file, functools.partial(hashlib.md5, usedforsecurity=False)).hexdigest()
            if got != md5:
                return f"{path}: expected MD5 {md5}, got {got}"
    return None
