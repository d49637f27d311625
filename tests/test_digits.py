import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits as load_scans

from datasets.digits import enlarged, load_digits
from tests.make_data import asked


def test_enlargement_is_bilinear():
    scans = load_scans().images
    expected = F.interpolate(torch.from_numpy(scans)[:, None], size=28, mode="bilinear")[:, 0] * 255 / 16
    difference = torch.from_numpy(enlarged(scans.astype("int64"))).double() - expected
    assert difference.abs().max() <= 0.5 + 1e-9  # rounding


def test_the_split_is_stratified(tmp_path):
    data = load_digits(*asked(tmp_path))
    train, test = torch.bincount(data.train_classes), torch.bincount(data.test_classes)
    assert int(train.sum() + test.sum()) == 1797
    assert torch.equal(test, (train + test) // 5)
    assert data.train_images.shape == (1442, 28, 28, 1)
    assert data.test_images.dtype == torch.uint8
