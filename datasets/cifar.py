"""CIFAR-10 and CIFAR-100: 32 x 32 colour images, 50,000 to train and 10,000 to test (Krizhevsky 2009)."""

from datasets.data import ImageData
from datasets.files import npz_or_torchvision
from utils.config import Benchmark, Options

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_CLASSES = tuple(
    """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm""".split()
)


def load_cifar10(benchmark: Benchmark, options: Options) -> ImageData:
    """CIFAR-10, uint8 images ``[50000 and 10000, 32, 32, 3]``.

    Torchvision's files are pickles; torchvision opens them only if their MD5 sums are the published ones.

    Raises:
        UserError: The data cannot be found or downloaded, or is damaged.
    """
    return npz_or_torchvision("cifar10", "CIFAR10", options, class_names=CIFAR10_CLASSES, side=32, files="cifar-10-*")


def load_cifar100(benchmark: Benchmark, options: Options) -> ImageData:
    """CIFAR-100 with its 100 fine labels; images, checks and errors are those of ``load_cifar10``."""
    files = "cifar-100-*"
    return npz_or_torchvision("cifar100", "CIFAR100", options, class_names=CIFAR100_CLASSES, side=32, files=files)
