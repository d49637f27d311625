import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.data import (
    Augmentation,
    DataError,
    ImageData,
    Minibatches,
    crop_and_flip,
    cut_tasks,
    draw_crops,
    replay_repeats,
    replay_subset,
)
from tests.make_data import named_by

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(torch.tensor)
NONE = Augmentation()
QUICK = settings(deadline=None, max_examples=60)


def telling_data(*, num_train=60, num_test=20, num_classes=6):
    """Images that are told apart by their only grey value: the row's number."""
    return ImageData(
        torch.arange(num_train, dtype=torch.uint8)[:, None, None, None].expand(-1, 8, 8, 1),
        torch.arange(num_train) % num_classes,
        torch.arange(num_test, dtype=torch.uint8)[:, None, None, None].expand(-1, 8, 8, 1),
        torch.arange(num_test) % num_classes,
        tuple("abcdef"[:num_classes]),
    )


def telling_tasks(classes=((0, 1), (2, 3, 4)), *, samples=None, augmentation=NONE, seed=0):
    names = [f"task {i}" for i in range(len(classes))]
    data = telling_data()
    return cut_tasks(data, classes, names=names, augmentation=augmentation, samples=samples, named=named_by(seed))


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


def test_samples_above_what_there_is_keeps_all():
    assert torch.equal(telling_tasks(samples=1000)[0].train.rows, telling_tasks()[0].train.rows)


def test_samples_of_a_class_are_the_same_in_every_task_and_move_with_the_seed():
    first, second = telling_tasks(((0, 1), (5, 0)), samples=3)
    kept = [set(task.train.rows[task.train.rows % 6 == 0].tolist()) for task in (first, second)]
    assert kept[0] == kept[1]
    other = telling_tasks(((0, 1),), samples=3, seed=1)[0]
    assert not torch.equal(first.train.rows, other.train.rows)


def test_samples_of_a_class_do_not_depend_on_the_classes_before_it():
    data = telling_data()
    renamed = replace(data, train_classes=(data.train_classes + 1) % 6, class_names=tuple("fabcde"))
    (first,), (second,) = (
        cut_tasks(each, [ids], names=["x"], augmentation=NONE, samples=3, named=named_by(0))
        for each, ids in ((data, [0, 1]), (renamed, [1, 2]))
    )
    assert first.class_names == second.class_names == ("a", "b")
    assert torch.equal(first.train.rows, second.train.rows)


def test_a_fingerprint_tells_apart_which_images_are_kept():
    prints = {telling_tasks(((0, 1),), samples=5, seed=seed)[0].fingerprint for seed in range(20)}
    assert len(prints) == 20
    assert telling_tasks(samples=5)[0].fingerprint in prints


def test_a_class_without_test_images_is_refused():
    data = telling_data(num_test=3)
    with pytest.raises(DataError) as error:
        cut_tasks(data, [[0, 5]], names=["x"], augmentation=NONE, samples=None, named=named_by(0))
    assert str(error.value) == "tasks[0]: class 'f' has no test images"


# ---- replay


@QUICK
@given(LABELS, st.floats(0, 1), st.integers(0, 9))
def test_replay_subset_keeps_the_fraction_of_each_class(labels, fraction, seed):
    kept = replay_subset(labels, fraction, named_by(seed)("replay"))
    assert kept.tolist() == sorted(set(kept.tolist()))
    for label in labels.unique():
        size = int((labels == label).sum())
        expected = max(1, round(fraction * size)) if fraction else 0
        assert int((labels[kept] == label).sum()) == expected


@QUICK
@given(LABELS, st.floats(1, 12), st.integers(0, 9))
def test_replay_repeats_are_exact_and_stratified(labels, repeats, seed):
    used = replay_repeats(labels, repeats, named_by(seed)("repeats"))
    whole, extra = int(repeats), round((repeats - int(repeats)) * len(labels))
    assert len(used) == whole * len(labels) + extra
    times = torch.bincount(used, minlength=len(labels))
    assert set(times.tolist()) <= {whole, whole + 1}
    for label in labels.unique():
        members = labels == label
        share = extra * int(members.sum()) / len(labels)
        assert abs(int((times[members] - whole).sum()) - share) < 1


def test_replay_draws_move_with_the_generator():
    labels = torch.arange(100) % 5
    assert not torch.equal(replay_subset(labels, 0.3, named_by(0)("a")), replay_subset(labels, 0.3, named_by(1)("a")))
    draws = [replay_repeats(labels, 1.5, named_by(seed)("a")) for seed in (0, 1)]
    assert not torch.equal(*draws)


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
    named = named_by(seed)
    images = torch.randint(0, 256, (batch, *shape), generator=named("images"), dtype=torch.uint8)
    augmentation = Augmentation(pad, flip)
    crops = draw_crops(batch, augmentation, named("crops"))
    result = crop_and_flip(images, crops, augmentation)
    assert result.dtype == torch.uint8
    assert torch.equal(result, one_at_a_time(images, crops, pad))


def test_draws_reach_every_offset_and_mirror_only_where_allowed():
    crops = draw_crops(2000, Augmentation(4, flip=True), named_by(0)("crops"))
    assert [sorted(set(column.tolist())) for column in crops.T] == [list(range(9)), list(range(9)), [0, 1]]
    assert not draw_crops(2000, Augmentation(4), named_by(0)("crops"))[:, 2].any()


# ---- minibatches


def rows_of(batches):
    """The row numbers that the grey values of telling images name."""
    return [int(image[0, 0, 0]) for batch in batches for image in batch.images]


def minibatches(tasks, *, batch_size=7, seed=0, augmentation=NONE):
    positions = [torch.arange(len(task.train)) for task in tasks]
    return Minibatches(tasks, positions, batch_size=batch_size, augmentation=augmentation, named=named_by(seed))


def test_an_epoch_covers_every_example_once_in_another_order_each_time():
    tasks = telling_tasks()
    pool = minibatches(tasks)
    epochs = [list(pool.epoch(epoch)) for epoch in (0, 1)]
    expected = sorted(row for task in tasks for row in task.train.rows.tolist())
    for batches in epochs:
        assert sorted(rows_of(batches)) == expected
    assert rows_of(epochs[0]) != rows_of(epochs[1])


def test_the_last_incomplete_minibatch_is_used():
    pool = minibatches(telling_tasks(), batch_size=7)
    sizes = [len(batch.labels) for batch in pool.epoch(0)]
    assert sizes == [7] * 7 + [1]
    assert len(pool) == len(sizes) == math.ceil(50 / 7)


def test_heads_and_labels_belong_to_the_images():
    tasks = telling_tasks()
    for batch in minibatches(tasks).epoch(3):
        for row, head, label in zip(rows_of([batch]), batch.heads.tolist(), batch.labels.tolist(), strict=True):
            assert row % 6 == ((0, 1), (2, 3, 4))[head][label]


def test_repeated_positions_are_seen_so_often():
    task = telling_tasks()[0]
    positions = torch.tensor([0, 0, 0, 5])
    pool = Minibatches([task], [positions], batch_size=3, augmentation=NONE, named=named_by(0))
    assert sorted(rows_of(pool.epoch(0))) == sorted(task.train.rows[positions].tolist())


@pytest.mark.parametrize("first", [0, 1, 5, 8])
def test_an_epoch_taken_up_in_the_middle_equals_its_tail(first):
    pool = minibatches(telling_tasks(), augmentation=Augmentation(2, flip=True))
    whole, tail = list(pool.epoch(2)), list(pool.epoch(2, first))
    assert len(tail) == len(whole) - first
    for expected, got in zip(whole[first:], tail, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
