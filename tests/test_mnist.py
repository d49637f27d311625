import re

import numpy as np
import pytest
import torchvision.datasets

from datasets.data import DataError
from datasets.files import FETCH
from datasets.mnist import load_mnist
from tests.make_data import make_torchvision_mnist, no_network, random_arrays, request, serve

MNIST = torchvision.datasets.MNIST


@pytest.fixture
def arrays():
    return random_arrays(shape=(28, 28))


@pytest.fixture
def folder(tmp_path, arrays, monkeypatch):
    return make_torchvision_mnist(tmp_path, MNIST, arrays, monkeypatch)


def assert_holds(data, arrays):
    assert np.array_equal(data.train_images[..., 0], arrays["x_train"])
    assert np.array_equal(data.test_images[..., 0], arrays["x_test"])
    assert data.train_classes.tolist() == arrays["y_train"].tolist()
    assert data.test_classes.tolist() == arrays["y_test"].tolist()
    assert data.class_names == tuple("0123456789")


def test_torchvisions_files_are_read(tmp_path, arrays, folder):
    assert_holds(load_mnist(request(tmp_path)), arrays)


def test_an_npz_comes_first(tmp_path, folder):
    other = random_arrays(shape=(28, 28), seed=1)
    np.savez(tmp_path / "mnist.npz", **other)
    assert_holds(load_mnist(request(tmp_path)), other)


def test_a_missing_set_is_downloaded(tmp_path, arrays, folder, monkeypatch):
    serve(folder, monkeypatch)
    assert_holds(load_mnist(request(tmp_path / "new", download=True)), arrays)


def test_without_network_the_error_is_one_line(tmp_path, monkeypatch):
    no_network(monkeypatch)
    with pytest.raises(DataError) as error:
        load_mnist(request(tmp_path, download=True))
    assert str(error.value) == (
        "mnist: could not be downloaded (Error downloading train-images-idx3-ubyte.gz: "
        "Tried https://ossci-datasets.s3.amazonaws.com/mnist/, got: <urlopen error Name or service not known> "
        "Tried http://yann.lecun.com/exdb/mnist/, got: <urlopen error Name or service not known>); "
        f"put it at {tmp_path}/mnist.npz (x_train, y_train, x_test, y_test) "
        f"or torchvision's files in {tmp_path}/MNIST/raw"
    )


def test_a_missing_set_is_named_without_download(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"mnist: expected in --data_dir {tmp_path}, found neither")):
        load_mnist(request(tmp_path))


@pytest.mark.parametrize(
    ("name", "keep", "what"),
    [
        ("train-images-idx3-ubyte", 5000, "expected 78416 bytes, got 5000"),
        ("t10k-labels-idx1-ubyte", 57, "expected 58 bytes, got 57"),
        (
            "t10k-images-idx3-ubyte",
            3,
            "expected the header of an idx file of uint8 with 3 axes, got b'\\x00\\x00\\x08'",
        ),
        ("train-labels-idx1-ubyte", 0, "expected the header of an idx file of uint8 with 1 axes, got b''"),
    ],
)
def test_a_truncated_file_is_named(tmp_path, folder, name, keep, what):
    path = folder / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError) as error:
        load_mnist(request(tmp_path, download=True))
    assert str(error.value) == f"{path}: {what}; put a whole one there, or delete it and {FETCH}"


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x02K\x01."])
def test_a_damaged_file_as_torchvision_once_kept_it_is_told(tmp_path, content):
    folder = tmp_path / "MNIST" / "processed"
    folder.mkdir(parents=True)
    for name in ("training.pt", "test.pt"):
        (folder / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"{tmp_path}/MNIST: expected torchvision's files, but one is dam")):
        load_mnist(request(tmp_path))
