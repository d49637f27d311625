import numpy as np
import pytest
import torch
from torchvision.transforms.functional import rotate

from datasets.data import Augmentation, cut_tasks
from datasets.modmnist import load_permuted_mnist, load_rotated_mnist, permuted, rotated
from tests.make_data import REAL_DATA, asked, digest, random_arrays, settings
from utils.errors import UserError

# Digests of the first 16 training images of MNIST in each variant.
FIRST_ROTATED = """
bd72166b338e997c fdf2f07c012f6a11 38e0fb9a05d6d08a a34cfe778e00805d 40edfec6a75142f2 fec1c8bf301943cf
9b32f9099949a5a8 69ccadac105af35e f8e6e18c67910175 80ebdb186e94c9b2 d790f49b7e1d3d26 a506ebafc989f3a6
a2d5d2c840802eaa b12a04590e3f7e88 ce246dba36d56a31 c92962295ae1936d f3f86ab0f1449902 4ddcafe4df00b015
8c41434e961badc1 94a8c31f868fdbdc a3fc25d1957db9d3 a08b7da87bebdc20 cbdd5211f8e198aa 5d77544fe7a37d8b
c7acc5f0b1d69cf3 f773acd527fb4cbc 70c105d09efb20f1 03cf6090352f5c0e 0cd072ae6a3fbccd 549f18ef06b436e5
517d0c75660e6861 cba5588434d3b335 09f8400d5cfb75b4 2c39af6ddd4b20a3 00db3a2637c79247 768e6f194b1507d9
"""
FIRST_PERMUTED = """
bd72166b338e997c 2d616a90115f68f1 aca374337a5740d1 7fd035d5b3f4f6b3 c48929eca2749240 d6c5ff8b6c51c6f3
3b497bc243e0a2ce 6a3435312e10f212 e337bd78c45aa218 69b5947aa90276ad 0b410a0c7a227243 13f68a4906d4fdc5
789250a4c6a23945 b09431654e69d96c 1f26a587c6e66cb4 5382fb3c1a8bc7de 39e6dbaf73aae566 d4e1fd6bb38b9c2d
c11c659be1adcf7f 7bb10327a526be5c 23cc565ca765735d 718f74f8318f2998 65d798a6c7e2e669 aba1603a8b732bd4
888de7ad24ef3b77 c2d643b80ee86ea5 71e17b5c6c830026 5629e923e50fea42 240a033710ad4c77 bd39a2ccf575f404
e801c079bc9e37c8 cd1f5aaf9d028fe1 f8cfd35b43af635f f7eb28ad14f4ebaf 03463a532d0bcb42 721ff47c5667f2c8
"""


@pytest.fixture
def small_mnist(tmp_path):
    arrays = random_arrays(shape=(28, 28), num_train=30, num_test=20)
    np.savez(tmp_path / "mnist.npz", **arrays)
    return tmp_path, arrays


@pytest.fixture(scope="module")
def first_images():
    path = REAL_DATA / "mnist.npz"
    if not path.exists():
        pytest.skip(f"needs the real MNIST, {path} is not there")
    with np.load(path) as archive:
        return torch.from_numpy(archive["x_train"][:16])[..., None]


@pytest.mark.parametrize(("change", "golden"), [(rotated, FIRST_ROTATED), (permuted, FIRST_PERMUTED)])
def test_first_images_of_each_variant(first_images, change, golden):
    assert [digest(change(first_images, variant)) for variant in range(36)] == golden.split()


@pytest.mark.parametrize("load", [load_rotated_mnist, load_permuted_mnist])
def test_only_the_variants_asked_for_are_made(small_mnist, load):
    folder, arrays = small_mnist
    data = load(*asked(folder, tasks=((3, 7), (20, 21))))
    assert data.train_images.shape == (60, 28, 28, 1)
    assert data.test_images.shape == (40, 28, 28, 1)
    assert data.train_classes.tolist() == arrays["y_train"].tolist() + (20 + arrays["y_train"]).tolist()
    assert np.array_equal(data.train_images[:30, ..., 0], arrays["x_train"])  # variant 0 is MNIST itself
    assert len(data.class_names) == 360
    assert data.class_names[37] in ("7 at 30 degrees", "7 permuted 3")


@pytest.mark.parametrize("load", [load_rotated_mnist, load_permuted_mnist])
def test_all_variants_keep_the_same_originals_under_samples(small_mnist, load):
    folder, arrays = small_mnist
    arrays["y_train"][:] = np.arange(30) % 2
    np.savez(folder / "mnist.npz", **arrays)
    benchmark, options = asked(folder, tasks=((0, 1), (20, 21), (31, 30)))
    data = load(benchmark, options)
    tasks = cut_tasks(data, benchmark.tasks, settings(benchmark, samples=4), Augmentation())
    plain, turned, swapped = (sorted((task.train.rows % 30).tolist()) for task in tasks)  # places in MNIST itself
    assert plain == turned == swapped
    assert len(plain) == 8
    other_seed = cut_tasks(data, benchmark.tasks, settings(benchmark, samples=4, seed=1), Augmentation())
    assert sorted(other_seed[0].train.rows.tolist()) != plain


@pytest.mark.parametrize("variant", range(36))
def test_rotation_is_that_of_each_image_by_itself(variant):
    images = torch.randint(0, 256, (20, 28, 28, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotated(images, variant)[..., 0], rotate(images[..., 0][:, None], 10.0 * variant)[:, 0])
    assert variant != 9 or torch.equal(rotated(images, variant), torch.rot90(images, 1, (1, 2)))  # counter-clockwise


def test_a_permutation_takes_every_pixel_once_the_same_for_all_images(small_mnist):
    folder, arrays = small_mnist
    data = load_permuted_mnist(*asked(folder, tasks=((30, 31),)))
    order = np.random.default_rng(3000).permutation(784)
    assert sorted(order) == list(range(784))
    for part, images in (("train", data.train_images), ("test", data.test_images)):
        assert np.array_equal(images.flatten(1), arrays[f"x_{part}"].reshape(-1, 784)[:, order])


@pytest.mark.parametrize("load", [load_rotated_mnist, load_permuted_mnist])
@pytest.mark.parametrize("classes", [(0, 11), (9, 10), (360, 361), (-1, -2), (0, "1")])
def test_a_task_is_of_one_variant_and_that_is_checked_before_any_data_is_read(tmp_path, load, classes):
    with pytest.raises(UserError) as error:
        load(*asked(tmp_path, tasks=((0, 1), classes)))
    expected = "expected classes 10x..10x+9 of one variant x, 0 <= x <= 35"
    assert str(error.value) == f"tasks[1]: {expected}, got {list(classes)}"
