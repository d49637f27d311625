import os
import pickle
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from datasets import mini_imagenet
from datasets.mini_imagenet import load_mini_imagenet
from tests.make_data import ROOT, asked, digest, python2_pickle
from tests.make_mini_imagenet import make_mini_imagenet
from utils.errors import UserError
from utils.program import peak_mem_gb

CANNOT_BE_READ = "expected a pickle of image_data and class_dict, but it cannot be read ("


@pytest.fixture
def folder(tmp_path, monkeypatch):
    make_small(monkeypatch)
    make_mini_imagenet(tmp_path / "mini_imagenet", images_per_class=5, side=40)
    return tmp_path / "mini_imagenet"


def make_small(monkeypatch):
    """Five images of 40 x 40 pixels a class, of which four train."""
    for name, value in (("IMAGES_PER_CLASS", 5), ("TRAIN_PER_CLASS", 4), ("SIDE", 40)):
        monkeypatch.setattr(mini_imagenet, name, value)


def contents(folder):
    """The pickles as plain pickle reads them."""
    return [
        pickle.loads((folder / f"mini-imagenet-cache-{split}.pkl").read_bytes()) for split in mini_imagenet.NUM_CLASSES
    ]


def load(folder, **options):
    return load_mini_imagenet(*asked(folder.parent, **options))


def rewrite(folder, split, content, protocol=4):
    path = folder / f"mini-imagenet-cache-{split}.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol))
    return path


def message_of(folder):
    with pytest.raises(UserError) as error:
        load(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_sizes_are_those_of_the_published_split():
    sizes = mini_imagenet.IMAGES_PER_CLASS, mini_imagenet.TRAIN_PER_CLASS, mini_imagenet.SIDE
    assert sizes == (600, 480, 84)
    assert mini_imagenet.NUM_CLASSES == {"train": 64, "val": 16, "test": 20}


def test_splits_are_merged_in_order_and_each_class_is_cut_in_train_and_test(folder):
    images = np.concatenate([content["image_data"] for content in contents(folder)]).reshape(100, 5, 40, 40, 3)
    for start in ("first, which writes the cache", "second, which reads it"):
        data = load(folder)
        assert np.array_equal(data.train_images, images[:, :4].reshape(400, 40, 40, 3)), start
        assert np.array_equal(data.test_images, images[:, 4]), start
        assert data.train_classes.tolist() == [class_id for class_id in range(100) for _ in range(4)]
        assert data.test_classes.tolist() == list(range(100))
        names = data.class_names
        assert names[:2] == ("ntrain0000", "ntrain0001"), start
        assert (names[64], names[80], names[99]) == ("nval0000", "ntest0000", "ntest0019"), start


def everything(folder):
    return digest(*list(vars(load(folder, keep=False)).values())[:5])


def old_numpy(content, protocol):
    """A pickle with the names of numpy 1."""
    old = pickle.dumps(content, protocol=protocol).replace(b"numpy._core.", b"numpy.core.")
    if protocol >= 4:  # the name's length stands before it
        old = old.replace(b"\x16numpy.core.multiarray", b"\x15numpy.core.multiarray")
        old = old.replace(b"\x13numpy.core.numeric", b"\x12numpy.core.numeric")
    return old


@pytest.mark.parametrize(
    "dump",
    [
        *(partial(pickle.dumps, protocol=protocol) for protocol in (2, 3, 4, 5)),
        *(partial(old_numpy, protocol=protocol) for protocol in (2, 4, 5)),
        python2_pickle,
    ],
)
@pytest.mark.parametrize("indices", [list, np.array])
def test_every_way_to_write_a_pickle_gives_the_same(folder, dump, indices):
    if dump is python2_pickle and indices is np.array:
        return  # which writes arrays of bytes only
    expected = everything(folder)
    for split, content in zip(mini_imagenet.NUM_CLASSES, contents(folder), strict=True):
        content["class_dict"] = {name: indices(ids) for name, ids in content["class_dict"].items()}
        rewrite(folder, split, dump(content))
    assert everything(folder) == expected


# ---- what is refused


class Attack:
    """A pickle that would make a file."""

    def __init__(self, function, argument):
        self.function = function
        self.argument = argument

    def __reduce__(self):
        return self.function, (self.argument,)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(("function", "program"), [(os.system, "touch {}"), (eval, "open('{}', 'w').close()")])
def test_a_pickle_that_would_run_a_command_is_refused_and_nothing_is_run(tmp_path, folder, function, program, protocol):
    touched = tmp_path / "touched"
    attack = Attack(function, program.format(touched))
    path = rewrite(folder, "val", {**contents(folder)[1], "more": attack}, protocol)
    message = message_of(folder)
    assert message.startswith(f"{path}: {CANNOT_BE_READ}it names '")
    assert f".{function.__name__}', of which nothing was run" in message
    assert not touched.exists()
    pickle.loads(path.read_bytes())  # pickle itself would have run it
    assert touched.exists()


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module, name):
    return text(module) + text(name) + b"\x93"


def array_with(*, shape=b"K\x01\x85", dtype=b"\x8c\x02u1", contents=b"C\x01a"):
    """The opcodes of an array with parts of its own."""
    dtype = (
        named("numpy", "dtype") + dtype + b"\x89\x88\x87R(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    blank = named("numpy._core.multiarray", "_reconstruct") + named("numpy", "ndarray") + b"K\x00\x85C\x01b\x87R"
    return blank + b"(K\x01" + shape + dtype + b"\x89" + contents + b"tb"


ENCODE = named("_codecs", "encode")
BOMB = b"N" + b"2\x86" * 50  # a tuple of 2**50 values, which must not be printed
HOSTILE = {
    "a bomb": BOMB,
    "a bomb as a shape": array_with(shape=BOMB),
    "a bomb as a dtype": array_with(dtype=BOMB),
    "a state on a function": ENCODE + b"N}" + text("__defaults__") + b")s\x86b",
    "a class made by NEWOBJ": named("numpy", "ndarray") + b")\x81",
    "an extension": b"\x82\x01",
    "a persistent id": b"K\x01Q",
    "objects": array_with(dtype=text("O"), contents=b"]K\x01a"),
    "bytes as pointers": array_with(dtype=text("O"), contents=b"C\x08" + b"A" * 8),
    "an absurd shape": array_with(shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"),
    "another number of bytes": array_with(shape=b"K\x09\x85"),
    "a dtype of many fields": array_with(dtype=text("u1,O,V99999999")),
    "a dtype that is none": array_with(dtype=b"]"),
    "an array of nothing": array_with(contents=b"N"),
    "text in another encoding": array_with(contents=ENCODE + text("+AGE-") + text("utf7") + b"\x86R"),
    "an array as a function": array_with() + b")R",
    "absurdly many bytes": b"\x8e" + (1 << 60).to_bytes(8, "little"),
    "a memo of absurd size": b"Nr\xff\xff\xff\x7f",
    "an absurd frame": b"\x95" + (1 << 60).to_bytes(8, "little"),
    "a bytearray of 2 GB": b"\x96" + (1 << 31).to_bytes(8, "little"),
    "a frame of 2 GB": b"\x95" + (1 << 31).to_bytes(8, "little"),
    "a number of 2 GB": b"\x8b\xff\xff\xff\x7f",
    "a name of 2 GB": b"}(X\0\0\1\0" + b"a" * (1 << 16) + b"q\0" + b"h\0" * (1 << 15) + b"t]K\0as",
    "30 million rows of nothing": b"}"
    + text("n0")
    + array_with(shape=b"J\x80\xc3\xc9\1K\0\x86", contents=b"C\0")
    + b"s",
    "lists in lists": b"(" * 100_000 + b"l" * 100_000,
    "nothing on the stack": b"R",
}


@pytest.mark.parametrize("place", ["image_data", "class_dict", "all"])
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_end_in_one_line(folder, case, place):
    other = b"]" if place == "class_dict" else array_with()
    values = {"image_data": array_with(), "class_dict": b"}" + text("n0") + other + b"s", place: HOSTILE[case]}
    items = b"".join(text(key) + values[key] for key in ("image_data", "class_dict"))
    stream = HOSTILE[case] if place == "all" else b"}(" + items + b"u"
    path = rewrite(folder, "train", b"\x80\x04" + stream + b".")
    before = peak_mem_gb()
    message = message_of(folder)
    assert message.startswith(f"{path}: ")
    assert len(message) < 500 + len(str(path))
    assert peak_mem_gb() < before + 0.5


def test_a_missing_pickle_is_named(folder):
    path = folder / "mini-imagenet-cache-val.pkl"
    path.unlink()
    assert message_of(folder).startswith(f"{path}: expected a pickle of mini-ImageNet from Kaggle, found none")


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("keep", [0, 1, 9, 5000, -1, -3000])
def test_a_truncated_pickle_is_named(folder, keep, protocol):
    path = rewrite(folder, "val", pickle.dumps(contents(folder)[1], protocol=protocol)[:keep])
    assert message_of(folder).startswith(f"{path}: {CANNOT_BE_READ}")


BAD_CONTENTS = {
    "no dict": ({1: 2}, CANNOT_BE_READ),
    "dtype": (
        {"image_data": np.zeros((80, 40, 40, 3), np.float32)},
        "image_data: expected uint8 [80, 40, 40, 3], got float32 [80, 40, 40, 3]",
    ),
    "shape": (
        {"image_data": np.zeros((70, 40, 40, 3), np.uint8)},
        "image_data: expected uint8 [80, 40, 40, 3], got uint8 [70, 40, 40, 3]",
    ),
    "classes in turn": (
        {"class_dict": {f"n{i}": list(range(i, 80, 16)) for i in range(16)}},
        "class_dict: expected 16 classes of 5 images, class after class, got 16 that begin at 0, 1, 2, ...",
    ),
    "no names": ({"class_dict": {i: [5 * i] for i in range(16)}}, f"{CANNOT_BE_READ}unsupported operand type(s) for +"),
    "no array": ({"image_data": [1]}, CANNOT_BE_READ),
}


@pytest.mark.parametrize("case", BAD_CONTENTS)
def test_another_layout_is_named(folder, case):
    changes, message = BAD_CONTENTS[case]
    path = rewrite(folder, "val", changes if case == "no dict" else {**contents(folder)[1], **changes})
    assert message_of(folder).startswith(f"{path}: {message}")


# ---- the cache


def test_the_second_start_reads_the_cache_until_a_pickle_changes(folder, monkeypatch):
    first = load(folder)
    assert len([path for path in folder.iterdir() if path.suffix != ".pkl"]) == 1
    with monkeypatch.context() as patched:
        patched.setattr(mini_imagenet, "_read_part", lambda *_: pytest.fail("a pickle was read"))
        second = load(folder)
    assert digest(*vars(first).values()) == digest(*vars(second).values())
    make_mini_imagenet(folder, images_per_class=5, side=40, seed=1)
    assert digest(load(folder).train_images) != digest(first.train_images)


@pytest.mark.parametrize("end", [b"\0" * 40, b"\xff", b'"', b",]"])
def test_damaged_class_names_in_the_cache_are_told(folder, end):
    load(folder)
    (cache,) = folder.glob("*.npy")
    whole = cache.read_bytes()
    cache.write_bytes(whole[: -len(end)] + end)
    assert message_of(folder) == f"{cache}: the class names in this cache are damaged; delete it, it is made anew"
    cache.unlink()
    load(folder)
    assert cache.read_bytes() == whole


MEASURE = """
import sys
import torch
from pathlib import Path
from tests.make_data import asked
from datasets.mini_imagenet import load_mini_imagenet
from utils.program import peak_mem_gb
data = load_mini_imagenet(*asked(Path(sys.argv[1])))
data.train_images[torch.randint(0, 48000, (16,))].float().mean()
print(peak_mem_gb(), len(data.class_names))
"""


@pytest.mark.slow
def test_full_size_needs_little_memory_from_the_second_time_on(tmp_path):
    make = "import pathlib; from tests.make_mini_imagenet import make_mini_imagenet as make; make(pathlib.Path({!r}))"
    program = make.format(str(tmp_path / "mini_imagenet"))
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    for most_gb in (4, 1):
        measure = [sys.executable, "-c", MEASURE, tmp_path]
        run = subprocess.run(measure, cwd=ROOT, check=True, capture_output=True, text=True)
        peak_mem_gb, num_classes = map(float, run.stdout.split())
        assert num_classes == 100
        assert peak_mem_gb < most_gb
