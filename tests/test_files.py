import contextlib
import os
import re
import threading
import time
import urllib.request
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from datasets.cifar import load_cifar10, load_cifar100
from datasets.files import cached_array, memory_mapped, read_npz
from datasets.mnist import load_mnist
from tests.make_data import asked, make_torchvision_mnist, no_network, random_arrays, serve
from utils.errors import UserError, short


def npz(path, **changes):
    arrays = random_arrays() | changes
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    return path


def message_of(path, **options):
    with pytest.raises(UserError) as error:
        read_npz(path, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_read_npz_gives_images_with_a_channel_axis_and_int64_classes(tmp_path):
    arrays = random_arrays(shape=(5, 4))
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    read = read_npz(tmp_path / "a.npz")
    assert read.train_images.shape == (100, 5, 4, 1)
    assert np.array_equal(read.test_images.numpy()[..., 0], arrays["x_test"])
    assert read.test_classes.tolist() == arrays["y_test"].tolist()
    assert str(read.train_classes.dtype) == "torch.int64"


LAYOUTS = "expected the arrays x_train, y_train, x_test, y_test or train_images, train_labels, test_images, test_labels"
CLASSES = "expected one integer class id for each image, [100] or [100, 1]"
IMAGES = "expected uint8 images [N, 32, 32] or [N, 32, 32, 3], got"
BAD_ARRAYS = {
    "missing": ({"y_test": None}, f"{LAYOUTS}, found x_train [100, 32, 32, 3], y_train [100], x_test [50, 32, 32, 3]"),
    "dtype": ({"x_train": np.zeros((100, 32, 32, 3), np.float32)}, f"x_train: {IMAGES} float32 [100, 32, 32, 3]"),
    "no images": ({"x_test": np.zeros((50, 32), np.uint8)}, f"x_test: {IMAGES} uint8 [50, 32]"),
    "a number": ({"x_test": np.uint8(3)}, f"x_test: {IMAGES} uint8 []"),
    "channels first": ({"x_test": np.zeros((50, 3, 32, 32), np.uint8)}, f"x_test: {IMAGES} uint8 [50, 3, 32, 32]"),
    "none": ({"x_test": np.zeros((0, 32, 32, 3), np.uint8)}, f"x_test: {IMAGES} uint8 [0, 32, 32, 3]"),
    "side": ({"x_train": np.zeros((100, 28, 28), np.uint8)}, f"x_train: {IMAGES} uint8 [100, 28, 28]"),
    "two shapes": (
        {"x_test": np.zeros((50, 32, 32), np.uint8)},
        "expected training and test images of one shape, got [32, 32, 3] and [32, 32, 1]",
    ),
    "label type": ({"y_train": np.zeros(100)}, f"y_train: {CLASSES}, got float64 [100]"),
    "count": ({"y_train": np.zeros(99, int)}, f"y_train: {CLASSES}, got int64 [99]"),
    "label range": ({"y_test": np.full(50, 10)}, "y_test: expected class ids 0..9, got 10..10"),
    "negative": ({"y_test": np.full(50, -1)}, "y_test: expected class ids 0..9, got -1..-1"),
    "pickled": (
        {"y_test": np.array([print] * 50, dtype=object)},
        "expected a whole npz file, but it cannot be read (Obj",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_wrong_arrays_are_named(tmp_path, case):
    changes, message = BAD_ARRAYS[case]
    path = npz(tmp_path / "bad.npz", **changes)
    assert message_of(path, class_names="abcdefghij", side=32).startswith(f"{path}: {message}")


def medmnist(path, **changes):
    """An npz file as MedMNIST's are: labels ``[N, 1]``, and a part for validation."""
    arrays = random_arrays(shape=(28, 28), num_classes=3)
    names = {"x": "images", "y": "labels"}
    parts = {
        f"{part}_{names[kind]}": array
        for (kind, _, part), array in ((key.partition("_"), arrays[key]) for key in arrays)
    }
    parts = {key: array[:, None] if "labels" in key else array for key, array in parts.items()}
    parts |= {"val_images": parts["test_images"], "val_labels": parts["test_labels"]}
    return arrays, npz(path, **dict.fromkeys(arrays), **parts | changes)


def test_medmnists_files_are_read_and_their_validation_part_is_left_out_with_a_warning(tmp_path):
    arrays, path = medmnist(tmp_path / "breastmnist.npz")
    with pytest.warns(UserWarning, match="left out") as warned:
        read = read_npz(path)
    expected = f"{path}: these arrays are left out: ['val_images', 'val_labels']"
    assert [str(warning.message) for warning in warned] == [expected]
    assert np.array_equal(read.train_images[..., 0], arrays["x_train"])
    assert read.test_classes.tolist() == arrays["y_test"].tolist()
    assert read.class_names == ("0", "1", "2")


@pytest.mark.filterwarnings("ignore:.* left out")
def test_medmnists_files_of_other_kinds_are_refused_by_the_names_of_their_arrays(tmp_path):
    several, volumes = np.zeros((100, 14), np.uint8), np.zeros((50, 28, 28, 28), np.uint8)
    for changes, message in (
        ({"train_labels": several}, f"train_labels: {CLASSES}, got uint8 [100, 14]"),
        ({"test_images": volumes}, "test_images: expected uint8 images [N, H, W] or [N, H, W, 3], got uint8 [50, 28,"),
    ):
        _, path = medmnist(tmp_path / "chestmnist.npz", **changes)
        assert message_of(path).startswith(f"{path}: {message}")


def test_labels_in_a_column_are_read(tmp_path):
    arrays = random_arrays()
    path = npz(tmp_path / "cifar10.npz", **{key: arrays[key][:, None] for key in ("y_train", "y_test")})
    assert read_npz(path).train_classes.tolist() == arrays["y_train"].tolist()


def encrypted(content):
    directory = content.index(b"PK\x01\x02")
    return content[: directory + 8] + b"\x01" + content[directory + 9 :]


@pytest.mark.parametrize(
    "damage",
    [*(lambda content, keep=keep: content[:keep] for keep in (0, 10, 1000, -1)), encrypted, lambda _: b"\x93NUMPY"],
)
def test_a_damaged_npz_is_named(tmp_path, damage):
    path = npz(tmp_path / "bad.npz")
    path.write_bytes(damage(path.read_bytes()))
    assert message_of(path).startswith(f"{path}: expected a whole npz file, but it cannot be read (")


def test_members_that_are_no_arrays_do_not_count(tmp_path):
    path = npz(tmp_path / "a.npz", y_test=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y_test", "1 2 3")
    assert (
        message_of(path)
        == f"{path}: {LAYOUTS}, found x_train [100, 32, 32, 3], y_train [100], x_test [50, 32, 32, 3], y_test []"
    )


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), change=st.integers(1, 255), compressed=st.booleans())
def test_a_changed_byte_is_either_harmless_or_one_clear_error(tmp_path, place, change, compressed):
    arrays = random_arrays(num_train=4, num_test=2, shape=(3, 3), num_classes=2)
    path = tmp_path / "flipped.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content)
    try:
        assert np.array_equal(read_npz(path).train_images.numpy()[..., 0], arrays["x_train"])
    except UserError:
        assert message_of(path).startswith(str(path))


# ---- torchvision's files


MNIST_FILES = [f"{part}-ubyte" for part in ("t10k-images-idx3", "train-labels-idx1")]


@pytest.mark.parametrize(
    ("load", "place", "found"),
    [
        *(
            (load_mnist, "MNIST/raw/*ubyte*", [f"{where}{name}.gz" for name in MNIST_FILES])
            for where in ("", "MNIST/raw/")
        ),
        *((load_mnist, "MNIST/raw/*ubyte*", [where + name for name in MNIST_FILES]) for where in ("", "mnist/")),
        (load_cifar10, "cifar-10-*", ["cifar-10-python.tar.gz"]),
        (load_cifar100, "cifar-100-*", ["cifar-100-python.tar.gz"]),
        (load_cifar100, "cifar-100-*", ["cifar100/cifar-100-python.tar.gz"]),
    ],
)
def test_files_that_torchvision_would_have_to_unpack_or_does_not_look_for_are_named(tmp_path, load, place, found):
    for name in found:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError) as error:
        load(*asked(tmp_path))
    assert str(error.value).startswith(f"{load.__name__.removeprefix('load_')}: expected {tmp_path}/")
    expected = f"torchvision's {tmp_path}/{place}, whole and unpacked, found {short(found)}"
    assert str(error.value).endswith(f" or {expected}; run without --no_download and --dry_run")
    assert "\n" not in str(error.value)


def test_torchvisions_archives_are_unpacked_without_the_network(tmp_path, monkeypatch):
    arrays = random_arrays(shape=(28, 28))
    folder = make_torchvision_mnist(tmp_path, torchvision.datasets.MNIST, arrays, monkeypatch)
    for path in folder.glob("*ubyte"):
        path.unlink()
    no_network(monkeypatch)
    assert np.array_equal(load_mnist(*asked(tmp_path, download=True)).train_images[..., 0], arrays["x_train"])


def test_of_two_at_once_one_downloads_and_the_other_says_once_that_it_waits(tmp_path, monkeypatch):
    arrays, downloads, is_waiting = random_arrays(shape=(28, 28)), [], threading.Event()
    serve(make_torchvision_mnist(tmp_path / "source", torchvision.datasets.MNIST, arrays, monkeypatch), monkeypatch)
    urlopen = urllib.request.urlopen

    def slow_urlopen(request):
        downloads.append(request.full_url)
        assert is_waiting.wait(10)
        return urlopen(request)

    def show(message, *_):
        assert str(message) == f"{tmp_path}/new/.MNIST.lock: waiting for another process to download MNIST"
        assert not is_waiting.is_set()
        is_waiting.set()

    monkeypatch.setattr("urllib.request.urlopen", slow_urlopen)
    with ThreadPoolExecutor() as pool, warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        loaded = list(pool.map(lambda _: load_mnist(*asked(tmp_path / "new", download=True)), range(2)))
    assert len(downloads) == len({*downloads}) * 2 == 8  # torchvision asks twice for each of four files
    for data in loaded:
        assert np.array_equal(data.train_images[..., 0], arrays["x_train"])


def test_without_a_lock_there_is_a_download_and_without_a_download_no_lock(tmp_path, monkeypatch):
    arrays = random_arrays(shape=(28, 28))
    folder = make_torchvision_mnist(tmp_path / "here", torchvision.datasets.MNIST, arrays, monkeypatch)
    serve(folder, monkeypatch)
    (tmp_path / "new/.MNIST.lock").mkdir(parents=True)  # as on a file system that knows no locks
    for name in ("here", "new"):
        assert len(load_mnist(*asked(tmp_path / name, download=True)).train_images) == 100
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["MNIST"]


@pytest.mark.parametrize("download", [False, True])
def test_damaged_files_and_mistakes_in_the_program_are_not_told_as_missing_files(tmp_path, monkeypatch, download):
    arrays, mnist = random_arrays(shape=(28, 28)), torchvision.datasets.MNIST
    folder = make_torchvision_mnist(tmp_path, mnist, arrays, monkeypatch)
    no_network(monkeypatch)
    images = folder / "t10k-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"; reading or downloading these failed \(.*\); put whole files there$"):
        load_mnist(*asked(tmp_path, download=download))
    monkeypatch.setattr(mnist, "_load_data", lambda self: len(3))
    with pytest.raises(TypeError):
        load_mnist(*asked(tmp_path, download=download))


@pytest.mark.parametrize("closed", [False, True])
def test_torchvisions_files_are_read_without_a_screen(tmp_path, monkeypatch, closed):
    with Path(os.devnull).open("w") as stream:
        pass
    arrays = random_arrays(shape=(28, 28))
    make_torchvision_mnist(tmp_path, torchvision.datasets.MNIST, arrays, monkeypatch)
    monkeypatch.setattr("sys.stderr", stream if closed else None)
    assert len(load_mnist(*asked(tmp_path)).train_images) == 100


# ---- caches


def blocks():
    yield np.stack([np.full((2, 2, 1), i, np.uint8) for i in range(2)])
    yield np.full((1, 2, 2, 1), 2, np.uint8)


def test_a_cached_array_is_written_and_mapped(tmp_path):
    path = tmp_path / "images.npy"
    array = cached_array(path, (3, 2, 2, 1), blocks, keep=True)
    assert array[:, 0, 0, 0].tolist() == [0, 1, 2]
    array[0] = 99  # a private copy of that page
    assert np.array_equal(memory_mapped(path), np.concatenate(list(blocks())))
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode  # as readable as any new file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=re.escape(f"{path}: expected a whole cache file, but it cannot be read")):
        memory_mapped(path)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 127), change=st.integers(1, 255))
@example(place=61, change=0x10)  # numpy's reader of headers raises TokenError
@pytest.mark.filterwarnings("ignore:Reading `.npy`")  # numpy's, of a header that seems to be of Python 2
def test_a_changed_header_of_a_cache_is_either_harmless_or_one_clear_error(tmp_path, place, change):
    path = tmp_path / "images.npy"
    cached_array(path, (3, 2, 2, 1), blocks, keep=True)
    content = bytearray(path.read_bytes())
    content[place] ^= change
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        memory_mapped(path)


def test_what_killed_processes_left_is_removed_and_what_live_ones_write_is_kept(tmp_path):
    old, new = tmp_path / ".images.npy.1.part", tmp_path / ".images.npy.2.part"
    for part in (old, new):
        part.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    cached_array(tmp_path / "images.npy", (3, 2, 2, 1), blocks, keep=True)
    assert sorted(os.listdir(tmp_path)) == [new.name, "images.npy"]


def test_where_no_cache_can_be_written_the_array_is_held_with_a_warning(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "images.npy"
    with pytest.warns(UserWarning, match=re.escape(f"{path}: this cache could not be written")):
        array = cached_array(path, (3, 2, 2, 1), blocks, keep=True)
    assert array[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_where_no_cache_may_be_written_the_array_is_held(tmp_path):
    array = cached_array(tmp_path / "images.npy", (3, 2, 2, 1), blocks, keep=False)
    assert array[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert not list(tmp_path.iterdir())
