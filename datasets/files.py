"""Reading a data set from ``--data_dir``: npz files first, torchvision's own files next, then a download."""

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.data import DataError, ImageData, NamedGenerator

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class DataRequest:
    """Where a data set may come from, and what of it a benchmark needs.

    Attributes:
        data_dir: where data sets are looked for, and downloaded to.
        download: whether the network may be used.
        class_ids: the ids that occur in the benchmark, ascending; empty where classes go by name.
        root: file or folder of the user's own images.
        image_size: side that the user's own images are resized to.
        test_fraction: part of each class held out, where the user's folder has no test part of its own.
        named: generators by name.
    """

    data_dir: Path
    download: bool
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
        num_classes: ids must lie below it; None lets the largest id of the training part decide.
        side: the height and width expected; None takes any, the same for all images.

    Returns:
        Tensors by key: images uint8 ``[N, H, W, C]``, class ids int64 ``[N]``.

    Raises:
        DataError: the file is damaged, an array is missing, or has another type, shape or range.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in NPZ_KEYS if key not in archive.files]
            if missing:
                raise DataError(f"{path}: expected the arrays {', '.join(NPZ_KEYS)}, got no {', '.join(missing)}")
            arrays = {key: archive[key] for key in NPZ_KEYS}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{path}: expected an npz file, but it is damaged or none ({error}); fetch it again") from error
    return {key: _checked(path, key, array, num_classes, side) for key, array in _same_shape(path, arrays).items()}


def _same_shape(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for part in ("train", "test"):
        images, classes = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if len(images) == 0 or len(images) != len(classes):
            raise DataError(
                f"{path}: expected a class id for each image, got {len(images)} x_{part}, {len(classes)} y_{part}"
            )
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        got = f"{arrays['x_train'].shape[1:]} and {arrays['x_test'].shape[1:]}"
        raise DataError(f"{path}: expected training and test images of one shape, got {got}")
    return arrays


def _checked(path: Path, key: str, array: np.ndarray, num_classes: int | None, side: int | None) -> Tensor:
    if key.startswith("x"):
        if array.dtype != np.uint8:
            raise DataError(f"{path}: {key}: expected uint8, got {array.dtype}")
        if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
            raise DataError(f"{path}: {key}: expected images [N, H, W] or [N, H, W, 3], got {list(array.shape)}")
        if side is not None and array.shape[1:3] != (side, side):
            raise DataError(f"{path}: {key}: expected {side} x {side} pixels, got {array.shape[1]} x {array.shape[2]}")
        return torch.from_numpy(array).reshape(*array.shape[:3], -1)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(f"{path}: {key}: expected integer class ids [N], got {array.dtype} {list(array.shape)}")
    if array.min() < 0 or (num_classes is not None and array.max() >= num_classes):
        limit = "0 and more" if num_classes is None else f"0..{num_classes - 1}"
        raise DataError(f"{path}: {key}: expected class ids {limit}, got {array.min()}..{array.max()}")
    return torch.from_numpy(array.astype(np.int64))


def npz_or_torchvision(
    name: str,
    request: DataRequest,
    *,
    class_names: tuple[str, ...],
    side: int,
    torchvision_set: Callable[..., Any],
    layout: str,
) -> ImageData:
    """A well-known data set from ``<name>.npz``, or else from torchvision's files, downloaded if need be and allowed.

    Args:
        name: of the data set; ``<data_dir>/<name>.npz`` is tried first.
        request: where to look.
        class_names: of class 0, 1, ...
        side: height and width of the images.
        torchvision_set: a data set class of torchvision, called as ``(root, train=..., download=...)``.
        layout: where torchvision's files lie below ``data_dir``, for the messages.

    Raises:
        DataError: the data is nowhere and may not or cannot be downloaded, or it is damaged.
    """
    path = request.data_dir / f"{name}.npz"
    if path.exists():
        arrays = read_npz(path, num_classes=len(class_names), side=side)
        return ImageData(arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"], class_names)
    parts = [_torchvision_part(torchvision_set, request, path, layout, train=train) for train in (True, False)]
    (train_images, train_classes), (test_images, test_classes) = parts
    return ImageData(train_images, train_classes, test_images, test_classes, class_names)


def _torchvision_part(
    torchvision_set: Callable[..., Any], request: DataRequest, npz: Path, layout: str, *, train: bool
) -> tuple[Tensor, Tensor]:
    where = f"put it at {npz} (x_train, y_train, x_test, y_test) or torchvision's files in {request.data_dir / layout}"
    try:
        part = torchvision_set(request.data_dir, train=train, download=False)
    except RuntimeError as error:  # torchvision's word for absent or not whole
        if not request.download:
            absent = f"{npz.stem}: expected in --data_dir {request.data_dir}, found nothing whole there"
            raise DataError(f"{absent}; {where}, or run without --no_download") from error
        try:
            part = torchvision_set(request.data_dir, train=train, download=True)
        except (OSError, RuntimeError) as failed:  # no network, no room, a checksum that differs
            raise DataError(f"{npz.stem}: could not be downloaded ({failed}); {where}") from failed
    images = torch.as_tensor(part.data)
    return images.reshape(*images.shape[:3], -1), torch.as_tensor(part.targets, dtype=torch.int64)
