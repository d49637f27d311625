from dataclasses import replace

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets import data
from datasets.data import Augmentation, ImageData, Minibatches, cut_tasks, replay_repeats, replay_subset
from tests.make_data import settings
from utils.config import Benchmark
from utils.errors import UserError
from utils.seeding import generator

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(torch.tensor)
NONE = Augmentation()
QUICK = hypothesis.settings(deadline=None, max_examples=60)


def telling_data(*, num_train=60, num_test=20, num_classes=6):
    """Images that are told apart by their only grey value: the row's number."""
    return ImageData(
        torch.arange(num_train, dtype=torch.uint8)[:, None, None, None].expand(-1, 8, 8, 1),
        torch.arange(num_train) % num_classes,
        torch.arange(num_test, dtype=torch.uint8)[:, None, None, None].expand(-1, 8, 8, 1),
        torch.arange(num_test) % num_classes,
        tuple("abcdef"[:num_classes]),
    )


def telling_tasks(classes=((0, 1), (2, 3, 4)), *, data=None, augmentation=NONE, seed=0, **values):
    chosen = settings(Benchmark(dataset="digits", tasks=classes), seed=seed, **values)
    return cut_tasks(data or telling_data(), classes, chosen, augmentation)


# ---- tasks


def test_a_task_is_a_view_whose_labels_follow_the_order_of_its_classes():
    first, second = telling_tasks(((1, 0), (2, 3, 4)))
    assert first.train.images is second.train.images
    assert (first.num_classes, second.num_classes) == (2, 3)
    assert first.class_names == ("b", "a")
    assert first.image_shape == (1, 8, 8)
    assert len(first.train) == 20
    assert len(first.test) == 8
    assert torch.equal(first.train.rows % 6, 1 - first.train.labels)


def test_samples_keeps_so_many_of_each_class_and_no_test_image_is_lost():
    whole, few = telling_tasks()[1], telling_tasks(samples=4)[1]
    assert torch.bincount(few.train.labels).tolist() == [4, 4, 4]
    assert set(few.train.rows.tolist()) < set(whole.train.rows.tolist())
    assert torch.equal(few.test.rows, whole.test.rows)
    assert torch.equal(telling_tasks(samples=1000)[1].train.rows, whole.train.rows)


def test_samples_of_a_class_depend_on_its_name_and_the_seed_alone():
    given = telling_data()
    renamed = replace(given, train_classes=(given.train_classes + 1) % 6, class_names=tuple("fabcde"))
    first, second = telling_tasks(((0, 1), (5, 0)), samples=3)
    kept = [set(task.train.rows[task.train.rows % 6 == 0].tolist()) for task in (first, second)]
    assert kept[0] == kept[1]
    (other_ids,) = telling_tasks(((1, 2),), data=renamed, samples=3)
    assert other_ids.class_names == first.class_names
    assert torch.equal(other_ids.train.rows, first.train.rows)
    (other_seed,) = telling_tasks(((0, 1),), samples=3, seed=1)
    assert not torch.equal(other_seed.train.rows, first.train.rows)


@pytest.mark.parametrize(
    "used", [{"samples": 5}, {"validation": 0.25}, {"seed": 1, "samples": 1, "validation": 0.5}], ids=str
)
def test_a_fingerprint_is_of_all_images_whichever_a_run_uses(used):
    every, some = telling_tasks(), telling_tasks(**used)
    assert not torch.equal(every[0].train.rows, some[0].train.rows)
    assert [task.fingerprint for task in every] == [task.fingerprint for task in some]
    assert every[0].fingerprint != every[1].fingerprint


@QUICK
@given(part=st.integers(0, 1), place=st.integers(0, 59), pixel=st.integers(0, 63))
def test_a_fingerprint_depends_on_every_pixel(part, place, pixel):
    (task,) = telling_tasks(((0, 1, 2, 3, 4, 5),), samples=1)
    whole = list(task.whole)
    images = whole[part].images.clone()
    images.flatten(1)[place % len(images), pixel] += 100
    whole[part] = replace(whole[part], images=images)
    assert replace(task, whole=tuple(whole)).fingerprint != task.fingerprint


def test_a_fingerprint_depends_on_the_labels_and_not_on_where_the_images_are(tmp_path, monkeypatch):
    task = telling_tasks()[0]
    train, test = task.whole
    other = replace(task, whole=(replace(train, labels=train.labels.flip(0)), test))
    assert other.fingerprint != task.fingerprint
    np.save(tmp_path / "images.npy", train.images.numpy())
    mapped = torch.from_numpy(np.load(tmp_path / "images.npy", mmap_mode="c"))
    monkeypatch.setattr("datasets.data._BLOCK_BYTES", 100)
    assert replace(task, whole=(replace(train, images=mapped), test)).fingerprint == task.fingerprint


def test_a_class_without_test_images_is_refused():
    with pytest.raises(UserError) as error:
        telling_tasks(((0, 5),), data=telling_data(num_test=3))
    assert str(error.value) == "tasks[0]: expected test images of class 'f', 1 at least, got none"


# ---- replay


@QUICK
@given(LABELS, st.floats(0, 1), st.integers(0, 9))
def test_replay_subset_keeps_the_fraction_of_each_class(labels, fraction, seed):
    kept = replay_subset(labels, fraction, generator(seed, "replay"))
    assert kept.tolist() == sorted(set(kept.tolist()))
    for label in labels.unique():
        size = int((labels == label).sum())
        expected = max(1, round(fraction * size)) if fraction else 0
        assert int((labels[kept] == label).sum()) == expected


@QUICK
@given(LABELS, st.floats(1, 12), st.integers(0, 9))
def test_replay_repeats_are_exact_for_each_example_each_class_and_in_all(labels, repeats, seed):
    used = replay_repeats(labels, repeats, generator(seed, "repeats"))
    assert len(used) == round(repeats * len(labels))
    times = torch.bincount(used, minlength=len(labels))
    average = len(used) / len(labels)
    assert abs(times - average).max() < 1
    for label in labels.unique():
        members = labels == label
        assert abs(times[members].sum() - average * members.sum()) < 1


def test_replay_repeats_see_every_example_equally_often_on_average():
    labels = torch.tensor([0, 1, 1, 2, 2, 2, 2])
    times = sum(replay_repeats(labels, 10 / 7, generator(seed, "repeats")).bincount() for seed in range(2000))
    assert torch.allclose(times / 2000, torch.tensor(10 / 7), atol=0.05)  # four standard errors


def test_replay_draws_move_with_the_generator():
    labels = torch.arange(100) % 5
    for draw, share in ((replay_subset, 0.3), (replay_repeats, 1.5)):
        assert not torch.equal(draw(labels, share, generator(0, "a")), draw(labels, share, generator(1, "a")))


# ---- augmentation


def one_at_a_time(images, crops, pad):
    cut = []
    for image, (top, left, mirrored) in zip(images.numpy(), crops.tolist(), strict=True):
        height, width, _ = image.shape
        padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))[top : top + height, left : left + width]
        cut.append(padded[:, ::-1] if mirrored else padded)
    return torch.from_numpy(np.stack(cut))


@QUICK
@given(
    batch=st.integers(1, 7),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])),
    pad=st.integers(0, 4),
    flip=st.booleans(),
    seed=st.integers(0, 99),
)
def test_crop_and_flip_is_what_one_does_image_by_image(batch, shape, pad, flip, seed):
    images = torch.randint(0, 256, (batch, *shape), generator=generator(seed, "images"), dtype=torch.uint8)
    augmentation = Augmentation(pad, flip)
    crops = data.draw_crops(batch, augmentation, generator(seed, "crops"))
    result = data.crop_and_flip(images, crops, augmentation)
    assert result.dtype == torch.uint8
    assert torch.equal(result, one_at_a_time(images, crops, pad))


def test_draws_reach_every_offset_and_mirror_only_where_allowed():
    crops = data.draw_crops(2000, Augmentation(4, flip=True), generator(0, "crops"))
    assert [sorted(set(column.tolist())) for column in crops.T] == [list(range(9)), list(range(9)), [0, 1]]
    assert not data.draw_crops(2000, Augmentation(4), generator(0, "crops"))[:, 2].any()


# ---- minibatches


def rows_of(batches):
    """The row numbers that the grey values of telling images name."""
    return [int(image[0, 0, 0]) for batch in batches for image in batch.images]


def minibatches(tasks, *, batch=7, round_id=0, **values):
    positions = [torch.arange(len(task.train)) for task in tasks]
    return Minibatches(tasks, positions, settings(batch=batch, **values), round_id)


def test_an_epoch_covers_every_example_once_in_another_order_each_time():
    tasks = telling_tasks()
    pool = minibatches(tasks)
    epochs = [list(pool.epoch(epoch)) for epoch in (0, 1)]
    expected = sorted(row for task in tasks for row in task.train.rows.tolist())
    for batches in epochs:
        assert sorted(rows_of(batches)) == expected
        assert [len(batch.labels) for batch in batches] == [7] * 7 + [1]  # the last, incomplete one is used
        assert len(pool) == len(batches)
    assert rows_of(epochs[0]) != rows_of(epochs[1])


def test_heads_and_labels_belong_to_the_images():
    tasks = telling_tasks()
    for batch in minibatches(tasks).epoch(3):
        for row, head, label in zip(rows_of([batch]), batch.heads.tolist(), batch.labels.tolist(), strict=True):
            assert row % 6 == ((0, 1), (2, 3, 4))[head][label]


def test_repeated_positions_are_seen_so_often():
    task = telling_tasks()[0]
    positions = torch.tensor([0, 0, 0, 5])
    pool = Minibatches([task], [positions], settings(batch=3), 0)
    assert sorted(rows_of(pool.epoch(0))) == sorted(task.train.rows[positions].tolist())


@pytest.mark.parametrize("first", [0, 1, 5, 8])
def test_an_epoch_taken_up_in_the_middle_equals_its_tail(first):
    pool = minibatches(telling_tasks(augmentation=Augmentation(2, flip=True)), epochs=3)
    whole, tail = list(pool.epoch(2)), list(pool.epoch(2, first))
    assert len(tail) == len(whole) - first
    for expected, got in zip(whole[first:], tail, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_order_and_crops_move_with_the_seed_the_round_and_the_epoch():
    tasks = telling_tasks(augmentation=Augmentation(2))
    drawn = [
        [image.tolist() for batch in minibatches(tasks, epochs=3, **values).epoch(epoch) for image in batch.images]
        for values, epoch in (({}, 0), ({}, 1), ({"seed": 1}, 0), ({"round_id": 1}, 0))
    ]
    assert len({repr(images) for images in drawn}) == 4


@pytest.mark.parametrize("values", [{"epochs": 1}, {"epochs": 3, "augment": "none"}])
def test_one_epoch_and_augment_none_leave_images_as_they_are(values):
    tasks = telling_tasks(augmentation=Augmentation(2, flip=True))
    for batch in minibatches(tasks, **values).epoch(0):
        assert (batch.images == batch.images[:, :1, :1]).all()
    padded = [batch.images for batch in minibatches(tasks, epochs=3).epoch(0)]
    assert not all((images == images[:, :1, :1]).all() for images in padded)
