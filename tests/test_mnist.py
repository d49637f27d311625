import re

import pytest
import torchvision.datasets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.mnist import load_mnist
from tests.make_data import asked, make_torchvision_mnist, random_arrays
from utils.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return make_torchvision_mnist(tmp_path, torchvision.datasets.MNIST, random_arrays(shape=(28, 28)), monkeypatch)


def error_of(data_dir, **options):
    with pytest.raises(UserError, match=re.escape(f"mnist: expected {data_dir}/mnist.npz ")) as error:
        load_mnist(*asked(data_dir, **options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("keep", [0, 3, 7, -1])
def test_a_truncated_file_is_told(tmp_path, folder, name, keep):
    path = folder / name
    path.write_bytes(path.read_bytes()[:keep])
    error_of(tmp_path, download=True)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 15), change=st.integers(1, 255))
def test_a_changed_header_is_one_clear_error(tmp_path, folder, place, change):
    path = folder / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
    with pytest.raises(UserError, match=re.escape(str(tmp_path))) as error:
        load_mnist(*asked(tmp_path))
    path.write_bytes(whole)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x80\x02K\x01."])
def test_a_damaged_file_as_torchvision_once_kept_it_is_told(tmp_path, content):
    folder = tmp_path / "MNIST" / "processed"
    folder.mkdir(parents=True)
    for name in ("training.pt", "test.pt"):
        (folder / name).write_bytes(content)
    error_of(tmp_path)
