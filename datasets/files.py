"""Reading a data set from ``--data_dir``: npz files first, torchvision's own files next, then a download."""

import contextlib
import http.client
import io
import math
import os
import pickle
import sys
import time
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from datasets.data import DataError, ImageData, NamedGenerator

FETCH = "run without --no_download and --dry_run"
NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
_NPZ_ERRORS = (OSError, EOFError, ValueError, RuntimeError, MemoryError)  # the last: a header that asks for too much
_STALE_PART_SEC = 3600  # a killed process's half-written file: older ones are in nobody's hands any more


@dataclass(frozen=True)
class DataRequest:
    """Where a data set may come from, and what of it a benchmark needs.

    Attributes:
        data_dir: where data sets are looked for, and downloaded to.
        download: whether the network may be used.
        keep: whether images that took work may be kept for the next run, in a file below ``data_dir``.
        class_ids: the ids that occur in the benchmark, ascending; empty where classes go by name.
        root: file or folder of the user's own images.
        image_size: side that the user's own images are resized to.
        test_fraction: part of each class held out, where the user's folder has no test part of its own.
        named: generators by name.
    """

    data_dir: Path
    download: bool
    keep: bool
    class_ids: tuple[int, ...]
    root: Path | None
    image_size: int | None
    test_fraction: float | None
    named: NamedGenerator


def read_npz(path: Path, *, num_classes: int | None = None, side: int | None = None) -> dict[str, Tensor]:
    """The four arrays of a data set in the layout of Keras's ``mnist.npz``.

    Args:
        path: an npz file with uint8 images ``x_*`` ``[N, H, W]`` or ``[N, H, W, 3]`` and integer class ids ``y_*``
            ``[N]``. Pickled arrays are refused: such a file could run code.
        num_classes: ids must lie below it; None takes any from 0 on.
        side: the height and width expected; None takes any, the same for all images.

    Returns:
        Tensors by key: images uint8 ``[N, H, W, C]``, class ids int64 ``[N]``.

    Raises:
        DataError: the file is damaged, an array is missing, or has another type, shape or range.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):  # an npz file is a zip archive, whose directory stands at its end
                raise DataError(f"{path}: expected an npz file, but it is cut off, or none at all; fetch it again")
            with np.load(file, allow_pickle=False) as archive:
                arrays = {key: archive[key] for key in NPZ_KEYS if key in archive.files}
    except (*_NPZ_ERRORS, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: expected an npz file, but it cannot be read ({in_one_line(error)})") from error
    missing = [key for key in NPZ_KEYS if not isinstance(arrays.get(key), np.ndarray)]
    if missing:
        raise DataError(f"{path}: expected the arrays {', '.join(NPZ_KEYS)}, got no {', '.join(missing)}")
    return checked_arrays(path, arrays, num_classes=num_classes, side=side)


def checked_arrays(
    source: Path, arrays: Mapping[str, np.ndarray], *, num_classes: int | None, side: int | None
) -> dict[str, Tensor]:
    """The arrays by ``NPZ_KEYS`` as tensors, images with a channel axis; ``source`` is for messages. See ``read_npz``.

    Raises:
        DataError: an array has another type, shape or range than it should.
    """
    for part in ("train", "test"):
        images, classes = arrays[f"x_{part}"], arrays[f"y_{part}"]
        _check_images(f"{source}: x_{part}", images, side)
        _check_classes(f"{source}: y_{part}", classes, num_classes)
        if len(images) != len(classes):
            got = f"{len(images)} x_{part} and {len(classes)} y_{part}"
            raise DataError(f"{source}: expected a class id for each image, got {got}")
    shapes = [list(arrays[key].shape[1:]) for key in ("x_train", "x_test")]
    if shapes[0] != shapes[1]:
        raise DataError(f"{source}: expected training and test images of one shape, got {shapes[0]} and {shapes[1]}")
    images_by_key = {key: torch.from_numpy(np.ascontiguousarray(arrays[key])) for key in ("x_train", "x_test")}
    return {key: images.reshape(*images.shape[:3], -1) for key, images in images_by_key.items()} | {
        key: torch.from_numpy(arrays[key].astype(np.int64)) for key in ("y_train", "y_test")
    }


def _check_images(what: str, array: np.ndarray, side: int | None) -> None:
    if array.dtype != np.uint8:
        raise DataError(f"{what}: expected uint8, got {array.dtype}")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)) or 0 in array.shape:
        raise DataError(f"{what}: expected images [N, H, W] or [N, H, W, 3], got {list(array.shape)}")
    if side is not None and array.shape[1:3] != (side, side):
        raise DataError(f"{what}: expected {side} x {side} pixels, got {array.shape[1]} x {array.shape[2]}")


def _check_classes(what: str, array: np.ndarray, num_classes: int | None) -> None:
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise DataError(f"{what}: expected integer class ids [N], got {array.dtype} {list(array.shape)}")
    if array.min() < 0 or (num_classes is not None and array.max() >= num_classes):
        limit = "0 and more" if num_classes is None else f"0..{num_classes - 1}"
        raise DataError(f"{what}: expected class ids {limit}, got {array.min()}..{array.max()}")


def npz_or_torchvision(
    name: str,
    request: DataRequest,
    *,
    class_names: tuple[str, ...],
    side: int,
    torchvision_set: str,
    layout: str,
    damage: Callable[[Any, Path], str | None],
) -> ImageData:
    """A well-known data set from ``<name>.npz``, or else from torchvision's files, downloaded if need be and allowed.

    Args:
        name: of the data set; ``<data_dir>/<name>.npz`` is tried first.
        request: where to look.
        class_names: of class 0, 1, ...
        side: height and width of the images.
        torchvision_set: name of torchvision's class for it in ``torchvision.datasets``.
        layout: the folder of torchvision's files below ``data_dir``.
        damage: from torchvision's class and that folder, the first file that is there but damaged, and how; or None.

    Raises:
        DataError: the data is nowhere and may not or cannot be downloaded, or it is damaged.
    """
    path = request.data_dir / f"{name}.npz"
    folder = request.data_dir / layout
    if path.exists():
        arrays = read_npz(path, num_classes=len(class_names), side=side)
    else:
        files = _torchvision_arrays(torchvision_set, request, path, folder, damage)
        arrays = checked_arrays(folder, files, num_classes=len(class_names), side=side)
    return ImageData(arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"], class_names)


def _torchvision_arrays(
    set_name: str, request: DataRequest, npz: Path, folder: Path, damage: Callable[[Any, Path], str | None]
) -> dict[str, np.ndarray]:
    import torchvision.datasets  # only here: importing torchvision takes longer than reading an npz file

    torchvision_set = getattr(torchvision.datasets, set_name)
    damaged = damage(torchvision_set, folder)
    if damaged:
        raise DataError(f"{damaged}; put a whole one there, or delete it and {FETCH}")
    arrays = {}
    for part in ("train", "test"):
        found = _torchvision_part(torchvision_set, request, npz, folder, train=part == "train")
        arrays[f"x_{part}"], arrays[f"y_{part}"] = np.asarray(found.data), np.asarray(found.targets)
    return arrays


def _torchvision_part(torchvision_set: Any, request: DataRequest, npz: Path, folder: Path, *, train: bool) -> Any:
    where = f"put it at {npz} (x_train, y_train, x_test, y_test) or torchvision's files in {folder}"
    try:
        return torchvision_set(request.data_dir, train=train, download=False)
    except (RuntimeError, EOFError, TypeError, ValueError, pickle.UnpicklingError) as error:
        if not str(error).startswith("Dataset not found"):  # but there, and damaged: MNIST/processed, as it once was
            damaged = f"{folder.parent}: expected torchvision's files, but one is damaged ({in_one_line(error)})"
            raise DataError(f"{damaged}; delete it, or {where}") from error
        if not request.download:
            absent = f"{npz.stem}: expected in --data_dir {request.data_dir}, found neither npz nor whole folder"
            raise DataError(f"{absent}; {where}, or {FETCH}") from error
    try:
        with contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO()):
            return torchvision_set(request.data_dir, train=train, download=True)  # its bar is for a terminal
    except (OSError, RuntimeError, http.client.HTTPException) as failed:  # no network, no room, another checksum
        raise DataError(f"{npz.stem}: could not be downloaded ({in_one_line(failed)}); {where}") from failed


def in_one_line(error: Exception) -> str:
    """What an error says, without line breaks; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A new binary file that appears under ``path`` when the block ends without an error, and not before.

    It is written beside, under a name of its own, so that neither a killed process nor two at once leave half a file.

    Raises:
        OSError: the folder cannot be made or written, or is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(f"{path.name}.*.part"):
        with contextlib.suppress(FileNotFoundError):  # another process may have tidied up
            if time.time() - left_over.stat().st_mtime > _STALE_PART_SEC:
                left_over.unlink()
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:  # SIGINT too
        part.unlink(missing_ok=True)
        raise


def cached_array(
    path: Path, shape: tuple[int, ...], blocks: Callable[[], Iterator[tuple[int, np.ndarray]]], *, keep: bool = True
) -> np.ndarray:
    """An array of images from its cache, a .npy file, which is written first where it is not there yet.

    The file is mapped into memory: an image is read from the disk when it is looked at. Where the file may not be
    written the array is held in memory, and with a warning where it cannot be.

    Args:
        path: of the cache; its name tells what it was made from, so that one that exists is the right one.
        shape: ``[N, H, W, C]``.
        blocks: makes the images, uint8 ``[n, H, W, C]``, with the row at which each block begins, in any order.
        keep: whether the file may be written.

    Raises:
        DataError: the cache is damaged, or ``blocks`` raised it.
    """
    if path.exists():
        return memory_mapped(path)
    if keep:
        try:
            with written_whole(path) as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                start = file.tell()
                for row, images in blocks():
                    file.seek(start + row * math.prod(shape[1:]))
                    file.write(images.data)
            return memory_mapped(path)
        except OSError as error:
            made_anew = "the images are prepared anew at each start"
            warnings.warn(f"{path}: this cache could not be written ({in_one_line(error)}): {made_anew}", stacklevel=2)
    array = np.empty(shape, np.uint8)
    for row, images in blocks():
        array[row : row + len(images)] = images
    return array


def memory_mapped(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped into memory. Raises DataError if the file is damaged."""
    try:
        return np.load(path, mmap_mode="c")  # copy-on-write: torch warns of arrays that may not be written
    except OSError as error:
        raise DataError(f"{path}: this cache cannot be read ({in_one_line(error)})") from error
    except (EOFError, ValueError) as error:
        raise DataError(f"{path}: this cache is damaged ({in_one_line(error)}); delete it, it is made anew") from error
