import io
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest

from datasets import mini_imagenet
from datasets.data import DataError
from datasets.mini_imagenet import Sizes, load_mini_imagenet
from tests.make_data import ROOT, digest, python2_pickle, request
from tests.make_mini_imagenet import make_mini_imagenet

SMALL = Sizes(images_per_class=5, train_per_class=4, side=40)  # enough bytes to be left in the file


@pytest.fixture
def folder(tmp_path):
    make_mini_imagenet(tmp_path / "mini_imagenet", images_per_class=5, side=40)
    return tmp_path / "mini_imagenet"


def contents(folder):
    """The pickles as plain pickle reads them."""
    return [pickle.loads((folder / f"mini-imagenet-cache-{split}.pkl").read_bytes()) for split in mini_imagenet.SPLITS]


def load(folder, **options):
    return load_mini_imagenet(request(folder.parent, **options), SMALL)


def rewrite(folder, split, content, protocol=4):
    path = folder / f"mini-imagenet-cache-{split}.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return path


def test_sizes_are_those_of_the_published_split():
    assert Sizes() == (600, 480, 84)
    assert mini_imagenet.NUM_CLASSES == {"train": 64, "val": 16, "test": 20}


def test_splits_are_merged_in_order_and_each_class_is_cut_in_train_and_test(folder):
    images = np.concatenate([content["image_data"] for content in contents(folder)]).reshape(100, 5, 40, 40, 3)
    for start in ("first, which writes the cache", "second, which reads it"):
        data = load(folder)
        assert np.array_equal(data.train_images, images[:, :4].reshape(400, 40, 40, 3)), start
        assert np.array_equal(data.test_images, images[:, 4]), start
        assert data.train_classes.tolist() == [class_id for class_id in range(100) for _ in range(4)]
        assert data.test_classes.tolist() == list(range(100))


def test_where_nothing_is_to_be_kept_the_folder_stays_as_it_is(folder):
    stale = folder / "merged-0123456789abcdef.npy"
    stale.touch()
    before = sorted(folder.iterdir())
    data = load(folder, keep=False)
    assert sorted(folder.iterdir()) == before
    assert digest(data.train_images, data.test_images) == digest(load(folder).train_images, load(folder).test_images)
    assert not stale.exists()


def test_class_dict_gives_the_names(folder):
    names = load(folder).class_names
    assert names[:2] == ("ntrain0000", "ntrain0001")
    assert (names[64], names[80], names[99]) == ("nval0000", "ntest0000", "ntest0019")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_gives_the_same(tmp_path, folder, protocol):
    make_mini_imagenet(tmp_path / "other" / "mini_imagenet", images_per_class=5, side=40, protocol=protocol)
    expected, got = load(folder), load(tmp_path / "other" / "mini_imagenet")
    assert digest(got.train_images, got.test_images, got.class_names) == digest(
        expected.train_images, expected.test_images, expected.class_names
    )


def test_pickles_of_python_2_and_old_numpy_give_the_same(folder):
    expected = digest(load(folder).train_images)
    for split, content in zip(mini_imagenet.SPLITS, contents(folder), strict=True):
        rewrite(folder, split, python2_pickle(content))
    assert digest(load(folder).train_images) == expected


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_names_of_old_numpy_are_admitted(folder, protocol):
    expected = digest(load(folder).train_images)
    for split, content in zip(mini_imagenet.SPLITS, contents(folder), strict=True):
        new = pickle.dumps(content, protocol=protocol)
        old = new.replace(b"numpy._core.", b"numpy.core.")
        if protocol >= 4:  # the name's length stands before it, and a frame's before that
            old = old.replace(b"\x16numpy.core.multiarray", b"\x15numpy.core.multiarray")
            old = old.replace(b"\x13numpy.core.numeric", b"\x12numpy.core.numeric")
        assert old != new
        rewrite(folder, split, old)
    assert digest(load(folder).train_images) == expected


def test_one_huge_frame_is_not_held_in_memory(folder):
    """Python 3.4 to 3.6 wrote the whole pickle as a single frame."""
    expected = digest(load(folder).train_images)
    for split, content in zip(mini_imagenet.SPLITS, contents(folder), strict=True):
        stream = io.BytesIO()
        pickler = pickle._Pickler(stream, protocol=4)
        pickler.framer.write_large_bytes = lambda header, payload, pickler=pickler: pickler.write(header + payload)
        pickler._write_large_bytes = pickler.framer.write_large_bytes
        pickler.framer.commit_frame = lambda force=False, commit=pickler.framer.commit_frame: (
            commit() if force else None
        )
        pickler.dump(content)
        rewrite(folder, split, stream.getvalue())
    assert digest(load(folder).train_images) == expected


@pytest.mark.parametrize("protocol", [2, 4])
def test_indices_may_be_arrays(folder, protocol):
    expected = load(folder).class_names
    for split, content in zip(mini_imagenet.SPLITS, contents(folder), strict=True):
        content["class_dict"] = {name: np.array(indices) for name, indices in content["class_dict"].items()}
        rewrite(folder, split, content, protocol)
    assert load(folder).class_names == expected


# ---- what is refused


class Command:
    """A pickle that would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Evaluated:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return eval, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("attack", "name"), [(Command, f"{os.system.__module__}.system"), (Evaluated, "eval")], ids=["system", "eval"]
)
def test_a_pickle_that_would_run_a_command_is_refused_by_name_and_nothing_is_run(
    tmp_path, folder, attack, name, protocol
):
    touched = tmp_path / "touched"
    content = contents(folder)[1]
    path = rewrite(folder, "val", {**content, "class_dict": attack(touched)}, protocol)
    with pytest.raises(DataError) as error:
        load(folder)
    message = str(error.value)
    assert message.startswith(f"{path}: expected numpy arrays and plain containers, got '")
    assert message.endswith(f"{name}'; such a pickle may run code, nothing of it was run")
    assert not touched.exists()
    pickle.loads(path.read_bytes())  # pickle itself would have run it
    assert touched.exists()


@pytest.mark.parametrize("name", ["numpy.load", "numpy.ndarray.tofile", "_codecs.decode", "builtins.getattr"])
def test_other_names_of_admitted_modules_are_refused(folder, name):
    module, attribute = name.split(".", 1)
    stack_global = b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, attribute)) + b"\x93"
    rewrite(folder, "val", b"\x80\x04" + stack_global + b".")
    with pytest.raises(DataError, match=re.escape(f"got {name!r};")):
        load(folder)


def test_a_state_is_put_on_arrays_only(folder):
    # codecs.encode, then the state (None, {"__defaults__": ()}), which BUILD would set as attributes of the function
    stream = b"\x80\x04c_codecs\nencode\nN}X\x0c\x00\x00\x00__defaults__)s\x86b."
    path = rewrite(folder, "val", stream)
    with pytest.raises(DataError, match=re.escape(f"{path}: expected a pickle, but it is damaged (a state for what")):
        load(folder)
    assert mini_imagenet._encode.__defaults__ is None


def test_a_missing_pickle_is_named(folder):
    (folder / "mini-imagenet-cache-val.pkl").unlink()
    with pytest.raises(DataError) as error:
        load(folder)
    assert str(error.value) == (
        "mini_imagenet: expected mini-imagenet-cache-train.pkl, mini-imagenet-cache-val.pkl, "
        f"mini-imagenet-cache-test.pkl in {folder}, found no mini-imagenet-cache-val.pkl; "
        "fetch them from Kaggle, there is no download"
    )


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("keep", [0, 1, 9, 5000, -1, -3000])
def test_a_truncated_pickle_is_named(folder, keep, protocol):
    whole = pickle.dumps(contents(folder)[1], protocol=protocol)
    path = rewrite(folder, "val", whole[:keep])
    with pytest.raises(DataError, match=re.escape(f"{path}: expected a pickle, but it is damaged (")) as error:
        load(folder)
    assert "\n" not in str(error.value)


def changed(content, **changes):
    return {**content, **changes}


BAD_CONTENTS = {
    "no dict": (lambda content: [1, 2], "expected a dict with image_data and class_dict, got list"),
    "no class_dict": (
        lambda content: {"image_data": content["image_data"]},
        "expected a dict with image_data and class_dict, got one with 'image_data'",
    ),
    "dtype": (
        lambda content: changed(content, image_data=content["image_data"].astype(np.float32)),
        "image_data: expected uint8 [80, 40, 40, 3], got float32 [80, 40, 40, 3]",
    ),
    "shape": (
        lambda content: changed(content, image_data=content["image_data"][:70]),
        "image_data: expected uint8 [80, 40, 40, 3], got uint8 [70, 40, 40, 3]",
    ),
    "order": (
        lambda content: changed(content, image_data=np.asfortranarray(content["image_data"])),
        "image_data: expected uint8 [80, 40, 40, 3], got uint8 [80, 40, 40, 3] in Fortran's order",
    ),
    "no array": (
        lambda content: changed(content, image_data=[1]),
        "image_data: expected an array uint8 [80, 40, 40, 3], got list",
    ),
    "classes in turn": (
        lambda content: changed(content, class_dict={f"n{i}": list(range(i, 80, 16)) for i in range(16)}),
        "class_dict: expected 16 classes of 5 images, class after class, got 16 that begin at 0, 1, 2, ...",
    ),
    "no indices": (
        lambda content: changed(content, class_dict={"n0": "all"}),
        "class_dict['n0']: expected indices of images, got str",
    ),
    "no names": (
        lambda content: changed(content, class_dict=[0]),
        "class_dict: expected a dict of 16 classes of 5 images, class after class, got list",
    ),
}


@pytest.mark.parametrize("case", BAD_CONTENTS)
@pytest.mark.parametrize("protocol", [4, 5])
def test_another_layout_is_named(folder, case, protocol):
    change, message = BAD_CONTENTS[case]
    path = rewrite(folder, "val", change(contents(folder)[1]), protocol)
    with pytest.raises(DataError) as error:
        load(folder)
    assert str(error.value) == f"{path}: {message}"


# ---- the cache


def caches(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".pkl")


def test_the_second_start_reads_the_cache(folder, monkeypatch):
    first = load(folder)
    assert len(caches(folder)) == 1
    monkeypatch.setattr(mini_imagenet, "_blocks", lambda *_: pytest.fail("pixels were read from the pickle"))
    second = load(folder)
    assert digest(first.train_images) == digest(second.train_images)


def test_changed_pickles_make_a_new_cache_and_remove_the_old_one(folder):
    old = load(folder)
    before = caches(folder)
    make_mini_imagenet(folder, images_per_class=5, side=40, seed=1)
    new = load(folder)
    assert digest(new.train_images) != digest(old.train_images)
    assert len(caches(folder)) == 1
    assert caches(folder) != before


def test_a_folder_that_cannot_be_written_gives_a_warning_and_the_images(folder, monkeypatch):
    def refuse():
        raise PermissionError(13, "Permission denied")

    expected = digest(load(folder).train_images)
    (folder / caches(folder)[0]).unlink()
    monkeypatch.setattr("datasets.files.uuid.uuid4", refuse)
    with pytest.warns(UserWarning, match=r"could not be written \(\[Errno 13\] Permission denied\)"):
        data = load(folder)
    assert digest(data.train_images) == expected
    assert caches(folder) == []


def test_an_interrupted_start_leaves_no_cache(folder, monkeypatch):
    def interrupted(*_):
        yield bytearray(5 * 40 * 40 * 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(mini_imagenet, "_blocks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(folder)
    assert caches(folder) == []


MEASURE = """
import resource, sys, time
import torch
from tests.make_data import request
from datasets.mini_imagenet import load_mini_imagenet
start = time.monotonic()
data = load_mini_imagenet(request(sys.argv[1]))
data.train_images[torch.randint(0, 48000, (16,))].float().mean()
print(time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, len(data.class_names))
"""


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_full_size_needs_little_memory_and_starts_quickly_the_second_time(tmp_path, protocol):
    make = [sys.executable, "-m", "tests.make_mini_imagenet", tmp_path / "mini_imagenet", "--protocol", str(protocol)]
    subprocess.run(make, cwd=ROOT, check=True)
    for longest_sec in (120, 5):
        run = subprocess.run(
            [sys.executable, "-c", MEASURE, tmp_path], cwd=ROOT, check=True, capture_output=True, text=True
        )
        elapsed_sec, peak_mem_gb, num_classes = map(float, run.stdout.split())
        assert num_classes == 100
        assert peak_mem_gb < 2.5
        assert elapsed_sec < longest_sec
