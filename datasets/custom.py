"""The user's own images: one npz file, or a folder of PNG and JPEG files with a folder a class."""

import contextlib
import hashlib
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from datasets.data import DataError, ImageData
from datasets.files import DataRequest, cached_array, in_one_line, memory_mapped, read_npz

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
_GREY_MODES = ("1", "L", "LA")  # Pillow's names: black and white, grey, grey with transparency
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # grey of more than 8 bits
_ORIENTATION = 0x0112  # the EXIF tag that says how an image is to be turned upright, and what by its values is done
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_TRANSPOSED = (5, 6, 7, 8)  # those that exchange height and width


def load_npz(request: DataRequest) -> ImageData:
    """The arrays of the npz file ``request.root``, in the layout of ``read_npz``; class i is called ``str(i)``.

    Raises:
        DataError: the file is not there, is damaged, or holds other arrays than it should.
    """
    path = _root(request, "npz")
    if not path.is_file():
        raise DataError(f"root: expected an npz file, found none at {path}")
    for key, value in (("image_size", request.image_size), ("test_fraction", request.test_fraction)):
        if value is not None:
            raise DataError(f"{key}: expected with dataset: image_folder only, got {value} with dataset: npz")
    arrays = read_npz(path)
    num_classes = int(arrays["y_train"].max()) + 1
    if num_classes > len(arrays["y_train"]):
        raise DataError(f"{path}: y_train: expected no more classes than images, got the class id {num_classes - 1}")
    if arrays["y_test"].max() >= num_classes:
        got = f"{arrays['y_test'].min()}..{arrays['y_test'].max()}"
        raise DataError(f"{path}: y_test: expected class ids 0..{num_classes - 1}, as in y_train, got {got}")
    names = tuple(map(str, range(num_classes)))
    return ImageData(arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"], names)


def load_image_folder(request: DataRequest) -> ImageData:
    """The PNG and JPEG files below ``request.root``: ``train/<class>/*`` and ``test/<class>/*``, or ``<class>/*``.

    Classes are in the order of their names. In the second layout a part of ``request.test_fraction`` of each class,
    drawn by the seed, is for test. If all files are grey, images have one channel, else three. Images are read as
    ``read_image`` does, once: they are kept in ``<data_dir>/cache/`` until a file or an option changes.

    Raises:
        DataError: a folder, a class, an image or an option is missing or not as it should be.
    """
    root = _root(request, "image_folder")
    if not root.is_dir():
        raise DataError(f"root: expected a folder of images, found none at {root}")
    if (root / "train").is_dir() and _folders(root / "train"):
        class_names, examples = _given_split(root, request)
    else:
        class_names, examples = _drawn_split(root, request)
    images = torch.from_numpy(_decoded(root, [example.path for example in examples], request))
    classes = torch.tensor([example.class_id for example in examples])
    is_test = torch.tensor([example.is_test for example in examples])
    return ImageData(images[~is_test], classes[~is_test], images[is_test], classes[is_test], class_names)


def read_image(path: Path, *, size: tuple[int, int] | None, channels: int) -> Tensor:
    """An image file as the networks see it.

    Turned upright as its EXIF data says; transparency is dropped. To come to ``size`` it is scaled, its proportions
    kept, until it covers that (bilinear, averaging where it shrinks), and what protrudes is cut off on both sides.

    Args:
        path: a PNG or JPEG file.
        size: (H, W) in pixels; None leaves it as it is.
        channels: 1 (colours become grey, by luma) or 3.

    Returns:
        uint8 ``[H, W, channels]``.

    Raises:
        DataError: the file is not there, is neither PNG nor JPEG, is damaged or cut off, has more than 8 bits of grey,
            or so many pixels that Pillow holds it for an attack.
    """
    from PIL import Image, ImageOps

    with _opened(path) as image, _damage_named(path):
        if size is not None:
            image.draft(None, (2 * max(size), 2 * max(size)))  # JPEG decodes smaller images faster
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        upright = image if turn is None else image.transpose(Image.Transpose[turn])
        plain = upright.convert("RGBA") if upright.mode in ("P", "PA") else upright
        image = plain.convert("L" if channels == 1 else "RGB")
    if size is not None:
        image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).reshape(image.height, image.width, channels)


# What Pillow raises on damaged files, from its plugins' depths.
_PILLOW_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Pillow's errors in decoding, as DataError."""
    try:
        yield
    except _PILLOW_ERRORS as error:
        raise DataError(f"{path}: expected a whole image, but it is damaged ({in_one_line(error)})") from error


def _opened(path: Path) -> "Image.Image":
    """The image, its header read. Raises DataError."""
    from PIL import Image, UnidentifiedImageError  # here and above: it costs start-up time, and few need it

    try:
        image = Image.open(path, formats=("PNG", "JPEG"))
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: expected a PNG or JPEG image, got neither") from error
    except (*_PILLOW_ERRORS, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: expected a PNG or JPEG image, but it cannot be read ({in_one_line(error)})"
        ) from error
    if image.mode in _DEEP_MODES:
        image.close()
        raise DataError(f"{path}: expected 8 bits a pixel and channel, got more (Pillow's mode {image.mode})")
    return image


class _Example(NamedTuple):
    path: Path
    class_id: int
    is_test: bool


def _root(request: DataRequest, dataset: str) -> Path:
    if request.root is None:
        raise DataError(f"root: expected with dataset: {dataset}, got none")
    return request.root


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder by name; hidden ones do not count."""
    inside = sorted(folder.iterdir(), key=lambda path: path.name)
    return [path for path in inside if path.is_dir() and not path.name.startswith(".")]


def _images_by_class(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class, by name. Raises DataError for a class without any; warns of other files."""
    images_by_class = {}
    for class_folder in _folders(folder):
        inside = [path for path in sorted(class_folder.iterdir()) if not path.name.startswith(".")]
        images = [path for path in inside if path.suffix.lower() in SUFFIXES and path.is_file()]
        others = sorted({path.name for path in inside} - {path.name for path in images})
        if not images:
            raise DataError(f"{class_folder}: expected {', '.join(SUFFIXES)} files of this class, found none")
        if others:
            left_out = f"{len(others)} that are not {', '.join(SUFFIXES)} files are left out, {others[0]} the first"
            warnings.warn(f"{class_folder}: {left_out}", stacklevel=2)
        images_by_class[class_folder.name] = images
    if not images_by_class:
        raise DataError(f"{folder}: expected a folder for each class, found none")
    return images_by_class


def _given_split(root: Path, request: DataRequest) -> tuple[tuple[str, ...], list[_Example]]:
    """Class names and examples of ``train/<class>/*`` and ``test/<class>/*``."""
    if request.test_fraction is not None:
        raise DataError(f"test_fraction: expected none, since {root} has a train folder; got {request.test_fraction}")
    if not (root / "test").is_dir():
        raise DataError(f"{root}: expected a test folder beside train, found none")
    train, test = _images_by_class(root / "train"), _images_by_class(root / "test")
    for name in sorted(train.keys() ^ test.keys()):
        has, lacks = ("train", "test") if name in train else ("test", "train")
        raise DataError(f"{root / lacks / name}: expected images of this class, as in {root / has}, found none")
    examples = [
        _Example(path, class_id, is_test)
        for is_test, part in ((False, train), (True, test))
        for class_id, name in enumerate(train)
        for path in part[name]
    ]
    return tuple(train), examples


def _drawn_split(root: Path, request: DataRequest) -> tuple[tuple[str, ...], list[_Example]]:
    """Class names and examples of ``<class>/*``, in each class a part drawn for test."""
    fraction = request.test_fraction
    if fraction is None or not 0 < fraction < 1:
        got = "none" if fraction is None else fraction
        raise DataError(
            f"test_fraction: expected in (0, 1), since {root} has no train folder with class folders in it; got {got}"
        )
    images_by_class = _images_by_class(root)
    examples = []
    for class_id, (name, paths) in enumerate(images_by_class.items()):
        if len(paths) < 2:
            raise DataError(f"{root / name}: expected 2 images and more, to train and to test, got {len(paths)}")
        num_test = min(max(1, round(fraction * len(paths))), len(paths) - 1)
        order = torch.randperm(len(paths), generator=request.named("test_split", name))
        is_test = torch.zeros(len(paths), dtype=torch.bool).index_fill(0, order[:num_test], True).tolist()
        examples += [_Example(path, class_id, test) for path, test in zip(paths, is_test, strict=True)]
    return tuple(images_by_class), examples


def _decoded(root: Path, paths: Sequence[Path], request: DataRequest) -> np.ndarray:
    """The images, uint8 ``[N, H, W, C]``, from the cache if no file and no option has changed."""
    stats = [(str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    key = repr((str(root.resolve()), stats, request.image_size))
    cache = request.data_dir / "cache" / f"image_folder-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.npy"
    if cache.exists():
        return memory_mapped(cache)
    size, channels = _common_size(paths, request.image_size)

    def decoded() -> Iterator[tuple[int, np.ndarray]]:
        bar = tqdm(paths, desc=f"decoding {root.name}", unit="image", disable=None)  # None: only on a terminal
        for row, path in enumerate(bar):
            yield row, read_image(path, size=size, channels=channels).numpy()[None]

    return cached_array(cache, (len(paths), *size, channels), decoded, keep=request.keep)


def _common_size(paths: Sequence[Path], image_size: int | None) -> tuple[tuple[int, int], int]:
    """(H, W) and the number of channels that all images are brought to. Raises DataError."""
    is_grey = True
    sizes: dict[tuple[int, int], Path] = {}
    for path in paths:
        with _opened(path) as image:
            is_grey &= image.mode in _GREY_MODES
            if image_size is None:
                sizes.setdefault(_upright_size(image, path), path)
    if image_size is not None:
        return (image_size, image_size), 1 if is_grey else 3
    if len(sizes) > 1:
        got = " and ".join(f"{path} with {width} x {height}" for (height, width), path in list(sizes.items())[:2])
        raise DataError(f"image_size: expected, since the images are of several sizes; got none, but {got} pixels")
    return next(iter(sizes)), 1 if is_grey else 3


def _upright_size(image: "Image.Image", path: Path) -> tuple[int, int]:
    """(H, W) after turning it as its EXIF data says. Raises DataError."""
    with _damage_named(path):
        is_turned = image.getexif().get(_ORIENTATION) in _TRANSPOSED
    return image.size if is_turned else (image.height, image.width)
