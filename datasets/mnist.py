"""MNIST: 28 x 28 grey handwritten digits, 60,000 to train and 10,000 to test (LeCun et al. 1998)."""

from datasets.data import ImageData
from datasets.files import npz_or_torchvision
from utils.config import Benchmark, Options


def load_mnist(benchmark: Benchmark, options: Options) -> ImageData:
    """MNIST, uint8 images ``[60000 and 10000, 28, 28, 1]``.

    Raises:
        UserError: The data cannot be found or downloaded, or is damaged.
    """
    files = "MNIST/raw/*ubyte*"
    return npz_or_torchvision("mnist", "MNIST", options, class_names=tuple("0123456789"), side=28, files=files)
