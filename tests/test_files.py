import os
import re
import time
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.data import DataError
from datasets.files import cached_array, read_npz, written_whole
from tests.make_data import random_arrays


def npz(path, **changes):
    arrays = random_arrays() | changes
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    return path


def test_read_npz_gives_images_with_a_channel_axis_and_int64_classes(tmp_path):
    arrays = random_arrays(shape=(5, 4))
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    read = read_npz(tmp_path / "a.npz", num_classes=10)
    assert read["x_train"].shape == (100, 5, 4, 1)
    assert np.array_equal(read["x_test"].numpy()[..., 0], arrays["x_test"])
    assert read["y_test"].tolist() == arrays["y_test"].tolist()
    assert str(read["y_train"].dtype) == "torch.int64"


BAD_ARRAYS = {
    "missing": ({"y_test": None}, "expected the arrays x_train, y_train, x_test, y_test, got no y_test"),
    "dtype": ({"x_train": np.zeros((100, 32, 32, 3), np.float32)}, "x_train: expected uint8, got float32"),
    "no images": (
        {"x_test": np.zeros((50, 32), np.uint8)},
        "x_test: expected images [N, H, W] or [N, H, W, 3], got [50, 32]",
    ),
    "a number": ({"x_test": np.uint8(3)}, "x_test: expected images [N, H, W] or [N, H, W, 3], got []"),
    "channels first": (
        {"x_test": np.zeros((50, 3, 32, 32), np.uint8)},
        "x_test: expected images [N, H, W] or [N, H, W, 3], got [50, 3, 32, 32]",
    ),
    "none": (
        {"x_test": np.zeros((0, 32, 32, 3), np.uint8)},
        "x_test: expected images [N, H, W] or [N, H, W, 3], got [0, 32, 32, 3]",
    ),
    "side": ({"x_train": np.zeros((100, 28, 28), np.uint8)}, "x_train: expected 32 x 32 pixels, got 28 x 28"),
    "two shapes": (
        {"x_test": np.zeros((50, 32, 32), np.uint8)},
        "expected training and test images of one shape, got [32, 32, 3] and [32, 32]",
    ),
    "label type": ({"y_train": np.zeros(100)}, "y_train: expected integer class ids [N], got float64 [100]"),
    "label shape": (
        {"y_train": np.zeros((100, 1), int)},
        "y_train: expected integer class ids [N], got int64 [100, 1]",
    ),
    "label range": ({"y_test": np.full(50, 10)}, "y_test: expected class ids 0..9, got 10..10"),
    "negative": ({"y_test": np.full(50, -1)}, "y_test: expected class ids 0..9, got -1..-1"),
    "count": ({"y_train": np.zeros(99, int)}, "expected a class id for each image, got 100 x_train and 99 y_train"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_wrong_arrays_are_named(tmp_path, case):
    changes, message = BAD_ARRAYS[case]
    path = npz(tmp_path / "bad.npz", **changes)
    with pytest.raises(DataError) as error:
        read_npz(path, num_classes=10, side=32)
    assert str(error.value) == f"{path}: {message}"


def test_pickled_arrays_are_refused(tmp_path):
    path = npz(tmp_path / "bad.npz", y_test=np.array([print] * 50, dtype=object))
    with pytest.raises(
        DataError, match=re.escape(f"{path}: expected an npz file, but it cannot be read (Object arrays")
    ):
        read_npz(path)


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_a_truncated_npz_is_named(tmp_path, keep):
    path = npz(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError) as error:
        read_npz(path)
    assert str(error.value) == f"{path}: expected an npz file, but it is cut off, or none at all; fetch it again"


def test_a_npy_file_is_no_npz_file(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match="expected an npz file"):
        read_npz(tmp_path / "one.npy")


def read_or_error(path):
    try:
        return read_npz(path), None
    except DataError as error:
        return None, str(error)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), change=st.integers(1, 255), compressed=st.booleans())
def test_a_changed_byte_is_either_harmless_or_one_clear_error(tmp_path, place, change, compressed):
    arrays = random_arrays(num_train=4, num_test=2, shape=(3, 3), num_classes=2)
    path = tmp_path / "flipped.npz"
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= change
    path.write_bytes(content)
    read, error = read_or_error(path)
    if error is None:
        assert np.array_equal(read["x_train"].numpy()[..., 0], arrays["x_train"])
    else:
        assert error.startswith(str(path))
        assert "\n" not in error


# ---- files that appear whole


def test_a_file_appears_when_its_block_ends(tmp_path):
    path = tmp_path / "sub" / "file"
    with written_whole(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert os.listdir(path.parent) == ["file"]


def test_nothing_is_left_of_a_file_whose_block_fails(tmp_path):
    def interrupted():
        with written_whole(tmp_path / "file") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_parts_of_killed_processes_are_removed_and_those_of_live_ones_kept(tmp_path):
    old, new = tmp_path / "file.abc.part", tmp_path / "file.xyz.part"
    for part in (old, new):
        part.touch()
    os.utime(old, (time.time() - 7200,) * 2)
    with written_whole(tmp_path / "file"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["file", "file.xyz.part"]


def blocks():
    yield 2, np.full((1, 2, 2, 1), 2, np.uint8)
    yield 0, np.stack([np.full((2, 2, 1), i, np.uint8) for i in range(2)])


def test_a_cached_array_is_written_once_and_then_read(tmp_path):
    path = tmp_path / "images.npy"
    first = cached_array(path, (3, 2, 2, 1), blocks)
    second = cached_array(path, (3, 2, 2, 1), lambda: pytest.fail("made again"))
    for array in (first, second):
        assert array[:, 0, 0, 0].tolist() == [0, 1, 2]
    second[0] = 99  # a private copy of that page
    assert np.load(path)[0, 0, 0, 0] == 0


def test_where_no_cache_can_be_written_the_array_is_held_with_a_warning(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "images.npy"
    with pytest.warns(UserWarning, match=re.escape(f"{path}: this cache could not be written")):
        array = cached_array(path, (3, 2, 2, 1), blocks)
    assert array[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_where_no_cache_may_be_written_the_array_is_held(tmp_path):
    array = cached_array(tmp_path / "images.npy", (3, 2, 2, 1), blocks, keep=False)
    assert array[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert not list(tmp_path.iterdir())


def test_a_damaged_cache_is_named(tmp_path):
    path = tmp_path / "images.npy"
    cached_array(path, (3, 2, 2, 1), blocks)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=re.escape(f"{path}: this cache is damaged")):
        cached_array(path, (3, 2, 2, 1), blocks)


def test_a_cache_is_as_readable_as_any_new_file(tmp_path):
    (tmp_path / "other").touch()
    cached_array(tmp_path / "images.npy", (3, 2, 2, 1), blocks)
    assert (tmp_path / "images.npy").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_an_npz_with_a_member_that_is_no_array_is_refused(tmp_path):
    path = npz(tmp_path / "a.npz", y_test=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y_test", "1 2 3")
    with pytest.raises(DataError, match="got no y_test"):
        read_npz(path)


def test_an_encrypted_npz_is_refused(tmp_path):
    path = npz(tmp_path / "a.npz")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption in the archive's directory
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"it cannot be read \(.*encrypted"):
        read_npz(path)


def test_an_npz_is_a_zip_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    with pytest.raises(DataError, match="got no x_train, y_train, x_test, y_test"):
        read_npz(tmp_path / "other.npz")
