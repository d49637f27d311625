"""The user's own images: one npz file, or a folder of PNG and JPEG files with a folder a class."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from unicodedata import normalize

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor
from tqdm import tqdm

from datasets.data import ImageData
from datasets.files import cache_path, cached_array, memory_mapped, on_terminal, read_npz, reading
from utils.config import Benchmark, Options
from utils.errors import UserError, short
from utils.seeding import generator

SUFFIXES = (".png", ".jpg", ".jpeg")
_KINDS = ", ".join(SUFFIXES)
_GREY_MODES = ("1", "L", "LA")  # Pillow's names: black and white, grey, grey with transparency
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")  # grey of more than 8 bits
_ORIENTATION = 0x0112  # the EXIF tag that says how an image is to be turned upright
# By the tag's value from 2 on; the last four exchange height and width. Pillow's own exif_transpose fails on odd tags.
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
# Comments and colour profiles are not needed, but Pillow reads them, and refuses one of more than 1 MB when unpacked.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # 64 MB, its limit for all comments of a file together

_Images = dict[str, list[Path]]  # the files of each class by its name, in Unicode's composed form


def load_npz(benchmark: Benchmark, options: Options) -> ImageData:
    """The arrays of the npz file ``benchmark.root``, in the layout of ``read_npz``; class i is called ``str(i)``.

    Raises:
        UserError: The file is not there, is damaged, or holds other arrays than it should.
    """
    return read_npz(_root(benchmark))


def load_image_folder(benchmark: Benchmark, options: Options) -> ImageData:
    """The PNG and JPEG files below ``benchmark.root``: ``train/<class>/*`` and ``test/<class>/*``, or ``<class>/*``.

    A class is a folder that directly contains such files; classes are ordered by name. Other folders and images, and
    other files in a class folder, are left out with a warning. In the second layout ``benchmark.test_fraction`` of each
    class is for testing; the names alone, not the run's seed, decide which images. If all files are grey, images have
    one channel, else three. ``read_image`` decodes each file once; the result is kept in ``<data_dir>/cache/``, mapped
    into memory, until a file or an option changes.

    Raises:
        UserError: A folder, a class, an image or an option is missing or not as it should be.
    """
    root = _root(benchmark)
    is_split = any(path.is_dir() for path in _visible(root / "train"))
    train, test = (_given_split if is_split else _drawn_split)(root, benchmark.test_fraction)
    paths = [path for of_class in (*train.values(), *test.values()) for path in of_class]
    _tell_left_out(root, paths, benchmark)
    images = torch.from_numpy(_decoded(root, paths, benchmark.image_size, options))
    train_classes, test_classes = _classes(train), _classes(test)
    # Names that are not UTF-8, which no file could hold, are spelled out.
    names = tuple(paths[0].parent.name.encode(errors="backslashreplace").decode() for paths in train.values())
    return ImageData(images[: len(train_classes)], train_classes, images[len(train_classes) :], test_classes, names)


def read_image(path: Path, *, size: tuple[int, int] | None, channels: int) -> Tensor:
    """An image file as the networks see it.

    It is turned upright as its EXIF data says, and transparent pixels get a white background. It is scaled to cover
    ``size`` with its proportions kept (bilinear, averaging where it shrinks), and what protrudes is cropped equally on
    both sides.

    Args:
        path: A PNG or JPEG file.
        size: (H, W) in pixels; None leaves it as it is.
        channels: 1 (colours become grey, by luma) or 3.

    Returns:
        uint8 ``[H, W, channels]``.

    Raises:
        UserError: The file is not there, is neither PNG nor JPEG, is damaged or cut off, has more than 8 bits of grey,
            or so many pixels or metadata (64 MB) that Pillow takes it for an attack.
    """
    with _opened(path) as image:
        if size is not None:
            image.draft(None, (2 * max(size), 2 * max(size)))  # JPEG decodes smaller images faster
        orientation = _orientation(image)
        upright = image.transpose(Image.Transpose[_TURNS[orientation - 2]]) if orientation > 1 else image
        if upright.mode == "P" or upright.has_transparency_data:  # colours of a palette are looked up
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright.convert("RGBA"))
        result = upright.convert("L" if channels == 1 else "RGB")
    if size is not None:
        result = ImageOps.fit(result, (size[1], size[0]), method=Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(result)).reshape(result.height, result.width, channels)


def _orientation(image: Image.Image) -> int:
    """The EXIF tag's value, 1 (upright) to 8; 1 if there is none or it makes no sense."""
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image, of which only the header was read. What Pillow raises here and in the block becomes UserError."""
    with reading(path, "a whole PNG or JPEG image"), Image.open(path, formats=("PNG", "JPEG")) as image:
        if image.mode in _DEEP_MODES:
            raise ValueError(f"it has more than 8 bits a pixel and channel, Pillow's mode {image.mode}")
        yield image


def _root(benchmark: Benchmark) -> Path:
    if benchmark.root is None:
        raise UserError(f"root: needed with dataset: {benchmark.dataset}")
    return benchmark.root


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, by name, without what is hidden; nothing if there is no such folder."""
    return sorted(path for path in folder.glob("*") if not path.name.startswith((".", "Thumbs.db", "desktop.ini")))


def _images_by_class(folder: Path) -> _Images:
    """The image files of each class, in the order of the folders. Raises UserError if there is no class."""
    images_by_class: _Images = {}
    for path in _visible(folder):
        images = [file for file in _visible(path) if file.suffix.lower() in SUFFIXES and file.is_file()]
        if images and images_by_class.setdefault(normalize("NFC", path.name), images) is not images:
            raise UserError(f"{folder}: expected class folders with names that differ, found {short(path.name)} twice")
    if not images_by_class:
        raise UserError(f"{folder}: expected a folder of {_KINDS} files for each class, found {_content(folder)}")
    return images_by_class


def _tell_left_out(root: Path, used: Sequence[Path], benchmark: Benchmark) -> None:
    """Warn of what is not read: anything else in class folders; folders, images and broken links beside them.

    Other files beside the class folders, such as notes, licences and lists, are ignored without a warning.

    Raises UserError if a task names a folder or a broken link as a class.
    """
    named = {normalize("NFC", str(item)) for classes in benchmark.tasks for item in classes}
    classes = {path.parent for path in used}
    beside = {folder.parent for folder in classes}
    others = {path for folder in classes | beside | {root} for path in _visible(folder)} - {*used, *classes, *beside}
    left_out = []
    for path in sorted(others):
        kind = "folder" if path.is_dir() else "file" if path.exists() else "broken link"
        if kind != "file" and path.parent in beside and normalize("NFC", path.name) in named:
            raise UserError(f"{path}: expected {_KINDS} files of this class, found {_content(path)}")
        if kind != "file" or path.parent in classes or path.suffix.lower() in SUFFIXES:
            left_out.append(f"{path.relative_to(root)} ({kind})")
    if left_out:
        warnings.warn(f"{root}: {len(left_out)} left out, no {_KINDS} of a class: {short(left_out)}", stacklevel=2)


def _content(folder: Path) -> str:
    """The names in a folder, for a message."""
    names = [path.name for path in _visible(folder)]
    return short(names) if names else "none"


def _classes(images_by_class: _Images) -> Tensor:
    """The class id of each image, int64 ``[N]``."""
    return torch.repeat_interleave(torch.tensor([len(paths) for paths in images_by_class.values()]))


def _given_split(root: Path, test_fraction: float | None) -> tuple[_Images, _Images]:
    """The files of ``train/<class>/*`` and ``test/<class>/*`` by class. Raises UserError."""
    if test_fraction is not None:
        raise UserError(f"test_fraction: not allowed, since {root} has a train folder")
    train, test = _images_by_class(root / "train"), _images_by_class(root / "test")
    for name in sorted(train.keys() ^ test.keys()):
        raise UserError(f"{root}: expected images of each class in train and test, found {short(name)} in one of them")
    return train, {name: test[name] for name in train}


def _drawn_split(root: Path, test_fraction: float | None) -> tuple[_Images, _Images]:
    """The files of ``<class>/*`` by class, in each class a part drawn for test, one at least and not all.

    Raises UserError.
    """
    train, test = {}, {}
    for name, paths in _images_by_class(root).items():
        if test_fraction is None:
            raise UserError(f"test_fraction: needed, since {root}/train has no class folders")
        if len(paths) < 2:
            raise UserError(f"{paths[0].parent}: expected 2 images and more, to train and to test, got {len(paths)}")
        num_test = min(max(1, round(test_fraction * len(paths))), len(paths) - 1)
        order = torch.randperm(len(paths), generator=generator(0, "test_split", paths[0].parent.name)).tolist()
        train[name] = [paths[i] for i in sorted(order[num_test:])]
        test[name] = [paths[i] for i in sorted(order[:num_test])]
    return train, test


def _decoded(root: Path, paths: Sequence[Path], image_size: int | None, options: Options) -> np.ndarray:
    """The images, uint8 ``[N, H, W, C]``, from the cache if no file and no option has changed."""
    stats = [(str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    made_from = ("white", str(root.resolve()), stats, image_size)  # "white": older caches had another ground
    cache = cache_path(options.data_dir / "cache", "image_folder", made_from)
    if cache.exists():
        return memory_mapped(cache)
    size, channels = _common_size(paths, image_size)

    def decoded() -> Iterator[np.ndarray]:
        for path in tqdm(paths, desc=f"decoding {root.name}", unit="image", disable=not on_terminal()):
            yield read_image(path, size=size, channels=channels).numpy()

    return cached_array(cache, (len(paths), *size, channels), decoded, keep=not options.dry_run)


def _common_size(paths: Sequence[Path], image_size: int | None) -> tuple[tuple[int, int], int]:
    """(H, W) and the number of channels that all images are brought to. Raises UserError."""
    is_grey = True
    sizes = set() if image_size is None else {(image_size, image_size)}
    for path in paths:
        with _opened(path) as image:
            is_grey &= image.mode in _GREY_MODES
            if image_size is None:  # or it would take long: in a PNG file EXIF data may stand last
                sizes.add(image.size if _orientation(image) >= 5 else (image.height, image.width))
    if len(sizes) > 1:
        several = " and ".join(f"{width} x {height}" for height, width in sorted(sizes)[:2])
        raise UserError(f"image_size: needed, since images are of several sizes, such as {several} pixels")
    return sizes.pop(), 1 if is_grey else 3
