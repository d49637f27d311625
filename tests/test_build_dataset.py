import subprocess
import sys

import numpy as np
import pytest
import torch
import torchvision.datasets
import yaml

from datasets.build_dataset import LOADERS, build_dataset
from datasets.data import Augmentation, DataError
from tests.make_data import (
    REAL_DATA,
    ROOT,
    digest,
    make_image_folder,
    make_torchvision_cifar,
    named_by,
    random_arrays,
    request,
)
from tests.make_mini_imagenet import make_mini_imagenet
from tests.test_mini_imagenet import SMALL

CONFIGS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "config/dataset").glob("*.yaml"))}

# Digests of all images, class ids and class names; of real data where a file stands beside, else of small stand-ins.
REAL_FILES = {"cifar100": "cifar100", "mnist": "mnist", "rotated_mnist": "mnist", "permuted_mnist": "mnist"}
GOLDEN_DATA = {
    "cifar10": "a5e2459ec1bec30c",
    "cifar100": "e2ccc158c7a07110",
    "digits": "83791911a06f775e",
    "image_folder": "45a23678d0aa0da4",
    "mini_imagenet": "79448b604cea4ac3",
    "mnist": "30d022bbde5c3c13",
    "npz": "e4230d310f099fdf",
    "permuted_mnist": "57b19023cc13ef56",
    "rotated_mnist": "b8bad47db953afea",
}
# Digests of each benchmark's rows and labels, names, and first images, on the same data.
GOLDEN_BENCHMARKS = {
    "coarse_cifar100": "1deb3866da6a745a",
    "permuted_mnist": "82e4dc2ab4c5c2bb",
    "rotated_mnist": "62254d8ade88b0b5",
    "split_cifar10": "c3a0d882aa8ac377",
    "split_cifar100": "c692217a6c9b73e7",
    "split_digits": "fc2b8c1930ece9e8",
    "split_miniimagenet": "514f4b8e88cc4166",
    "split_mnist": "dcd58eb3c4a111bf",
}


@pytest.fixture
def data_dir(tmp_path, monkeypatch):
    """A function from a data set's name to the folder that has it; skips where only real data serve and are not there.

    What is not there in full is stood in for by small data sets in the same layout.
    """

    def folder_with(dataset):
        if dataset in REAL_FILES:
            path = REAL_DATA / f"{REAL_FILES[dataset]}.npz"
            if not path.exists():
                pytest.skip(f"needs real images, {path} is not there")
            return REAL_DATA
        if dataset == "cifar10":
            make_torchvision_cifar(tmp_path, torchvision.datasets.CIFAR10, random_arrays(), monkeypatch)
        if dataset == "mini_imagenet":
            make_mini_imagenet(tmp_path / "mini_imagenet", images_per_class=5, side=40)
            monkeypatch.setitem(LOADERS, "mini_imagenet", lambda asked, load=LOADERS[dataset]: load(asked, SMALL))
        return tmp_path

    return folder_with


def own_data(dataset, folder):
    """Options of the data sets that are the user's own."""
    if dataset == "npz":
        np.savez(folder / "mine.npz", **random_arrays())
        return {"root": folder / "mine.npz"}
    if dataset == "image_folder":
        root = make_image_folder(folder / "mine", ("ant", "bee", "cat"), sizes=((12, 10), (20, 30)))
        return {"root": root, "test_fraction": 0.4, "image_size": 8}
    return {}


def build(config, folder, **options):
    names = config.get("task_names", [f"task {i}" for i in range(len(config["tasks"]))])
    common = {"task_names": names, "data_dir": folder, "download": False, "keep": True}
    return build_dataset(
        config["dataset"],
        config["tasks"],
        **common | {"device": torch.device("cpu"), "named": named_by(0)} | options,
    )


def test_every_data_set_and_every_benchmark_has_a_golden_value():
    assert GOLDEN_DATA.keys() == LOADERS.keys()
    assert GOLDEN_BENCHMARKS.keys() == CONFIGS.keys()
    assert {config["dataset"] for config in CONFIGS.values()} == LOADERS.keys() - {"npz", "image_folder"}


@pytest.mark.parametrize("dataset", LOADERS)
def test_golden_images_and_classes(dataset, data_dir):
    folder = data_dir(dataset)
    class_ids = (0, 11, 42) if dataset in ("rotated_mnist", "permuted_mnist") else ()
    data = LOADERS[dataset](request(folder, class_ids=class_ids, **own_data(dataset, folder)))
    assert digest(*vars(data).values()) == GOLDEN_DATA[dataset]


@pytest.mark.parametrize("benchmark_name", CONFIGS)
def test_golden_rows_labels_and_first_images(benchmark_name, data_dir):
    config = CONFIGS[benchmark_name]
    tasks = build(config, data_dir(config["dataset"]))
    assert [task.name for task in tasks] == config["task_names"]
    assert [task.num_classes for task in tasks] == [len(classes) for classes in config["tasks"]]
    parts = [
        (task.name, task.class_names, part.rows, part.labels, part.images[part.rows[:8]])
        for task in tasks
        for part in (task.train, task.test)
    ]
    assert digest(*(value for part in parts for value in part)) == GOLDEN_BENCHMARKS[benchmark_name]


@pytest.mark.parametrize("benchmark_name", CONFIGS)
def test_configurations_are_experiment_cards(benchmark_name):
    config = CONFIGS[benchmark_name]
    text = (ROOT / f"config/dataset/{benchmark_name}.yaml").read_text()
    for part in ("# Source: ", "# Run:    python modelzoo.py ", f"{benchmark_name}.yaml", "# Expect: ", "# Ours:   "):
        assert part in text
    assert config.keys() == {"dataset", "tasks", "task_names"}
    assert len(config["task_names"]) == len(set(config["task_names"])) == len(config["tasks"])


@pytest.mark.parametrize(
    ("benchmark_name", "num_tasks", "num_classes"),
    [
        ("split_mnist", 5, 2),
        ("rotated_mnist", 5, 10),
        ("permuted_mnist", 5, 10),
        ("split_cifar10", 5, 2),
        ("split_cifar100", 20, 5),
        ("coarse_cifar100", 20, 5),
        ("split_miniimagenet", 20, 5),
        ("split_digits", 5, 2),
    ],
)
def test_benchmarks_are_those_of_the_paper(benchmark_name, num_tasks, num_classes):
    tasks = CONFIGS[benchmark_name]["tasks"]
    assert [len(classes) for classes in tasks] == [num_classes] * num_tasks
    in_order = sorted(class_id for classes in tasks for class_id in classes)
    assert in_order == list(range(num_tasks * num_classes))
    if benchmark_name != "coarse_cifar100":
        assert [class_id for classes in tasks for class_id in classes] == in_order


# ---- what a benchmark may say


@pytest.fixture
def own(tmp_path):
    return tmp_path, own_data("image_folder", tmp_path)


def test_classes_by_name_and_by_id_are_the_same(own):
    folder, options = own
    by_name = build({"dataset": "image_folder", "tasks": [["bee", "ant"], ["cat", "ant"]]}, folder, **options)
    by_id = build({"dataset": "image_folder", "tasks": [[1, 0], [2, 0]]}, folder, **options)
    for first, second in zip(by_name, by_id, strict=True):
        assert first.class_names == second.class_names
        assert torch.equal(first.train.rows, second.train.rows)


def test_tasks_may_differ_in_size(own):
    folder, options = own
    tasks = build({"dataset": "image_folder", "tasks": [["bee", "ant"], ["cat", "ant", "bee"]]}, folder, **options)
    assert [task.num_classes for task in tasks] == [2, 3]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["bee", "dog"], "tasks[0]: expected a class of the data set (one of ant, bee, cat), got 'dog'"),
        ([0, 3], "tasks[0]: expected a class of the data set (one of ant, bee, cat), got 3"),
        (["bee", 1], "tasks[0]: expected each class once, got ['bee', 1]"),
    ],
)
def test_classes_that_are_not_there_or_there_twice_are_named(own, classes, message):
    folder, options = own
    with pytest.raises(DataError) as error:
        build({"dataset": "image_folder", "tasks": [classes]}, folder, **options)
    assert str(error.value) == message


def test_an_id_that_is_another_class_s_name_is_refused(tmp_path):
    root = make_image_folder(tmp_path / "numbers", ("1", "2", "10"))  # by name 1, 10, 2
    options = {"root": root, "test_fraction": 0.4}
    with pytest.raises(DataError) as error:
        build({"dataset": "image_folder", "tasks": [[0, 1]]}, tmp_path, **options)
    both = "which is the id of class '10' and the name of another"
    assert str(error.value) == f"tasks[0]: expected class names (in quotes) in place of 1, {both}"
    (task,) = build({"dataset": "image_folder", "tasks": [["2", "10"]]}, tmp_path, **options)
    assert task.class_names == ("2", "10")


def test_colour_is_cropped_and_mirrored_grey_cropped_and_permuted_left_alone(tmp_path):
    np.savez(tmp_path / "mnist.npz", **random_arrays(shape=(28, 28)))
    np.savez(tmp_path / "cifar10.npz", **random_arrays())
    expected = {
        "cifar10": Augmentation(4, flip=True),
        "mnist": Augmentation(4),
        "rotated_mnist": Augmentation(4),
        "permuted_mnist": Augmentation(),
    }
    for dataset, augmentation in expected.items():
        assert build({"dataset": dataset, "tasks": [[0, 1]]}, tmp_path)[0].augmentation == augmentation
    colour = {"dataset": "cifar10", "tasks": [[0, 1]]}
    assert build(colour, tmp_path, flip=False)[0].augmentation == Augmentation(4)


def test_an_npz_needs_neither_torchvision_nor_pillow_nor_scikit_learn(tmp_path):
    np.savez(tmp_path / "mnist.npz", **random_arrays(shape=(28, 28)))
    program = (
        "import sys; from pathlib import Path; from datasets.build_dataset import LOADERS\n"
        "from datasets.files import DataRequest\n"
        f"request = DataRequest(Path({str(tmp_path)!r}), False, False, (0, 11), None, None, None, None)\n"
        "LOADERS['permuted_mnist'](request)\n"
        "print(sorted({'torchvision', 'PIL', 'sklearn', 'scipy'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"
