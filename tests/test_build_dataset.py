import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

from datasets.build_dataset import DATA_SETS, build_dataset
from datasets.data import Augmentation, ImageData
from tests import make_data
from tests.make_data import REAL_DATA, ROOT, asked, digest, make_image_folder, random_arrays, settings
from tests.make_mini_imagenet import make_mini_imagenet
from tests.small_runs import write_yaml
from tests.test_mini_imagenet import make_small
from utils.config import read_benchmark
from utils.errors import UserError

BENCHMARKS = {path.stem: read_benchmark(path) for path in sorted((ROOT / "config/dataset").glob("*.yaml"))}

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
            make_data.make_torchvision_cifar(tmp_path, torchvision.datasets.CIFAR10, random_arrays(), monkeypatch)
        if dataset == "mini_imagenet":
            make_mini_imagenet(tmp_path / "mini_imagenet", images_per_class=5, side=40)
            make_small(monkeypatch)
        return tmp_path

    return folder_with


def own_data(dataset, folder):
    """Keys of a benchmark on the user's own data."""
    if dataset == "npz":
        np.savez(folder / "mine.npz", **random_arrays())
        return {"root": folder / "mine.npz"}
    if dataset == "image_folder":
        root = make_image_folder(folder / "mine", ("ant", "bee", "cat"), sizes=((12, 10), (20, 30)))
        return {"root": root, "test_fraction": 0.4, "image_size": 8}
    return {}


def build(folder, *, benchmark=None, **keys):
    given, options = asked(folder, **keys)
    return build_dataset(settings(benchmark or given), options, torch.device("cpu"))


def message_of(folder, **keys):
    with pytest.raises(UserError) as error:
        build(folder, **keys)
    return str(error.value)


def test_every_data_set_and_every_benchmark_has_a_golden_value():
    assert GOLDEN_DATA.keys() == DATA_SETS.keys()
    assert GOLDEN_BENCHMARKS.keys() == BENCHMARKS.keys()
    assert {benchmark.dataset for benchmark in BENCHMARKS.values()} == DATA_SETS.keys() - {"npz", "image_folder"}


@pytest.mark.parametrize("dataset", DATA_SETS)
def test_golden_images_and_classes(dataset, data_dir):
    folder = data_dir(dataset)
    tasks = ((0, 1), (11, 12), (42, 43)) if dataset in ("rotated_mnist", "permuted_mnist") else ((0, 1),)
    data = DATA_SETS[dataset](*asked(folder, dataset=dataset, tasks=tasks, **own_data(dataset, folder)))
    values = [value for field, value in vars(data).items() if field != "drawn_as"]
    assert digest(*values) == GOLDEN_DATA[dataset]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_golden_rows_labels_and_first_images(name, data_dir):
    benchmark = BENCHMARKS[name]
    tasks = build(data_dir(benchmark.dataset), benchmark=benchmark)
    assert tuple(task.name for task in tasks) == benchmark.task_names
    assert [task.num_classes for task in tasks] == [len(classes) for classes in benchmark.tasks]
    parts = [
        (task.name, task.class_names, part.rows, part.labels, part.images[part.rows[:8]])
        for task in tasks
        for part in (task.train, task.test)
    ]
    assert digest(*(value for part in parts for value in part)) == GOLDEN_BENCHMARKS[name]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_are_those_of_the_paper(name):
    tasks = BENCHMARKS[name].tasks
    is_large = name in ("split_cifar100", "coarse_cifar100", "split_miniimagenet")
    num_tasks, num_classes = (20, 5) if is_large else (5, 10 if name in ("rotated_mnist", "permuted_mnist") else 2)
    assert [len(classes) for classes in tasks] == [num_classes] * num_tasks
    class_ids = [class_id for classes in tasks for class_id in classes]
    assert sorted(class_ids) == list(range(num_tasks * num_classes))
    assert name == "coarse_cifar100" or class_ids == sorted(class_ids)


# ---- what a benchmark may say


@pytest.fixture
def own(tmp_path):
    """A folder, and the keys of a benchmark on the image folder in it."""
    return tmp_path, {"dataset": "image_folder", **own_data("image_folder", tmp_path)}


def test_classes_by_name_and_by_id_are_the_same(own):
    folder, keys = own
    by_name = build(folder, tasks=(("bee", "ant"), ("cat", "ant", "bee")), **keys)
    by_id = build(folder, tasks=((1, 0), (2, 0, 1)), **keys)
    assert [task.class_names for task in by_name] == [("bee", "ant"), ("cat", "ant", "bee")]
    assert [task.fingerprint for task in by_name] == [task.fingerprint for task in by_id]


EXPECTED = "tasks[1]: expected a class of ['ant', 'bee', 'cat'], or an id 0..2, got "


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("bee", "dog"), f"{EXPECTED}'dog'"),
        ((0, 3), f"{EXPECTED}3"),
        ((0, -1), f"{EXPECTED}-1"),
        ((0, "x" * 500), f"{EXPECTED}'{'x' * 79}..."),
        (("bee", 1), "tasks[1]: expected each class once, got ['bee', 1]"),
    ],
)
def test_classes_that_are_not_there_or_there_twice_are_named(own, classes, message):
    folder, keys = own
    assert message_of(folder, tasks=((0, 1), classes), **keys) == message


def test_an_unknown_data_set_is_named(tmp_path):
    expected = "cifar10, cifar100, mnist, rotated_mnist, permuted_mnist, mini_imagenet, digits, npz, image_folder"
    assert message_of(tmp_path, dataset="cifar") == f"dataset: expected one of {expected}, got 'cifar'"


@pytest.mark.parametrize("dataset", DATA_SETS)
@pytest.mark.parametrize(("key", "value"), [("root", ROOT), ("image_size", 8), ("test_fraction", 0.5)])
def test_keys_that_a_data_set_does_not_take_are_refused(tmp_path, dataset, key, value):
    if dataset == "image_folder" or (dataset, key) == ("npz", "root"):
        return
    assert message_of(tmp_path, dataset=dataset, **{key: value}) == f"{key}: expected none for {dataset}, got '{value}'"


@pytest.mark.parametrize("dataset", ["npz", "image_folder"])
def test_own_data_need_a_root(tmp_path, dataset):
    assert message_of(tmp_path, dataset=dataset) == f"root: needed with dataset: {dataset}"


def test_an_id_that_is_another_class_s_name_is_refused(tmp_path):
    root = make_image_folder(tmp_path / "numbers", ("1", "2", "10"))  # by name 1, 10, 2
    keys = {"dataset": "image_folder", "root": root, "test_fraction": 0.4}
    expected = "class names in quotes, since 1 is the id of one class and the name of another"
    assert message_of(tmp_path, tasks=((0, 1),), **keys) == f"tasks[0]: expected {expected}, got 1"
    (task,) = build(tmp_path, tasks=(("2", "10"),), **keys)
    assert task.class_names == ("2", "10")


CAFE, CAFE_IN_PARTS = "caf\u00e9", "cafe\u0301"  # as most systems write it, and as a Mac does


@pytest.mark.parametrize(("on_disk", "in_yaml"), [(CAFE_IN_PARTS, CAFE), (CAFE, CAFE_IN_PARTS)])
def test_a_class_name_is_the_same_in_any_unicode_form(tmp_path, on_disk, in_yaml):
    root = make_image_folder(tmp_path / "places", ("bar", on_disk, "inn"))
    keys = {"dataset": "image_folder", "root": root, "test_fraction": 0.4}
    by_name, by_id = build(tmp_path, tasks=(("inn", in_yaml), (2, 1)), **keys)
    assert by_name.class_names == by_id.class_names == ("inn", on_disk)
    assert by_name.fingerprint == by_id.fingerprint
    message = message_of(tmp_path, tasks=((on_disk, in_yaml),), **keys)
    assert message == f"tasks[0]: expected each class once, got {[on_disk, in_yaml]}"


def test_task_names_that_differ_in_their_unicode_form_alone_are_refused(tmp_path):
    path = write_yaml(tmp_path / "x.yaml", dataset="digits", tasks=[[0, 1], [2, 3]], task_names=[CAFE, CAFE_IN_PARTS])
    with pytest.raises(UserError, match=r"x\.yaml: task_names: expected names that differ, also in Unicode's composed"):
        read_benchmark(path)


@pytest.mark.parametrize("name", ["01", "007", "+1", "0x10", "0o17", "-0"])
def test_names_that_look_like_numbers_stay_text(tmp_path, name):
    make_image_folder(tmp_path / "numbers", (name, "-1", "1", "7", "16", "no"))
    (tmp_path / "numbers.yaml").write_text(
        f"dataset: image_folder\nroot: numbers\ntest_fraction: 0.4\ntasks: [[{name}, no]]\n"
    )
    (task,) = build(tmp_path, benchmark=read_benchmark(tmp_path / "numbers.yaml"))
    assert task.class_names == (name, "no")


@pytest.mark.parametrize("word", ["1e5", "true", "null", "0.5"])
def test_a_name_that_yaml_reads_as_something_else_needs_quotes(tmp_path, word):
    (tmp_path / "x.yaml").write_text(f"dataset: image_folder\nroot: x\ntasks: [[{word}, no]]\n")
    with pytest.raises(
        UserError, match=r"x\.yaml: tasks\[0\]\[0\]: expected a class's id or name; .* needs quotes, got"
    ):
        read_benchmark(tmp_path / "x.yaml")


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
        assert build(tmp_path, dataset=dataset)[0].augmentation == augmentation
    assert build(tmp_path, dataset="cifar10", flip=False)[0].augmentation == Augmentation(4)


# ---- images divided by 255


def in_npz(folder, name, images):
    np.savez(folder / f"{name}.npz", **random_arrays() | {"x_train": images})
    own = {"dataset": "npz", "root": folder / "mine.npz"}
    return own if name == "mine" else {"dataset": name}


@pytest.mark.parametrize("name", ["mine", "cifar10"])
def test_training_images_without_a_pixel_above_1_are_told(tmp_path, name):
    images = random_arrays()["x_train"] // 128
    keys = in_npz(tmp_path, name, images)
    expected = f"{keys.get('root', name)}: expected pixels uint8 0..255, got none above 1 in the training images"
    with pytest.warns(UserWarning, match=re.escape(expected)):
        build(tmp_path, **keys)
    build(tmp_path, **in_npz(tmp_path, name, 255 * images))  # black and white: no warning
    images[-1, 0, 0, 0] = 2  # the last image tells
    build(tmp_path, **in_npz(tmp_path, name, images))


def test_an_image_folder_without_a_pixel_above_1_is_told(tmp_path):
    root = make_image_folder(tmp_path / "dark", ("ant", "bee"))
    for path in root.glob("*/*.png"):
        Image.fromarray(np.array(Image.open(path)) // 255).save(path)
    with pytest.warns(UserWarning, match=re.escape(f"{root}: expected pixels uint8 0..255, got none above 1")):
        build(tmp_path, dataset="image_folder", root=root, test_fraction=0.4)


def test_of_a_large_set_only_the_first_images_are_looked_at(tmp_path, monkeypatch):
    """A set whose pages could not be read: the file behind the map is all but empty."""
    images = torch.from_numpy(np.memmap(tmp_path / "large", np.uint8, "w+", shape=(10_000, 84, 84, 3)))
    images[50] = 255
    classes = torch.arange(10_000) % 2
    data = ImageData(images, classes, images[:2], classes[:2], ("a", "b"))
    monkeypatch.setitem(DATA_SETS, "digits", lambda benchmark, options: data)
    looked_at = []
    find_max = torch.Tensor.max
    monkeypatch.setattr(torch.Tensor, "max", lambda block: looked_at.append(len(block)) or find_max(block))
    build(tmp_path, dataset="digits")
    assert looked_at == [100]


def test_an_npz_needs_neither_torchvision_nor_scikit_learn(tmp_path):
    np.savez(tmp_path / "mnist.npz", **random_arrays(shape=(28, 28)))
    program = (
        "import sys; from pathlib import Path; from datasets.build_dataset import DATA_SETS\n"
        "from utils.config import Benchmark, Options\n"
        "benchmark = Benchmark(dataset='permuted_mnist', tasks=((0, 1), (10, 11)))\n"
        f"DATA_SETS['permuted_mnist'](benchmark, Options(data_dir=Path({str(tmp_path)!r})))\n"
        "print(sorted({'torchvision', 'sklearn', 'scipy'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


NOT_IMAGE_DATA = {
    "floats": (lambda images: images / 255, "torch.float32 [20, 8, 8, 1] and torch.int64 [20]"),
    "whole numbers of another type": (lambda images: images.short(), "torch.int16 [20, 8, 8, 1] and torch.int64 [20]"),
    "no channels": (lambda images: images[..., 0], "torch.uint8 [20, 8, 8] and torch.int64 [20]"),
    "channels first": (lambda images: images.permute(0, 3, 1, 2), "torch.uint8 [20, 1, 8, 8] and torch.int64 [20]"),
    "numpy": (lambda images: images.numpy(), "uint8 [20, 8, 8, 1] and torch.int64 [20]"),
    "fewer images than ids": (lambda images: images[:9], "torch.uint8 [9, 8, 8, 1] and torch.int64 [20]"),
}


@pytest.mark.parametrize(("spoil", "got"), NOT_IMAGE_DATA.values(), ids=NOT_IMAGE_DATA)
@pytest.mark.parametrize("part", ["train", "test"])
def test_what_a_loader_must_not_give_is_one_line(tmp_path, monkeypatch, part, spoil, got):
    images, classes = torch.full((20, 8, 8, 1), 9, dtype=torch.uint8), torch.arange(20) % 2
    data = ImageData(images, classes, images, classes, ("a", "b"))
    monkeypatch.setitem(DATA_SETS, "mine", lambda *_: replace(data, **{f"{part}_images": spoil(images)}))
    expected = (
        f"mine: expected {part} images and class ids as tensors, uint8 [N, H, W, 1 or 3] and int64 [N], got {got}"
    )
    assert message_of(tmp_path, dataset="mine") == expected


def test_class_ids_of_another_type_are_one_line(tmp_path, monkeypatch):
    images, classes = torch.full((20, 8, 8, 3), 9, dtype=torch.uint8), torch.arange(20) % 2
    data = ImageData(images, classes.int(), images, classes, ("a", "b"))
    monkeypatch.setitem(DATA_SETS, "mine", lambda *_: data)
    assert message_of(tmp_path, dataset="mine").endswith("got torch.uint8 [20, 8, 8, 3] and torch.int32 [20]")
