import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import custom
from datasets.custom import load_image_folder, load_npz
from tests.make_data import asked, digest, make_image, make_image_folder, random_arrays
from tests.small_runs import run, write_recipe, write_yaml
from utils.errors import UserError, short

PETS = ("ant", "bee", "cat")


@pytest.fixture
def pets(tmp_path):
    """Three classes of five PNG files, 12 x 10 pixels, without a test part."""
    return make_image_folder(tmp_path / "pets", PETS)


@pytest.fixture
def split_pets(tmp_path):
    """The same with train (5 a class) and test (2 a class)."""
    make_image_folder(tmp_path / "split" / "train", PETS)
    return make_image_folder(tmp_path / "split" / "test", PETS, per_class=2).parent


def load(root, **options):
    return load_image_folder(*asked(root.parent / "data", root=root, **options))


def message_of(call):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- npz


def npz(tmp_path, **changes):
    path = tmp_path / "mine.npz"
    np.savez(path, **random_arrays(shape=(9, 7), num_classes=4) | changes)
    return path


def test_npz_is_read_from_root_and_its_classes_are_called_by_their_numbers(tmp_path):
    data = load_npz(*asked(tmp_path, root=npz(tmp_path)))
    assert data.train_images.shape == (100, 9, 7, 1)
    assert data.class_names == ("0", "1", "2", "3")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": np.full(50, 4)}, "y_test: expected class ids 0..3, got 4..4"),
        ({"y_train": np.full(100, 10**12)}, f"y_train: expected class ids 0..99, got {10**12}..{10**12}"),
    ],
)
def test_npz_class_ids_of_no_training_image_or_beyond_all_sense_are_refused(tmp_path, changes, message):
    path = npz(tmp_path, **changes)
    assert message_of(lambda: load_npz(*asked(tmp_path, root=path))) == f"{path}: {message}"


def test_npz_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "none.npz"
    assert message_of(lambda: load_npz(*asked(tmp_path, root=path))).startswith(f"{path}: expected a whole npz file")


# ---- image_folder: layouts


def test_train_and_test_folders_are_kept_and_classes_sorted(split_pets):
    data = load(split_pets)
    assert data.class_names == PETS
    assert data.train_images.shape == (15, 10, 12, 3)
    assert data.train_classes.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert data.test_classes.tolist() == [0, 0, 1, 1, 2, 2]
    for row, path in ((7, "train/bee/image_2.png"), (14, "train/cat/image_4.png")):
        assert np.array_equal(data.train_images[row], np.array(Image.open(split_pets / path)))
    assert np.array_equal(data.test_images[3], np.array(Image.open(split_pets / "test/bee/image_1.png")))


def test_a_test_fraction_is_drawn_in_each_class(pets):
    data = load(pets, test_fraction=0.4)
    assert torch.bincount(data.test_classes).tolist() == [2, 2, 2]
    assert torch.bincount(data.train_classes).tolist() == [3, 3, 3]
    everything = torch.cat([data.train_images, data.test_images])
    assert len({digest(image) for image in everything}) == 15
    assert digest(data.test_images) == "0cf970b0a6e47c10"
    for fraction, num_test in ((0.01, 1), (0.99, 4)):  # an image at least to train, and one to test
        assert torch.bincount(load(pets, test_fraction=fraction).test_classes).tolist() == [num_test] * 3


def test_the_split_of_a_class_does_not_depend_on_the_others(pets):
    before = load(pets, test_fraction=0.4)
    shutil.rmtree(pets / "ant")
    after = load(pets, test_fraction=0.4)
    assert torch.equal(before.test_images[before.test_classes == 1], after.test_images[after.test_classes == 0])


LEFT_OUT = {  # in two class folders, and beside these
    "another suffix": (lambda path: path.with_suffix(".webp").touch(), "ant/x.webp (file)", "bee/x.webp (file)", None),
    "no UTF-8": (
        lambda path: path.with_name(os.fsdecode(b"caf\xe9")).touch(),
        "ant/caf\udce9 (file)",
        "bee/caf\udce9 (file)",
        None,
    ),
    "an image": (lambda path: make_image(path.with_suffix(".PNG"), (12, 10)), None, None, "x.PNG (file)"),
    "a folder": (lambda path: make_image(path / "x.png", (12, 10)), "ant/x (folder)", "bee/x (folder)", None),
    "an empty folder": (lambda path: path.mkdir(), "ant/x (folder)", "bee/x (folder)", "x (folder)"),
    "a broken link": (
        lambda path: path.symlink_to("none"),
        "ant/x (broken link)",
        "bee/x (broken link)",
        "x (broken link)",
    ),
}


@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_is_no_image_of_a_class_is_left_out_with_one_warning(pets, split_pets, case, is_split):
    root, part, options = (split_pets, "test/", {}) if is_split else (pets, "", {"test_fraction": 0.4})
    make, in_ant, in_bee, beside = LEFT_OUT[case]
    images = load(root, **options).train_images
    for folder, found in (("ant", in_ant), ("bee", in_bee), ("", beside)):
        if found:
            make(root / part / folder / "x")
    found = [part + name for name in (in_ant, in_bee, beside) if name]
    with pytest.warns(UserWarning, match="left out") as warned:
        data = load(root, **options)
    expected = f"{root}: {len(found)} left out, no .png, .jpg, .jpeg of a class: {short(found)}"
    assert [str(warning.message) for warning in warned] == [expected]
    assert data.class_names == PETS
    assert torch.equal(data.train_images, images)


@pytest.mark.parametrize("name", ["loose.jpg", "val/ant/a.png", "ant/a.png"])
def test_images_beside_train_and_test_are_left_out_with_a_warning(split_pets, name):
    make_image(split_pets / name, (12, 10))
    with pytest.warns(UserWarning, match=re.escape(f"{split_pets}: 1 left out, no ")):
        assert len(load(split_pets, tasks=(("ant", "bee"),)).train_images) == 15


def test_hidden_files_and_notes_beside_the_classes_are_left_out_silently(pets):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "ant/.x.png", "bee/Thumbs.db", "README.md", "pets.yaml"):
        (pets / name).touch()
    (pets / ".git").mkdir()
    assert load(pets, test_fraction=0.4).class_names == PETS


def test_a_linked_class_is_a_class(tmp_path, pets):
    (pets / "cat").rename(tmp_path / "elsewhere")
    (pets / "cat").symlink_to(tmp_path / "elsewhere")
    assert load(pets, test_fraction=0.4).class_names == PETS


def test_classes_are_counted_without_folders_that_have_no_images(pets):
    (pets / "ape").mkdir()
    make_image(pets / "beaver" / "more" / "a.png", (12, 10))
    with pytest.warns(UserWarning, match=re.escape("['ape (folder)', 'beaver (folder)']")):
        assert load(pets, test_fraction=0.4, tasks=((0, 1),)).class_names == PETS


@pytest.mark.parametrize("is_split", [False, True])
def test_a_class_that_a_task_names_needs_images(pets, split_pets, is_split):
    root, part, options = (split_pets, "train/", {}) if is_split else (pets, "", {"test_fraction": 0.4})
    for name, found in (("dog", "none"), ("eel", "['a.webp', 'more']")):
        for folder in {root / part / name, root / part.replace("train", "test") / name}:
            folder.mkdir()
            if found != "none":
                (folder / "a.webp").touch()
                (folder / "more").mkdir()
        path, tasks = root / part / name, (("ant", "bee"), ("cat", name))
        if is_split:
            path = root / "test" / name  # by name the first
        message = message_of(lambda tasks=tasks: load(root, tasks=tasks, **options))
        assert message == f"{path}: expected .png, .jpg, .jpeg files of this class, found {found}"


# ---- image_folder: names


CAFE, CAFE_IN_PARTS = "caf\u00e9", "cafe\u0301"  # as most systems write it, and as a Mac does


def test_a_name_is_the_same_in_any_unicode_form(tmp_path):
    make_image_folder(tmp_path / "a" / "train", ("caff", CAFE, "bee"))
    root = make_image_folder(tmp_path / "a" / "test", ("caff", CAFE_IN_PARTS, "bee"), per_class=2).parent
    data = load(root)
    assert data.class_names == ("bee", "caff", CAFE)  # the test folders stand in another order
    for row, name in ((2, "caff"), (4, CAFE_IN_PARTS)):
        assert np.array_equal(data.test_images[row], np.array(Image.open(root / "test" / name / "image_0.png")))
    assert data.test_classes.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_run_on_such_names_and_its_use(tmp_path, capfd):
    root = make_image_folder(tmp_path / "places", (CAFE_IN_PARTS, "bee"), sizes=((22, 22),))
    benchmark = {"dataset": "image_folder", "root": "places", "test_fraction": 0.4}
    path = write_yaml(tmp_path / "places.yaml", **benchmark, tasks=[[CAFE, "bee"]], task_names=[f"the {CAFE}"])
    flags = ["--data_config", path, "--hp_config", write_recipe(tmp_path), "--epochs", "1"]
    assert run(*flags, "--data_dir", tmp_path / "data", "--run_dir", tmp_path / "run") == 0
    for name, status in ((f"the {CAFE}", 0), (f"the {CAFE_IN_PARTS}", 0), ("the cafe", 2)):
        assert run("--predict", tmp_path / "run", "--task", name, root / "bee" / "image_0.png") == status
    assert "modelzoo.py: --task: expected the name or id of one of 0 (the " in capfd.readouterr().err


def test_which_images_are_for_test_depends_on_the_name_on_the_disk(tmp_path):
    root = make_image_folder(tmp_path / "a", (CAFE_IN_PARTS, "bee"), per_class=9)
    assert digest(load(root, test_fraction=0.4).test_images) == "eb8b6ce45b590aa8"


def test_two_folders_of_one_name_are_refused(tmp_path):
    root = make_image_folder(tmp_path / "a", (CAFE, CAFE_IN_PARTS, "bee"))
    message = message_of(lambda: load(root, test_fraction=0.4))
    assert message == f"{root}: expected class folders with names that differ, found {CAFE!r} twice"


def test_names_that_are_not_utf8_are_read_and_cached_and_spelled_out(tmp_path):
    root = make_image_folder(tmp_path / os.fsdecode(b"\xe9t\xe9"), ("ant", os.fsdecode(b"caf\xe9")))
    (root / "ant" / "image_0.png").rename(root / "ant" / os.fsdecode(b"\xff.png"))
    first, second = (load(root, test_fraction=0.4) for _ in range(2))
    assert first.class_names == ("ant", "caf\\udce9")
    assert torch.equal(first.train_images, second.train_images)
    assert len(cached(tmp_path)) == 1
    (root / "ant" / os.fsdecode(b"\xff.png")).write_bytes(b"no picture")
    assert "\udcff.png: expected a whole PNG or JPEG" in message_of(lambda: load(root, test_fraction=0.4))


def test_a_class_may_be_called_train(tmp_path):
    root = make_image_folder(tmp_path / "vehicles", ("bus", "train"))
    assert load(root, test_fraction=0.4).class_names == ("bus", "train")


# ---- image_folder: channels and sizes


def test_grey_files_give_one_channel_and_a_single_coloured_one_three(tmp_path):
    root = make_image_folder(tmp_path / "grey", ("a", "b"), mode="L")
    assert load(root, test_fraction=0.4).train_images.shape == (6, 10, 12, 1)
    make_image(root / "a" / "image_0.png", (12, 10), mode="RGB")
    assert load(root, test_fraction=0.4).train_images.shape == (6, 10, 12, 3)


def test_files_of_several_sizes_need_an_image_size(tmp_path):
    root = make_image_folder(tmp_path / "photos", ("a", "b"), sizes=((40, 30), (32, 48)), suffix=".jpg")
    several = "since images are of several sizes, such as 40 x 30 and 32 x 48 pixels"
    assert message_of(lambda: load(root, test_fraction=0.4)) == f"image_size: needed, {several}"
    assert load(root, test_fraction=0.4, image_size=16).train_images.shape == (6, 16, 16, 3)


def test_turned_images_count_with_their_upright_size(tmp_path):
    root = make_image_folder(tmp_path / "turned", ("a", "b"), sizes=((12, 10),))
    exif = Image.Exif()
    exif[0x0112] = 6
    make_image(root / "a" / "image_0.png", (10, 12), exif=exif)
    assert load(root, test_fraction=0.4).train_images.shape == (6, 10, 12, 3)


# ---- image_folder: what is refused


def test_a_class_in_train_or_test_alone_is_named(split_pets):
    for part, name in (("test", "cat"), ("train", "bee")):
        shutil.rmtree(split_pets / part / name)
        message = message_of(lambda: load(split_pets))
        assert (
            message == f"{split_pets}: expected images of each class in train and test, found {name!r} in one of them"
        )


def test_a_folder_and_its_test_fraction_fit_together(pets, split_pets):
    message = message_of(lambda: load(pets))
    assert message == f"test_fraction: needed, since {pets}/train has no class folders"
    message = message_of(lambda: load(split_pets, test_fraction=0.2))
    assert message == f"test_fraction: not allowed, since {split_pets} has a train folder"


def test_folders_without_classes_or_images_are_named(tmp_path, pets, split_pets):
    shutil.rmtree(split_pets / "test")
    for root, test_fraction, lacks in (
        (split_pets, None, split_pets / "test"),
        (tmp_path / "none", 0.4, tmp_path / "none"),
    ):
        message = message_of(lambda root=root, test_fraction=test_fraction: load(root, test_fraction=test_fraction))
        assert message == f"{lacks}: expected a folder of .png, .jpg, .jpeg files for each class, found none"
    for i in range(4):
        (pets / "cat" / f"image_{i}.png").unlink()
    message = message_of(lambda: load(pets, test_fraction=0.4))
    assert message == f"{pets}/cat: expected 2 images and more, to train and to test, got 1"
    (pets / "cat" / "image_4.png").unlink()
    message = message_of(lambda: load(pets, test_fraction=0.4, tasks=(("ant", "cat"),)))
    assert message == f"{pets}/cat: expected .png, .jpg, .jpeg files of this class, found none"
    message = message_of(lambda: load(pets.parent, test_fraction=0.4))
    assert (
        message == f"{tmp_path}: expected a folder of .png, .jpg, .jpeg files for each class, found ['pets', 'split']"
    )


# ---- image_folder: the cache


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "data" / "cache").iterdir())


def test_images_are_decoded_once_and_then_mapped_into_memory(tmp_path, pets, monkeypatch, capfd):
    load(pets, test_fraction=0.4, keep=False)
    assert not (tmp_path / "data").exists()
    first = load(pets, test_fraction=0.4)
    assert capfd.readouterr() == ("", "")  # a progress bar is for a terminal
    monkeypatch.setattr(custom, "read_image", lambda *_, **__: pytest.fail("decoded again"))
    second = load(pets, test_fraction=0.4)
    assert torch.equal(first.train_images, second.train_images)
    assert len(cached(tmp_path)) == 1


@pytest.mark.parametrize("closed", [False, True])
def test_images_are_decoded_without_a_screen(pets, monkeypatch, closed):
    with Path(os.devnull).open("w") as stream:
        pass
    monkeypatch.setattr("sys.stderr", stream if closed else None)
    assert len(load(pets, test_fraction=0.4).train_images) == 9


def test_a_changed_file_or_option_is_decoded_anew(tmp_path, pets):
    before = load(pets, test_fraction=0.4)
    stat = (pets / "bee" / "image_0.png").stat()
    make_image(pets / "bee" / "image_0.png", (12, 10), seed=99)
    os.utime(pets / "bee" / "image_0.png", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    after = load(pets, test_fraction=0.4)
    assert digest(before.train_images, before.test_images) != digest(after.train_images, after.test_images)
    assert load(pets, test_fraction=0.4, image_size=8).train_images.shape[1:] == (8, 8, 3)
    assert len(cached(tmp_path)) == 3
