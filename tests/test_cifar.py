import re

import numpy as np
import pytest
import torchvision.datasets
import yaml

from datasets.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES, load_cifar10, load_cifar100
from datasets.data import DataError
from datasets.files import FETCH
from tests.make_data import ROOT, make_torchvision_cifar, no_network, random_arrays, request, serve

SETS = {
    "cifar10": (load_cifar10, torchvision.datasets.CIFAR10, 10),
    "cifar100": (load_cifar100, torchvision.datasets.CIFAR100, 100),
}

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


@pytest.fixture(params=SETS)
def archive(request, tmp_path, monkeypatch):
    """A small CIFAR in torchvision's layout: its name, loader, torchvision class, arrays, folder."""
    load, torchvision_set, num_classes = SETS[request.param]
    arrays = random_arrays(num_classes=num_classes)
    folder = make_torchvision_cifar(tmp_path, torchvision_set, arrays, monkeypatch)
    return request.param, load, torchvision_set, arrays, folder


def assert_holds(data, arrays):
    assert np.array_equal(data.train_images, arrays["x_train"])
    assert np.array_equal(data.test_images, arrays["x_test"])
    assert data.train_classes.tolist() == arrays["y_train"].tolist()
    assert data.test_classes.tolist() == arrays["y_test"].tolist()
    assert data.train_images.is_contiguous()


def test_class_names_are_sorted_and_unique():
    assert len(set(CIFAR100_CLASSES)) == 100
    assert list(CIFAR100_CLASSES) == sorted(CIFAR100_CLASSES)
    assert len(CIFAR10_CLASSES) == 10


def test_the_super_classes_are_the_right_fine_classes():
    config = yaml.safe_load((ROOT / "config/dataset/coarse_cifar100.yaml").read_text())
    by_name = {
        name: " ".join(CIFAR100_CLASSES[class_id] for class_id in task)
        for name, task in zip(config["task_names"], config["tasks"], strict=True)
    }
    assert by_name == SUPER_CLASSES
    assert list(by_name) == sorted(by_name)


def test_torchvisions_files_are_read(archive, tmp_path):
    _, load, _, arrays, _ = archive
    assert_holds(load(request(tmp_path)), arrays)


def test_an_npz_comes_first(archive, tmp_path):
    name, load, _, _, _ = archive
    arrays = random_arrays(seed=1)
    np.savez(tmp_path / f"{name}.npz", **arrays)
    assert_holds(load(request(tmp_path)), arrays)


def test_a_missing_set_is_downloaded_and_checked(archive, tmp_path, monkeypatch):
    _, load, torchvision_set, arrays, _ = archive
    serve(tmp_path, monkeypatch)
    assert_holds(load(request(tmp_path / "new", download=True)), arrays)
    monkeypatch.setattr(torchvision_set, "tgz_md5", "0" * 32)
    with pytest.raises(DataError, match=r"could not be downloaded \(File not found or corrupted"):
        load(request(tmp_path / "newer", download=True))


def test_a_missing_set_is_named_without_download(archive, tmp_path):
    name, load, torchvision_set, _, _ = archive
    with pytest.raises(DataError) as error:
        load(request(tmp_path / "none"))
    assert str(error.value) == (
        f"{name}: expected in --data_dir {tmp_path}/none, found neither npz nor whole folder; put it at "
        f"{tmp_path}/none/{name}.npz (x_train, y_train, x_test, y_test) or torchvision's files in "
        f"{tmp_path}/none/{torchvision_set.base_folder}, or {FETCH}"
    )


def test_without_network_the_error_says_where_to_put_which_file(archive, tmp_path, monkeypatch):
    name, load, torchvision_set, _, _ = archive
    no_network(monkeypatch)
    with pytest.raises(DataError) as error:
        load(request(tmp_path / "none", download=True))
    assert str(error.value) == (
        f"{name}: could not be downloaded (<urlopen error Name or service not known>); put it at "
        f"{tmp_path}/none/{name}.npz (x_train, y_train, x_test, y_test) or torchvision's files in "
        f"{tmp_path}/none/{torchvision_set.base_folder}"
    )


@pytest.mark.parametrize("part", ["train", "test", "meta"])
def test_a_damaged_file_is_named_and_not_opened(archive, tmp_path, part):
    _, load, torchvision_set, _, folder = archive
    lists = {"train": torchvision_set.train_list, "test": torchvision_set.test_list}
    filename, md5 = (
        lists[part][-1] if part in lists else (torchvision_set.meta["filename"], torchvision_set.meta["md5"])
    )
    with (folder / filename).open("ab") as file:
        file.write(b"!")
    with pytest.raises(DataError, match=re.escape(f"{folder / filename}: expected MD5 {md5}, got ")) as error:
        load(request(tmp_path))
    assert str(error.value).endswith(f"; put a whole one there, or delete it and {FETCH}")


def test_a_folder_that_lacks_a_file_counts_as_absent(archive, tmp_path):
    _, load, torchvision_set, _, folder = archive
    (folder / torchvision_set.test_list[0][0]).unlink()
    with pytest.raises(DataError, match="found neither npz nor whole folder"):
        load(request(tmp_path))


def test_labels_out_of_range_are_named(tmp_path, monkeypatch):
    arrays = random_arrays(num_classes=11)
    folder = make_torchvision_cifar(tmp_path, torchvision.datasets.CIFAR10, arrays, monkeypatch)
    with pytest.raises(DataError) as error:
        load_cifar10(request(tmp_path))
    assert str(error.value) == f"{folder}: y_train: expected class ids 0..9, got 0..10"
