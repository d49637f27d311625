"""The 1,797 handwritten digits that come with scikit-learn: real images without any download (Alpaydin and Kaynak)."""

import numpy as np
import torch

from datasets.data import ImageData
from utils.config import Benchmark, Options

SIDE = 28  # of MNIST, so that the same networks serve
_SCAN_SIDE = 8
_SCAN_MAX = 16


def load_digits(benchmark: Benchmark, options: Options) -> ImageData:
    """The bundled digits, uint8 images ``[1442 and 355, 28, 28, 1]``; no file is looked for.

    The 8 x 8 scans with values 0..16 are enlarged to 28 x 28 by bilinear interpolation (pixel centres aligned, edges
    repeated) and scaled to 0..255. Every fifth scan of a class, in scikit-learn's order, is a test image: a stratified
    split that does not depend on the seed.
    """
    from sklearn.datasets import load_digits as load_scans  # here: importing scikit-learn takes a second

    scans = load_scans()
    images = torch.from_numpy(enlarged(scans.images.astype(np.int64)))[..., None]
    classes = torch.from_numpy(scans.target.astype(np.int64))
    test = torch.zeros_like(classes, dtype=torch.bool)
    for class_id in range(10):
        test[torch.nonzero(classes == class_id)[4::5]] = True
    return ImageData(images[~test], classes[~test], images[test], classes[test], tuple("0123456789"))


def enlarged(scans: np.ndarray) -> np.ndarray:
    """Bilinear enlargement in whole numbers, hence the same on every machine.

    Args:
        scans: Values int64 ``[N, 8, 8]`` in 0..16.

    Returns:
        uint8 ``[N, 28, 28]``.
    """
    unit = 2 * SIDE // 4  # pixel i has its centre at (4i - 5) / 14 in the scan: all weights are fourteenths
    centres = np.clip(4 * np.arange(SIDE) - 5, 0, (_SCAN_SIDE - 1) * unit)
    distances = np.abs(centres[:, None] - unit * np.arange(_SCAN_SIDE))
    weights = np.maximum(unit - distances, 0)
    whole = unit * unit * _SCAN_MAX
    return ((weights @ scans @ weights.T * 255 + whole // 2) // whole).astype(np.uint8)
