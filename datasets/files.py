"""Reading a data set from ``--data_dir``: npz files first, torchvision's own files next, then a download."""

import contextlib
import hashlib
import inspect
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import filelock
import numpy as np
import torch
from numpy.lib.npyio import NpzFile

from datasets.data import ImageData
from utils.config import Options
from utils.errors import UserError, in_one_line, short
from utils.files import remove_parts, whole_file

NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")  # Keras's
MEDMNIST_KEYS = ("train_images", "train_labels", "test_images", "test_labels")
_STALE_PART_SEC = 3600  # no live process has left a half-written file alone for so long


@contextlib.contextmanager
def reading(path: Path, expected: str, advice: str = "") -> Iterator[None]:
    """Turn any error in the block into a UserError that names the file and what was expected in it."""
    try:
        yield
    except Exception as error:  # if a file is damaged, reading it may fail in any way
        raise UserError(f"{path}: expected {expected}, but it cannot be read ({in_one_line(error)}){advice}") from error


def read_npz(path: Path, *, class_names: Sequence[str] | None = None, side: int | None = None) -> ImageData:
    """A data set in the layout of Keras's ``mnist.npz``, or in MedMNIST's; other arrays are left out with a warning.

    Args:
        path: An npz file with uint8 images ``x_*`` ``[N, H, W]`` or ``[N, H, W, 3]`` and integer class ids ``y_*``
            ``[N]`` or ``[N, 1]``; or ``*_images`` and ``*_labels``. Pickled arrays are refused: such a file could run
            code.
        class_names: The names of class 0, 1, ...; with None, class i of those in ``y_train`` is called ``str(i)``.
        side: The height and width expected, in pixels; None takes any, the same for all images.

    Raises:
        UserError: The file is not there or damaged, an array is missing, or has another type, shape or range.
    """
    with reading(path, "a whole npz file"), path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
        layouts = [keys for keys in (NPZ_KEYS, MEDMNIST_KEYS) if set(keys) <= set(archive.files)]
        arrays = {key: archive[key] for key in (*layouts, archive.files)[0]}
    if not layouts or not all(isinstance(array, np.ndarray) for array in arrays.values()):
        found = ", ".join(f"{key} {list(np.shape(array))}" for key, array in arrays.items())
        expected = f"{', '.join(NPZ_KEYS)} or {', '.join(MEDMNIST_KEYS)}"
        raise UserError(f"{path}: expected the arrays {expected}, found {found[:300] or 'none'}")
    if left_out := [key for key in archive.files if key not in arrays]:
        warnings.warn(f"{path}: these arrays are left out: {short(left_out)}", stacklevel=2)
    return _checked_data(str(path), arrays, class_names, side)


def _checked_data(
    source: str, arrays: Mapping[str, np.ndarray], class_names: Sequence[str] | None, side: int | None
) -> ImageData:
    """Four arrays by their names, in the order of ``NPZ_KEYS``, as a data set; ``source`` begins each message.

    See ``read_npz``. Raises UserError.
    """
    tensors, keys = [], list(arrays)
    for x_key, y_key in (keys[:2], keys[2:]):
        images, classes = arrays[x_key], arrays[y_key]
        is_image = images.dtype == np.uint8 and images.ndim > 2 and images.shape[3:] in ((), (1,), (3,))
        if not is_image or 0 in images.shape or (side and images.shape[1:3] != (side, side)):
            size = f"{side}, {side}" if side else "H, W"
            got = f"{images.dtype} {list(images.shape)}"
            raise UserError(f"{source}: {x_key}: expected uint8 images [N, {size}] or [N, {size}, 3], got {got}")
        if classes.dtype.kind not in "iu" or classes.shape not in ((len(images),), (len(images), 1)):
            expected = f"one integer class id for each image, [{len(images)}] or [{len(images)}, 1]"
            raise UserError(f"{source}: {y_key}: expected {expected}, got {classes.dtype} {list(classes.shape)}")
        if class_names is None:  # training comes first; a class id beyond the number of images is a mistake
            class_names = list(map(str, range(max(1, min(int(classes.max()) + 1, len(classes))))))
        least, most = classes.min(), classes.max()
        if least < 0 or most >= len(class_names):
            raise UserError(f"{source}: {y_key}: expected class ids 0..{len(class_names) - 1}, got {least}..{most}")
        tensors.append(torch.from_numpy(np.ascontiguousarray(images)).reshape(*images.shape[:3], -1))
        tensors.append(torch.from_numpy(classes.astype(np.int64).reshape(-1)))
    x_train, y_train, x_test, y_test = tensors
    if x_train.shape[1:] != x_test.shape[1:]:
        got = f"{list(x_train.shape[1:])} and {list(x_test.shape[1:])}"
        raise UserError(f"{source}: expected training and test images of one shape, got {got}")
    return ImageData(x_train, y_train, x_test, y_test, tuple(class_names or ()))


def npz_or_torchvision(
    name: str, torchvision_name: str, options: Options, *, class_names: tuple[str, ...], side: int, files: str
) -> ImageData:
    """A well-known data set from ``<name>.npz``, or else from torchvision's files, downloaded if need be and allowed.

    Args:
        name: The data set's name in benchmark files, in messages, and of its npz file.
        torchvision_name: The data set's class in ``torchvision.datasets``: one that holds all images in memory
            (``data``) and their class ids (``targets`` or ``labels``), such as ``FashionMNIST`` or ``SVHN``.
        options: Where to look, and whether the network may be used.
        class_names: The names of class 0, 1, ...
        side: Height and width of the images, in pixels.
        files: Where torchvision's files belong in ``options.data_dir``; the last part is a pattern of their names, and
            of those of their archives.

    Raises:
        UserError: The data cannot be found or downloaded, or it is damaged.
    """
    npz = options.data_dir / f"{name}.npz"
    if npz.exists():
        return read_npz(npz, class_names=class_names, side=side)
    try:
        arrays = _torchvision_arrays(torchvision_name, options)
    except (TypeError, AttributeError, NameError, ImportError, MemoryError, Warning):  # the data are not to blame
        raise
    except Exception as error:  # without a network or room on the disk, and of damaged files, it may fail in any way
        places = sorted(str(path.relative_to(options.data_dir)) for path in options.data_dir.rglob(Path(files).name))
        expected = f"{npz} ({', '.join(NPZ_KEYS)}) or torchvision's {options.data_dir / files}, whole and unpacked"
        found = short(places) if places else "none"
        advice = f"reading or downloading these failed ({in_one_line(error)}); put whole files there"
        # Of CIFAR, torchvision says the same when files are damaged; then their folder is there.
        if str(error).startswith("Dataset not found") and not any(options.data_dir.glob(f"{files}/")):
            advice = "run without --no_download and --dry_run"
        raise UserError(f"{name}: expected {expected}, found {found}; {advice}") from error
    return _checked_data(f"{options.data_dir}: torchvision's {torchvision_name}", arrays, class_names, side)


def _torchvision_arrays(torchvision_name: str, options: Options) -> dict[str, np.ndarray]:
    """The arrays by ``NPZ_KEYS``; of several processes one downloads, and the others wait for it and find the files.

    Raises whatever torchvision raises.
    """
    if not options.may_download:
        return _read_torchvision(torchvision_name, options.data_dir, download=False)
    with contextlib.suppress(Exception):  # files are missing or damaged, or another process is writing them just now
        return _read_torchvision(torchvision_name, options.data_dir, download=False)
    lock = filelock.FileLock(options.data_dir / f".{torchvision_name}.lock")
    with contextlib.suppress(OSError):  # where no lock can be made, a download may still be possible
        options.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            warnings.warn(f"{lock.lock_file}: waiting for another process to download {torchvision_name}", stacklevel=2)
            lock.acquire()
    try:  # torchvision looks again, and downloads what is missing
        return _read_torchvision(torchvision_name, options.data_dir, download=True)
    finally:
        lock.release()


def _read_torchvision(torchvision_name: str, data_dir: Path, *, download: bool) -> dict[str, np.ndarray]:
    """The arrays by ``NPZ_KEYS``, images with their channels last. Raises whatever torchvision raises."""
    import torchvision.datasets  # only here: importing torchvision takes longer than reading an npz file

    data_set = getattr(torchvision.datasets, torchvision_name)
    has_split = "split" in inspect.signature(data_set).parameters
    arrays = []
    for part in [{"split": "train"}, {"split": "test"}] if has_split else [{"train": True}, {"train": False}]:
        # Torchvision's progress bar is for a terminal.
        with contextlib.nullcontext() if on_terminal() else contextlib.redirect_stderr(io.StringIO()):
            read = data_set(data_dir, **part, download=download)
        images = np.asarray(read.data)
        arrays.append(np.moveaxis(images, 1, 3) if images.shape[1] == 3 else images)
        arrays.append(np.asarray(read.targets if hasattr(read, "targets") else read.labels))
    return dict(zip(NPZ_KEYS, arrays, strict=True))


def on_terminal() -> bool:
    """Whether stderr is a terminal; it may be closed, and is None if it was so before the program began."""
    return not getattr(sys.stderr, "closed", True) and sys.stderr.isatty()


def cache_path(folder: Path, name: str, made_from: object) -> Path:
    """The file of a cache: its name tells, by a digest, what it was made from."""
    return folder / f"{name}-{hashlib.blake2b(repr(made_from).encode(), digest_size=8).hexdigest()}.npy"


def cached_array(
    path: Path, shape: tuple[int, ...], blocks: Callable[[], Iterator[np.ndarray]], *, keep: bool
) -> np.ndarray:
    """Write an array of bytes to its cache, a .npy file, and map that into memory.

    If the file may not be written, or cannot be (which gives a warning), the array is held in memory.

    Args:
        path: The cache file, from ``cache_path``, so that one that exists is the right one.
        shape: The array's shape.
        blocks: Makes the array's parts, uint8 and contiguous, in their order in memory.
        keep: Whether the file may be written.
    """
    if keep:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_parts(path.parent, older_than_sec=_STALE_PART_SEC)
            with whole_file(path) as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
                file.writelines(block.data for block in blocks())
            return memory_mapped(path)
        except OSError as error:
            result = "the images are prepared anew at each start"
            warnings.warn(f"{path}: this cache could not be written ({in_one_line(error)}): {result}", stacklevel=2)
    held = io.BytesIO()
    held.writelines(block.data for block in blocks())
    return np.frombuffer(held.getbuffer(), np.uint8).reshape(shape)


def memory_mapped(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped into memory. Raises UserError if the file is damaged."""
    with reading(path, "a whole cache file", "; delete it, and it is made anew"):
        return np.load(path, mmap_mode="c")  # copy-on-write: torch warns of arrays that may not be written
