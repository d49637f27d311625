import pickle
import re

import numpy as np
import pytest
import torchvision.datasets
import yaml

from datasets.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES, load_cifar10, load_cifar100
from datasets.files import npz_or_torchvision
from datasets.mnist import load_mnist
from tests import make_data
from tests.make_data import ROOT, asked, no_network, random_arrays, serve
from tests.test_docs import blocks
from utils.errors import UserError

CIFAR = (torchvision.datasets.CIFAR10, torchvision.datasets.CIFAR100)
SVHN = torchvision.datasets.SVHN
ON_THE_PAGE = {}  # the loader that the page shows
exec(*blocks("extending.md", "python"), ON_THE_PAGE)


def load_fashion_mnist(benchmark, options):
    names, files = ("fashion_mnist", "FashionMNIST"), "FashionMNIST/raw/*ubyte*"
    return npz_or_torchvision(*names, options, class_names=tuple("0123456789"), side=28, files=files)


LOAD = {
    CIFAR[0]: load_cifar10,
    CIFAR[1]: load_cifar100,
    torchvision.datasets.MNIST: load_mnist,
    torchvision.datasets.FashionMNIST: load_fashion_mnist,
    SVHN: ON_THE_PAGE["load_svhn"],
}
NAMES = {torchvision_set: load.__name__.removeprefix("load_") for torchvision_set, load in LOAD.items()}
PLACES = ("cifar-10-*", "cifar-100-*", "MNIST/raw/*ubyte*", "FashionMNIST/raw/*ubyte*", "*_32x32.mat")
FILES = dict(zip(LOAD, PLACES, strict=True))

SUPER_CLASSES = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "household electrical devices": "clock keyboard lamp telephone television",
    "household furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "large man-made outdoor things": "bridge castle house road skyscraper",
    "large natural outdoor scenes": "cloud forest mountain plain sea",
    "large omnivores and herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium-sized mammals": "fox porcupine possum raccoon skunk",
    "non-insect invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}


def make(data_dir, torchvision_set, arrays, monkeypatch):
    """A small data set in torchvision's layout; returns the folders of its files and of its archives."""
    if torchvision_set in CIFAR:
        return make_data.make_torchvision_cifar(data_dir, torchvision_set, arrays, monkeypatch), data_dir
    make_files = make_data.make_torchvision_svhn if torchvision_set is SVHN else make_data.make_torchvision_mnist
    return (make_files(data_dir, torchvision_set, arrays, monkeypatch),) * 2


def arrays_of(torchvision_set, seed=0):
    return random_arrays(shape=(32, 32, 3) if torchvision_set in (*CIFAR, SVHN) else (28, 28), seed=seed)


def assert_holds(data, arrays):
    for part in ("train", "test"):
        images, classes = getattr(data, f"{part}_images"), getattr(data, f"{part}_classes")
        assert np.array_equal(images.squeeze(3) if images.shape[3] == 1 else images, arrays[f"x_{part}"])
        assert images.is_contiguous()
        assert classes.tolist() == arrays[f"y_{part}"].tolist()


def test_the_super_classes_are_the_right_fine_classes():
    assert len(CIFAR10_CLASSES) == 10
    assert list(CIFAR100_CLASSES) == sorted(set(CIFAR100_CLASSES))
    config = yaml.safe_load((ROOT / "config/dataset/coarse_cifar100.yaml").read_text())
    by_name = {
        name: " ".join(CIFAR100_CLASSES[class_id] for class_id in task)
        for name, task in zip(config["task_names"], config["tasks"], strict=True)
    }
    assert by_name == SUPER_CLASSES
    assert list(by_name) == sorted(by_name)


@pytest.mark.parametrize("torchvision_set", LOAD)
def test_an_npz_comes_first_then_torchvisions_files_then_a_download(tmp_path, monkeypatch, torchvision_set):
    load, arrays, others = LOAD[torchvision_set], arrays_of(torchvision_set), arrays_of(torchvision_set, seed=1)
    _, archives = make(tmp_path, torchvision_set, arrays, monkeypatch)
    assert_holds(load(*asked(tmp_path)), arrays)
    serve(archives, monkeypatch)
    assert_holds(load(*asked(tmp_path / "new", download=True)), arrays)
    np.savez(tmp_path / f"{NAMES[torchvision_set]}.npz", **others)
    assert_holds(load(*asked(tmp_path)), others)


@pytest.mark.parametrize("torchvision_set", LOAD)
def test_a_missing_set_is_named_with_what_may_be_done(tmp_path, monkeypatch, torchvision_set):
    no_network(monkeypatch)
    name, files = NAMES[torchvision_set], FILES[torchvision_set]
    expected = f"{tmp_path}/{name}.npz (x_train, y_train, x_test, y_test) or torchvision's {tmp_path}/{files}"
    begins = f"{name}: expected {expected}, whole and unpacked, found none; "
    with pytest.raises(UserError) as error:
        LOAD[torchvision_set](*asked(tmp_path))
    assert str(error.value) == f"{begins}run without --no_download and --dry_run"
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError) as error:
        LOAD[torchvision_set](*asked(tmp_path, download=True))
    assert str(error.value).startswith(f"{begins}reading or downloading these failed (")
    assert "Name or service not known" in str(error.value)
    assert str(error.value).endswith("); put whole files there")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("torchvision_set", CIFAR)
@pytest.mark.parametrize("part", ["train", "test", "meta"])
def test_a_file_with_another_checksum_is_never_opened_but_mended(tmp_path, monkeypatch, torchvision_set, part):
    load, arrays = LOAD[torchvision_set], arrays_of(torchvision_set)
    folder, archives = make(tmp_path, torchvision_set, arrays, monkeypatch)
    files = {"train": torchvision_set.train_list[-1][0], "test": torchvision_set.test_list[0][0]}
    touched = tmp_path / "touched"
    path = folder / files.get(part, torchvision_set.meta["filename"])
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(touched).encode() + b"'\ntR.")
    with pytest.raises(UserError, match=re.escape(f", found ['{folder.name}'")) as error:
        load(*asked(tmp_path))
    assert "run without" not in str(error.value)
    assert str(error.value).endswith("; put whole files there")
    assert "\n" not in str(error.value)
    assert not touched.exists()
    pickle.loads(path.read_bytes())
    assert touched.exists()
    serve(archives, monkeypatch)
    if part != "meta":  # which torchvision does not look at before it downloads
        assert_holds(load(*asked(tmp_path, download=True)), arrays)
    monkeypatch.setattr(torchvision_set, "tgz_md5", "0" * 32)
    with pytest.raises(UserError, match=r"downloading these failed \(File not found or corrupted"):
        load(*asked(tmp_path / "newer", download=True))


def test_labels_out_of_range_are_named(tmp_path, monkeypatch):
    arrays = random_arrays(num_classes=11)
    make_data.make_torchvision_cifar(tmp_path, torchvision.datasets.CIFAR10, arrays, monkeypatch)
    with pytest.raises(UserError) as error:
        load_cifar10(*asked(tmp_path))
    assert str(error.value) == f"{tmp_path}: torchvision's CIFAR10: y_train: expected class ids 0..9, got 0..10"
