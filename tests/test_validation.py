"""``--validation``: training images that are held out, and scored in place of the test images."""

import json

import numpy as np
import pytest
import torch

from datasets.data import Augmentation, ImageData, cut_tasks
from tests.make_data import settings
from tests.small_runs import class_images, run, tiny_flags
from utils.config import Benchmark
from utils.errors import UserError

BENCHMARK = Benchmark(dataset="digits", tasks=((0, 1), (2, 3)))


def data(per_class=20):
    images = torch.from_numpy(np.concatenate([class_images(c, per_class) for c in range(4)]))
    classes = torch.arange(4).repeat_interleave(per_class)
    return ImageData(images, classes, images[:0], classes[:0], tuple("abcd"))  # no test images: none are looked at


def cut(per_class=20, **changes):
    return cut_tasks(data(per_class), BENCHMARK.tasks, settings(BENCHMARK, **changes), Augmentation())


def rows(split):
    return set(split.rows.tolist())


@pytest.mark.parametrize("samples", [None, 3])
def test_what_is_held_out_is_not_trained_on_and_is_a_part_of_each_class(samples):
    for task in cut(validation=0.25, samples=samples):
        assert not rows(task.train) & rows(task.test)
        assert task.test.images is task.train.images
        assert torch.bincount(task.test.labels).tolist() == [5, 5]
        assert torch.bincount(task.train.labels).tolist() == [samples or 15] * 2
        labels = task.test.rows // 20 - 2 * task.task_id  # classes stand in a row
        assert torch.equal(labels, task.test.labels)


def test_every_method_is_scored_on_the_same_images_and_every_seed_on_its_own():
    methods = [
        {"continual": True, "tasks_per_round": 1},
        {"num_rounds": 1, "tasks_per_round": 2},
        {"epochs": 9, "naive": True, "batch": 4},
        {"samples": 2},
    ]
    held_out = [[rows(task.test) for task in cut(validation=0.25, **method)] for method in methods]
    assert all(found == held_out[0] for found in held_out)
    assert [rows(task.test) for task in cut(validation=0.25, seed=1)] != held_out[0]


def test_a_class_keeps_one_image_to_train_and_one_to_score_at_least():
    for task in cut(per_class=2, validation=0.01) + cut(per_class=2, validation=0.99):
        assert (len(task.train), len(task.test)) == (2, 2)
    with pytest.raises(UserError, match=r"tasks\[0\]: expected train images of class 'a', 2 at least, got 1"):
        cut(per_class=1, validation=0.5)


def test_a_run_says_what_it_was_scored_on_and_does_not_look_at_test_images(tmp_path, capsys):
    flags = [*tiny_flags(tmp_path), "--continual", "--validation", "0.34"]
    assert run(*flags, "--run_dir", tmp_path / "one") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("round   0 of 4   validation ")
    assert "34% of each class's training images" in printed
    assert json.loads((tmp_path / "one/run.json").read_text())["scored_on"] == "validation"
    assert run("--evaluate", tmp_path / "one") == 0
    with np.load(tmp_path / "tiny.npz") as archive:
        arrays = dict(archive)
    arrays["x_test"] = 255 - arrays["x_test"]
    np.savez(tmp_path / "tiny.npz", **arrays)
    assert run(*flags, "--run_dir", tmp_path / "two") == 0
    assert (tmp_path / "one/accuracy.csv").read_bytes() == (tmp_path / "two/accuracy.csv").read_bytes()
    assert run("--evaluate", tmp_path / "one") == 1  # of a run's data every image counts
