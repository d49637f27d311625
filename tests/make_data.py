"""Small data sets in the layouts that the loaders read, and digests of what they return."""

import contextlib
import gzip
import hashlib
import io
import struct
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import scipy.io
from PIL import Image

from utils.config import Benchmark, Options, Recipe, Settings

ROOT = Path(__file__).parent.parent
REAL_DATA = ROOT / "data"


def asked(data_dir, *, dataset="npz", tasks=((0, 1),), download=False, keep=True, **keys):
    """What a loader takes, a benchmark and options; ``keys`` are those of a benchmark file."""
    options = Options(data_dir=data_dir, no_download=not download, dry_run=not keep)
    return Benchmark(dataset=dataset, tasks=tasks, **keys), options


def settings(benchmark=None, *, batch=8, augment="auto", **values):
    """A run's settings, of which data depend on epochs, samples, seed, batch and augment."""
    benchmark = benchmark or Benchmark(dataset="digits", tasks=((0, 1),))
    recipe = Recipe(model="conv", batch=batch, lr=0.01, l2_reg=1e-5, dropout=0.0, augment=augment)
    return Settings(benchmark=benchmark, recipe=recipe, benchmark_name="x", recipe_name="y", **values)


def digest(*values):
    """A short digest of tensors (with dtype and shape) and of whatever else has a repr."""
    state = hashlib.blake2b(digest_size=8)
    for value in values:
        if hasattr(value, "numpy"):
            array = np.ascontiguousarray(value.numpy())
            state.update(repr((array.dtype.str, array.shape)).encode() + array.tobytes())
        else:
            state.update(repr(value).encode())
    return state.hexdigest()


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def serve(folder, monkeypatch):
    """Let every download of torchvision find the file of that name in ``folder``; none leaves this machine."""

    @contextlib.contextmanager
    def urlopen(asked):
        content = (folder / Path(asked.full_url).name).read_bytes()
        yield SimpleNamespace(url=asked.full_url, length=len(content), read=io.BytesIO(content).read)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


def no_network(monkeypatch):
    """Let every download fail as it does without a network."""

    def urlopen(asked):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


def python2_pickle(value):
    """Protocol 2 as Python 2 and its numpy wrote it: byte strings, numpy.core, flags as numbers."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value):
    if isinstance(value, str):
        return b"U" + bytes([len(value)]) + value.encode("latin-1")
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_python2(key) + _python2(item) for key, item in value.items()) + b"u"
    assert value.dtype == np.uint8
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    contents = b"T" + struct.pack("<i", value.size) + value.tobytes()
    return reconstruct + b"(K\x01(" + b"".join(map(_python2, value.shape)) + b"t" + dtype + b"\x89" + contents + b"tb"


def random_arrays(*, num_train=100, num_test=50, shape=(32, 32, 3), num_classes=10, seed=0):
    """x_train, y_train, x_test, y_test; classes come in turn."""
    rng = np.random.default_rng(seed)
    return {
        f"{kind}_{part}": rng.integers(0, 256, (count, *shape), dtype=np.uint8) if kind == "x" else ids
        for part, count in (("train", num_train), ("test", num_test))
        for ids in [np.arange(count, dtype=np.uint8) % num_classes]
        for kind in "xy"
    }


def _planes(images):
    """CIFAR's order within an image: all red pixels, all green, all blue."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def make_torchvision_cifar(data_dir, torchvision_set, arrays, monkeypatch):
    """CIFAR-10 or -100 as torchvision unpacks it, and its archive; torchvision's class is told their checksums."""
    fine = "fine_labels" if torchvision_set.base_folder == "cifar-100-python" else "labels"
    folder = data_dir / torchvision_set.base_folder
    folder.mkdir(parents=True)
    for part in ("train", "test"):
        names = [name for name, _ in getattr(torchvision_set, f"{part}_list")]
        images = np.array_split(_planes(arrays[f"x_{part}"]), len(names))
        classes = np.array_split(arrays[f"y_{part}"], len(names))
        for name, data, ids in zip(names, images, classes, strict=True):
            (folder / name).write_bytes(python2_pickle({"data": data, fine: ids.tolist(), "batch_label": name}))
        monkeypatch.setattr(torchvision_set, f"{part}_list", [[name, md5(folder / name)] for name in names])
    meta = torchvision_set.meta
    (folder / meta["filename"]).write_bytes(python2_pickle({meta["key"]: [f"class {i}" for i in range(100)]}))
    monkeypatch.setattr(torchvision_set, "meta", {**meta, "md5": md5(folder / meta["filename"])})
    archive = data_dir / torchvision_set.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=torchvision_set.base_folder)
    monkeypatch.setattr(torchvision_set, "tgz_md5", md5(archive))
    return folder


def make_torchvision_mnist(data_dir, torchvision_set, arrays, monkeypatch):
    """(Fashion)MNIST as torchvision leaves it: idx files and their archives; its class is told the checksums."""
    folder = data_dir / torchvision_set.__name__ / "raw"
    folder.mkdir(parents=True)
    resources = []
    for name, _ in torchvision_set.resources:
        key = f"{'x' if 'images' in name else 'y'}_{'train' if name.startswith('train') else 'test'}"
        array = arrays[key]
        header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / name).with_suffix("").write_bytes(header + array.tobytes())
        (folder / name).write_bytes(gzip.compress(header + array.tobytes()))
        resources.append((name, md5(folder / name)))
    monkeypatch.setattr(torchvision_set, "resources", resources)
    return folder


def make_torchvision_svhn(data_dir, torchvision_set, arrays, monkeypatch):
    """SVHN as torchvision leaves it: MATLAB's files, where digit 0 is class 10; its class is told the checksums."""
    data_dir.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        url, name, _ = torchvision_set.split_list[part]
        images, classes = arrays[f"x_{part}"].transpose(1, 2, 3, 0), arrays[f"y_{part}"]
        scipy.io.savemat(data_dir / name, {"X": images, "y": np.where(classes == 0, 10, classes)})
        monkeypatch.setitem(torchvision_set.split_list, part, [url, name, md5(data_dir / name)])
    return data_dir


def make_image(path, size, *, mode="RGB", seed=0, **options):
    """A smooth random picture of (width, height), saved in the format of its suffix."""
    channels = {"RGB": 3, "L": 1, "RGBA": 4, "LA": 2}[mode]
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    image = Image.fromarray(coarse.squeeze()).resize(size, Image.Resampling.BICUBIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return image


def make_image_folder(root, classes, *, per_class=5, sizes=((12, 10),), suffix=".png", mode="RGB"):
    """``root/<class>/image_<i>.png``, sizes taking turns."""
    for number, name in enumerate(classes):
        for i in range(per_class):
            size = sizes[i % len(sizes)]
            make_image(root / name / f"image_{i}{suffix}", size, mode=mode, seed=1000 * number + i)
    return root
