import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits as load_scans

from datasets.digits import enlarged, load_digits
from tests.make_data import request


def test_enlargement_is_bilinear():
    scans = load_scans().images
    expected = F.interpolate(torch.from_numpy(scans)[:, None], size=28, mode="bilinear")[:, 0] * 255 / 16
    difference = torch.from_numpy(enlarged(scans.astype("int64"))).double() - expected
    assert difference.abs().max() <= 0.5 + 1e-9  # rounding


def test_black_and_white_stay_so():
    assert enlarged(torch.zeros(1, 8, 8, dtype=torch.int64).numpy()).max() == 0
    assert enlarged(torch.full((1, 8, 8), 16).numpy()).min() == 255


def test_the_split_is_stratified_and_no_seed_moves_it(tmp_path):
    first, second = (load_digits(request(tmp_path, seed=seed)) for seed in (0, 1))
    assert torch.equal(first.train_images, second.train_images)
    train, test = torch.bincount(first.train_classes), torch.bincount(first.test_classes)
    assert int(train.sum() + test.sum()) == 1797
    assert torch.equal(test, (train + test) // 5)
    assert first.train_images.shape == (1442, 28, 28, 1)
    assert first.test_images.dtype == torch.uint8
