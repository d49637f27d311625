"""mini-ImageNet from the three Kaggle pickles, merged: 100 classes of 600 colour images, 84 x 84 (Vinyals et al. 2016).

The pickles come from strangers, and loading a pickle can run any code. The unpickler here calls nothing: it only notes
the calls that the pickle asks for, and the arrays are built from these notes. So no call that a stranger chose is made.
Even numpy's own functions would not be safe: the state that a pickle gives to a dtype can make them take bytes of the
file for pointers.
"""

import json
import operator
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.data import ImageData
from datasets.files import cache_path, cached_array, memory_mapped, reading
from utils.config import Benchmark, Options
from utils.errors import UserError, short

NUM_CLASSES = {"train": 64, "val": 16, "test": 20}  # of each pickle, in the order in which they are merged
IMAGES_PER_CLASS = 600
TRAIN_PER_CLASS = 480  # the first ones; the others test
SIDE = 84


def load_mini_imagenet(benchmark: Benchmark, options: Options) -> ImageData:
    """mini-ImageNet, uint8 ``[48000 and 12000, 84, 84, 3]``; classes 0..63 of the train pickle, then 16 val, 20 test.

    Memory: 1.3 GB of uint8. The first run writes a cache beside the pickles, which is mapped into memory: only images
    that are used are read, and the system may drop them again. Without a cache all images are held in memory. The run
    that writes the cache takes up to 4 GB.

    Args:
        benchmark: Not needed.
        options: ``<data_dir>/mini_imagenet/`` holds ``mini-imagenet-cache-{train,val,test}.pkl``.

    Raises:
        UserError: A pickle is missing or damaged, has another layout, or names functions that arrays do not need.
    """
    folder = options.data_dir / "mini_imagenet"
    paths = [folder / f"mini-imagenet-cache-{split}.pkl" for split in NUM_CLASSES]
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: expected a pickle of mini-ImageNet from Kaggle, found none; there is no download")
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    cache = cache_path(folder, "images-and-names", (files, (IMAGES_PER_CLASS, TRAIN_PER_CLASS, SIDE)))
    merged = memory_mapped(cache) if cache.exists() else _merged(paths, cache, keep=not options.dry_run)
    classes = torch.arange(sum(NUM_CLASSES.values()))
    train_classes = classes.repeat_interleave(TRAIN_PER_CLASS)
    test_classes = classes.repeat_interleave(IMAGES_PER_CLASS - TRAIN_PER_CLASS)
    num_pixels = len(classes) * IMAGES_PER_CLASS * SIDE * SIDE * 3
    try:
        names = tuple(json.loads(merged[num_pixels:].tobytes()))
    except ValueError as error:
        raise UserError(f"{cache}: the class names in this cache are damaged; delete it, it is made anew") from error
    images = torch.from_numpy(merged[:num_pixels]).reshape(-1, SIDE, SIDE, 3)
    return ImageData(images[: len(train_classes)], train_classes, images[len(train_classes) :], test_classes, names)


def _merged(paths: Sequence[Path], cache: Path, *, keep: bool) -> np.ndarray:
    """One array of bytes: training images of all classes, their test images, and the class names as JSON.

    It is read from the pickles and, if it is kept, written to the cache. Raises UserError.
    """
    parts = [_read_part(path, num) for path, num in zip(paths, NUM_CLASSES.values(), strict=True)]
    names = json.dumps([name for class_names, _ in parts for name in class_names]).encode()
    num_bytes = sum(images.size for _, images in parts) + len(names)
    return cached_array(cache, (num_bytes,), lambda: _blocks([images for _, images in parts], names), keep=keep)


def _blocks(parts: Sequence[np.ndarray], names: bytes) -> Iterator[np.ndarray]:
    for half in (slice(TRAIN_PER_CLASS), slice(TRAIN_PER_CLASS, None)):
        for images in parts:
            yield from (of_class[half].reshape(-1) for of_class in images)
    yield np.frombuffer(names, np.uint8)


# ---- the unpickler ------------------------------------------------------------------------------------------------


class _Note(list):
    """The arguments of a call that a pickle asks for, and behind them the state that it gives to the result.

    It stands for every class and function that a pickle names: nothing of theirs is called or even looked up.
    """

    def __init__(self, *arguments: object):
        super().__init__(arguments)

    __setstate__ = list.append


class _Unpickler(pickle._Unpickler):  # Python's own: the one in C takes all memory where 12 bytes ask for it
    # Bytearrays are read as bytes are: memory for them would be taken before the file is known to have so many.
    dispatch = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]]}

    def find_class(self, module: str, name: str) -> type[_Note]:
        """A note in place of what numpy writes arrays with. Raises UnpicklingError for other names."""
        if name not in ("_reconstruct", "_frombuffer", "ndarray", "dtype", "encode"):
            got = f"it names {short(f'{module}.{name}')}, of which nothing was run"
            raise pickle.UnpicklingError(f"{got}; only numpy arrays and plain containers are read")
        return _Note


def _array(note: _Note) -> np.ndarray:
    """The array that a note describes. Raises some error if it does not describe one."""
    if note[0] is not _Note:  # _frombuffer, in protocol 5
        contents, dtype, shape, order = note[:4]
    else:  # _reconstruct(ndarray, ...) and then its state
        _, shape, dtype, is_fortran, contents = note[3]
        order = "F" if is_fortran else "C"
    if isinstance(contents, _Note):  # _codecs.encode: protocol 2 writes bytes as latin-1 text
        contents = contents[0]
    raw = contents.encode("latin-1") if isinstance(contents, str) else contents
    code = "".join((dtype[3][1], dtype[0]))  # such as "<i8"
    return np.frombuffer(raw, np.dtype(code)).reshape(shape, order=order)


def _read_part(path: Path, num_classes: int) -> tuple[list[str], np.ndarray]:
    """A pickle's class names, and its images uint8 ``[classes, images, side, side, 3]``. Raises UserError."""
    with reading(path, "a pickle of image_data and class_dict", "; fetch it again"), path.open("rb") as file:
        content = _Unpickler(file, encoding="latin1").load()  # for byte strings of Python 2
        class_names, images = _class_names(content["class_dict"]), _array(content["image_data"])
    expected = (num_classes * IMAGES_PER_CLASS, SIDE, SIDE, 3)
    if images.dtype != np.uint8 or images.shape != expected:
        got = f"{images.dtype} {list(images.shape)}"
        raise UserError(f"{path}: image_data: expected uint8 {list(expected)}, got {got}")
    if list(class_names.values()) != list(range(0, len(images), IMAGES_PER_CLASS)):
        firsts = ", ".join(map(str, list(class_names.values())[:3]))
        layout = f"{num_classes} classes of {IMAGES_PER_CLASS} images, class after class"
        raise UserError(f"{path}: class_dict: expected {layout}, got {len(class_names)} that begin at {firsts}, ...")
    return list(class_names), images.reshape(num_classes, -1, *expected[1:])


def _class_names(class_dict: dict[str, Any]) -> dict[str, int]:
    """Each class's name and the index of its first image, in the order of these. Raises some error if it has none."""
    first_of_name = {}
    for name, indices in class_dict.items():
        first = min(_array(indices) if isinstance(indices, _Note) else indices)
        first_of_name[name + ""] = operator.index(first)  # TypeError where a name is no text or a first no number
    return dict(sorted(first_of_name.items(), key=operator.itemgetter(1)))
