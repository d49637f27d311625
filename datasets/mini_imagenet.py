"""mini-ImageNet from the three Kaggle pickles, merged: 100 classes of 600 colour images, 84 x 84 (Vinyals et al. 2016).

The pickles come from strangers, and a pickle is a program. Here it is read by an unpickler that knows five names, each
bound to a harmless stand-in that only takes notes: nothing of numpy's, or of anyone's, is called by the file. The
pixels are not read then but found: they stay in the file, wherever the notes say, and are copied from there a class at
a time. So the first run needs no more memory than the later ones.
"""

import codecs
import contextlib
import hashlib
import math
import os
import pickle
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np
import torch

from datasets.data import DataError, ImageData
from datasets.files import DataRequest, cached_array, in_one_line

SPLITS = ("train", "val", "test")  # the order in which they are merged
NUM_CLASSES = {"train": 64, "val": 16, "test": 20}
_LONG = 1 << 16  # bytes; what is longer is left in the file (class names and indices are shorter, images longer)
_BLOCK = 1 << 22  # bytes read at once of what was left there


class Sizes(NamedTuple):
    """How many images a class has, how many of them train (the first ones; the others test), and their side."""

    images_per_class: int = 600
    train_per_class: int = 480
    side: int = 84


def load_mini_imagenet(request: DataRequest, sizes: Sizes = Sizes()) -> ImageData:  # noqa: B008 (immutable)
    """mini-ImageNet, uint8 ``[48000 and 12000, 84, 84, 3]``; classes 0..63 of the train pickle, then 16 val, 20 test.

    Memory: 1.3 GB of uint8, mapped from a cache that the first run writes beside the pickles, so that only images that
    are looked at are read, and the system may drop them again; without a cache they are held.

    Args:
        request: ``<data_dir>/mini_imagenet/`` holds ``mini-imagenet-cache-{train,val,test}.pkl``.
        sizes: other than mini-ImageNet's in tests only.

    Raises:
        DataError: a pickle is missing, damaged, laid out otherwise, or tries what it should not.
    """
    folder = request.data_dir / "mini_imagenet"
    paths = [folder / f"mini-imagenet-cache-{split}.pkl" for split in SPLITS]
    for path in paths:
        if not path.exists():
            expected = f"expected {', '.join(file.name for file in paths)} in {folder}, found no {path.name}"
            raise DataError(f"mini_imagenet: {expected}; fetch them from Kaggle, there is no download")
    parts = [_read_part(path, NUM_CLASSES[split], sizes) for path, split in zip(paths, SPLITS, strict=True)]
    images = torch.from_numpy(_merged(folder, parts, sizes, keep=request.keep))
    num_train = images.shape[0] // sizes.images_per_class * sizes.train_per_class
    class_names = tuple(name for part in parts for name in part.class_names)
    classes = torch.arange(len(class_names))
    return ImageData(
        images[:num_train],
        classes.repeat_interleave(sizes.train_per_class),
        images[num_train:],
        classes.repeat_interleave(sizes.images_per_class - sizes.train_per_class),
        class_names,
    )


# ---- merging: training images of all classes first, then the test images -----------------------------------------


@dataclass(frozen=True)
class _Part:
    """A pickle that was read: its class names in the order of its images, and where in the file those lie."""

    path: Path
    class_names: list[str]
    pixels: "_Contents"


def _merged(folder: Path, parts: Sequence[_Part], sizes: Sizes, *, keep: bool) -> np.ndarray:
    """All images, uint8 ``[N, side, side, 3]``, from the cache if the pickles are those that it was made from."""
    shape = (sizes.images_per_class * sum(NUM_CLASSES.values()), sizes.side, sizes.side, 3)
    cache = folder / f"merged-{_fingerprint(parts, sizes)}.npy"
    images = cached_array(cache, shape, lambda: _placed(parts, sizes), keep=keep)
    for other in set(folder.glob("merged-*.npy")) - {cache} if keep else ():  # made from pickles that are no more
        with contextlib.suppress(OSError):  # where nothing can be written, nothing needs tidying
            other.unlink()
    return images


def _fingerprint(parts: Sequence[_Part], sizes: Sizes) -> str:
    files = [(part.path.name, part.path.stat().st_size, part.path.stat().st_mtime_ns) for part in parts]
    return hashlib.blake2b(repr((files, tuple(sizes))).encode(), digest_size=8).hexdigest()


def _placed(parts: Sequence[_Part], sizes: Sizes) -> Iterator[tuple[int, np.ndarray]]:
    """Each class's training images, and its test images, with the row where they begin in the merged array."""
    num_train, num_test = sizes.train_per_class, sizes.images_per_class - sizes.train_per_class
    first_test = num_train * sum(NUM_CLASSES.values())
    class_id = 0
    for part in parts:
        for raw in _blocks(part, sizes.images_per_class * sizes.side**2 * 3):
            images = np.frombuffer(raw, np.uint8).reshape(-1, sizes.side, sizes.side, 3)
            yield class_id * num_train, images[:num_train]
            yield first_test + class_id * num_test, images[num_train:]
            class_id += 1


def _blocks(part: _Part, size: int) -> Iterator[bytearray]:
    """The pixels of a pickle in blocks of ``size`` bytes, one a class."""
    where = part.pixels
    decoder = codecs.getincrementaldecoder("utf-8")()
    block, num_left = bytearray(), len(part.class_names)
    with part.path.open("rb") as file:
        file.seek(where.offset)
        for start in range(0, where.length, _BLOCK):
            raw = file.read(min(_BLOCK, where.length - start))
            try:
                block += decoder.decode(raw).encode("latin-1") if where.is_text else raw
            except UnicodeError as error:
                raise DataError(f"{part.path}: image_data is damaged ({error}); fetch it again") from error
            while len(block) >= size and num_left:
                yield block[:size]
                del block[:size]
                num_left -= 1
    if block or num_left:
        raise DataError(f"{part.path}: image_data: expected {size} bytes a class, got another number; fetch it again")


# ---- the unpickler ------------------------------------------------------------------------------------------------


class _Contents(NamedTuple):
    """Bytes left in the file: ``length`` from ``offset`` on; ``is_text`` where protocol 2 wrote them as UTF-8."""

    offset: int
    length: int
    is_text: bool


class _Dtype:
    """Stand-in for ``numpy.dtype``."""

    def __init__(self, code: str, *_flags: object):
        self.code = code
        self.byte_order = "="

    def __setstate__(self, state: tuple) -> None:
        self.byte_order = state[1]

    def to_numpy(self) -> np.dtype:
        """The dtype itself. Raises TypeError if there is none such."""
        return np.dtype(self.byte_order.replace("|", "") + self.code)


class _Array:
    """Stand-in for ``numpy.ndarray``: what a pickled array says of itself."""

    shape: tuple[int, ...]
    dtype: _Dtype
    in_order: bool  # C order
    contents: bytes | str | _Contents

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.dtype, in_fortran_order, self.contents = state
        self.in_order = not in_fortran_order


def _reconstruct(*_type_shape_code: object) -> _Array:
    """Stand-in for numpy's: a blank that its state is put on."""
    return _Array()


def _frombuffer(contents: bytes | _Contents, dtype: _Dtype, shape: tuple, order: str, *_axes: object) -> _Array:
    """Stand-in for numpy's, which protocol 5 uses."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order != "C", contents))
    return array


def _encode(contents: str | _Contents, encoding: str) -> bytes | _Contents:
    """Stand-in for ``_codecs.encode``, by which protocol 2 writes bytes as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in the encoding {encoding!r}")
    return contents if isinstance(contents, _Contents) else contents.encode("latin-1")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # before numpy 2
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


def _loads_or_leaves(layout: str, *, is_text: bool, short: Callable[[bytes], object]) -> Callable[[Any], None]:
    """The handler of an opcode that is followed by a length and so many bytes: what is long is left in the file."""

    def handle(unpickler: Any) -> None:
        (length,) = struct.unpack(layout, unpickler.read(struct.calcsize(layout)))
        if length < _LONG:
            unpickler.append(short(unpickler.read(length)))
        else:
            unpickler.append(_Contents(unpickler.file.tell(), length, is_text))
            unpickler.file.seek(length, os.SEEK_CUR)

    return handle


def _utf8(raw: bytes) -> str:
    return raw.decode("utf-8")


def _latin1(raw: bytes) -> str:
    return raw.decode("latin-1")


def _put_state(unpickler: Any) -> None:
    """The handler of the opcode that puts a state on an object: on the stand-ins' notes, and on nothing else."""
    if not isinstance(unpickler.stack[-2], _Array | _Dtype):
        raise pickle.UnpicklingError("a state for what is no array")
    pickle._Unpickler.dispatch[pickle.BUILD[0]](unpickler)


class _NotingUnpickler(pickle._Unpickler):  # the one in Python: the one in C cannot leave anything in the file
    """Reads the outline of a pickle; see the head of this module."""

    dispatch: ClassVar[dict[int, Callable[[Any], Any]]] = {
        **pickle._Unpickler.dispatch,
        pickle.FRAME[0]: lambda unpickler: unpickler.read(8),  # frames are for reading ahead
        pickle.BINSTRING[0]: _loads_or_leaves("<I", is_text=False, short=_latin1),  # Python 2
        pickle.BINUNICODE[0]: _loads_or_leaves("<I", is_text=True, short=_utf8),
        pickle.BINUNICODE8[0]: _loads_or_leaves("<Q", is_text=True, short=_utf8),
        pickle.BINBYTES[0]: _loads_or_leaves("<I", is_text=False, short=bytes),
        pickle.BINBYTES8[0]: _loads_or_leaves("<Q", is_text=False, short=bytes),
        pickle.BUILD[0]: _put_state,
        pickle.BYTEARRAY8[0]: _loads_or_leaves("<Q", is_text=False, short=bytes),
    }

    def __init__(self, file: BinaryIO, path: Path):
        super().__init__(file, encoding="latin-1")
        self.file = file
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for what a pickle names. Raises DataError for all but numpy's arrays."""
        if (module, name) not in _ADMITTED:
            raise DataError(
                f"{self.path}: expected numpy arrays and plain containers, got {f'{module}.{name}'!r}; "
                "such a pickle may run code, nothing of it was run"
            )
        return _ADMITTED[module, name]


def _read_part(path: Path, num_classes: int, sizes: Sizes) -> _Part:
    """What a pickle holds, checked. Raises DataError."""
    try:
        with path.open("rb") as file:
            content = _NotingUnpickler(file, path).load()
        if not isinstance(content, dict) or not {"image_data", "class_dict"} <= content.keys():
            raise DataError(f"{path}: expected a dict with image_data and class_dict, got {_described(content)}")
        class_names = _class_names(path, content["class_dict"], num_classes, sizes)
        return _Part(path, class_names, _pixels(path, content["image_data"], num_classes, sizes))
    except DataError:
        raise
    except Exception as error:  # where a file is damaged, reading it may fail in any way
        raise DataError(
            f"{path}: expected a pickle, but it is damaged ({in_one_line(error)}); fetch it again"
        ) from error


def _described(content: object) -> str:
    return (
        f"one with {', '.join(map(repr, list(content)[:5]))}" if isinstance(content, dict) else type(content).__name__
    )


def _pixels(path: Path, array: object, num_classes: int, sizes: Sizes) -> _Contents:
    expected = (num_classes * sizes.images_per_class, sizes.side, sizes.side, 3)
    if not isinstance(array, _Array) or not isinstance(array.contents, _Contents):
        raise DataError(f"{path}: image_data: expected an array uint8 {list(expected)}, got {_described(array)}")
    dtype = array.dtype.to_numpy()
    if dtype != np.uint8 or array.shape != expected or not array.in_order:
        order = "" if array.in_order else " in Fortran's order"
        raise DataError(f"{path}: image_data: expected uint8 {list(expected)}, got {dtype} {list(array.shape)}{order}")
    where = array.contents
    if where.offset + where.length > path.stat().st_size or (where.length < math.prod(expected)):
        raise DataError(
            f"{path}: expected {math.prod(expected)} bytes of image_data, but it is cut off; fetch it again"
        )
    return where


def _class_names(path: Path, class_dict: object, num_classes: int, sizes: Sizes) -> list[str]:
    """The names in the order of the images: ``class_dict`` gives each name's indices."""
    expected = f"{num_classes} classes of {sizes.images_per_class} images, class after class"
    if not isinstance(class_dict, dict):
        raise DataError(f"{path}: class_dict: expected a dict of {expected}, got {_described(class_dict)}")
    name_of_first = {_first_index(path, name, indices): str(name) for name, indices in class_dict.items()}
    firsts = sorted(name_of_first)
    if firsts != [class_id * sizes.images_per_class for class_id in range(num_classes)]:
        got = f"{len(class_dict)} that begin at {', '.join(map(str, firsts[:3]))}, ..."
        raise DataError(f"{path}: class_dict: expected {expected}, got {got}")
    return [name_of_first[first] for first in firsts]


def _first_index(path: Path, name: object, indices: Any) -> int:
    if isinstance(indices, _Array) and isinstance(indices.contents, bytes | str):
        raw = indices.contents.encode("latin-1") if isinstance(indices.contents, str) else indices.contents
        indices = np.frombuffer(raw, indices.dtype.to_numpy()).tolist()
    if not isinstance(indices, list) or not all(isinstance(index, int) for index in indices) or not indices:
        raise DataError(f"{path}: class_dict[{name!r}]: expected indices of images, got {_described(indices)}")
    return min(indices)
