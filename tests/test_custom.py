import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import custom
from datasets.custom import load_image_folder, load_npz, read_image
from tests.make_data import asked, digest, make_image, make_image_folder, random_arrays
from utils.errors import UserError

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


def test_other_and_hidden_files_are_left_out_with_one_warning_a_class(pets):
    for name in (".DS_Store", "notes.txt", "x.webp"):
        (pets / "bee" / name).touch()
    (pets / ".git").mkdir()
    expected = f"{pets / 'bee'}: 2 that are not .png, .jpg, .jpeg files are left out, notes.txt the first"
    with pytest.warns(UserWarning, match=re.escape(expected)):
        data = load(pets, test_fraction=0.4)
    assert data.class_names == PETS


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
    assert message_of(lambda: load(root, test_fraction=0.4)) == f"image_size: expected, {several}; got none"
    assert load(root, test_fraction=0.4, image_size=16).train_images.shape == (6, 16, 16, 3)


def test_read_image_covers_the_size_and_cuts_what_protrudes(tmp_path):
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    image = read_image(tmp_path / "wide.png", size=(10, 10), channels=3)
    assert image.shape == (10, 10, 3)
    assert image.dtype == torch.uint8
    assert image.min() == 255
    assert read_image(tmp_path / "wide.png", size=(5, 20), channels=1).shape == (5, 20, 1)
    assert read_image(tmp_path / "wide.png", size=None, channels=3).shape == (10, 40, 3)


def test_large_jpegs_come_out_as_if_decoded_in_full(tmp_path):
    upright = make_image(tmp_path / "large.jpg", (640, 480), quality=95)
    image = read_image(tmp_path / "large.jpg", size=(32, 32), channels=3)
    expected = np.array(upright.crop((80, 0, 560, 480)).resize((32, 32), Image.Resampling.BOX), dtype=int)
    assert np.abs(image.numpy() - expected).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_as_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    corner = np.zeros((8, 16), np.uint8)
    corner[:4, :4] = 255
    Image.fromarray(corner).save(tmp_path / "a.png", exif=exif)
    image = read_image(tmp_path / "a.png", size=None, channels=1)[..., 0]
    expected = {
        1: corner,
        2: corner[:, ::-1],
        3: corner[::-1, ::-1],
        4: corner[::-1],
        5: corner.T,
        6: np.rot90(corner, -1),
        7: corner[::-1, ::-1].T,
        8: np.rot90(corner),
    }[orientation]
    assert np.array_equal(image, expected)


def test_turned_images_count_with_their_upright_size(tmp_path):
    root = make_image_folder(tmp_path / "turned", ("a", "b"), sizes=((12, 10),))
    exif = Image.Exif()
    exif[0x0112] = 6
    make_image(root / "a" / "image_0.png", (10, 12), exif=exif)
    assert load(root, test_fraction=0.4).train_images.shape == (6, 10, 12, 3)


@pytest.mark.filterwarnings("ignore:Metadata Warning")  # Pillow's, of such a tag
def test_odd_exif_of_a_turned_image_does_no_harm(tmp_path):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x0131] = "maker", 6, "software " * 9
    make_image(path, (10, 12), exif=exif)
    text, fraction = b"\x01\x0f\x00\x02", b"\x01\x0f\x00\x0a"  # the tag of the maker, and its type
    assert path.read_bytes().count(text) == 1
    path.write_bytes(path.read_bytes().replace(text, fraction))
    assert read_image(path, size=None, channels=3).shape == (10, 12, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_usual_mode_is_read(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode).save(path)
    for channels in (1, 3):
        image = read_image(path, size=None, channels=channels)
        assert image.shape == (4, 4, channels)
        assert image.min() == 255


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pixels_show_a_white_ground(tmp_path, mode, channels):
    """A black drawing on a transparent ground, whose hidden colour is black too, with a half transparent stroke."""
    drawing = np.zeros((3, 4, 4), np.uint8)
    drawing[0, :, 3], drawing[1, :, 3] = 255, 128
    if mode == "P":
        palette = Image.fromarray(np.repeat(np.arange(3, dtype=np.uint8)[:, None], 4, axis=1)).convert("P")
        palette.putpalette([0] * 9)
        palette.save(tmp_path / "a.png", transparency=bytes([255, 128, 0]))
    else:
        Image.fromarray(drawing).convert(mode).save(tmp_path / "a.png")
    shown = read_image(tmp_path / "a.png", size=None, channels=channels)
    assert shown.shape == (3, 4, channels)
    assert [row.unique().tolist() for row in shown] == [[0], [127], [255]]


def test_a_colour_that_stands_for_transparency_shows_a_white_ground(tmp_path):
    Image.new("RGB", (2, 2), (9, 8, 7)).save(tmp_path / "a.png", transparency=(9, 8, 7))
    assert read_image(tmp_path / "a.png", size=None, channels=3).min() == 255


# ---- image_folder: what is refused


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_no_cut_or_changed_file_escapes(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    make_image(path, (40, 30))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:keep] for keep in range(0, len(whole), 97)]
    for place in rng.integers(0, len(whole), 150):
        content = bytearray(whole)
        content[place] ^= 1 << rng.integers(8)
        damaged.append(bytes(content))
    for content in damaged:
        path.write_bytes(content)
        try:
            read_image(path, size=(8, 8), channels=3)
        except UserError:
            continue


CANNOT_BE_READ = "expected a whole PNG or JPEG image, but it cannot be read ("
BAD_FILES = {
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-40]), ""),
    "no picture": (lambda path: path.write_bytes(b"no picture"), "cannot identify"),
    "not there": (lambda path: path.unlink(), "[Errno 2]"),
    "GIF": (lambda path: Image.new("RGB", (4, 4)).save(path, format="GIF"), "cannot identify"),
    "deep": (lambda path: Image.fromarray(np.full((4, 4), 60000, np.uint16)).save(path), "it has more than 8 bits"),
    "many pixels": (lambda path: Image.new("L", (200, 20)).save(path), "Image size (4000 pixels) exceeds"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_is_no_whole_png_or_jpeg_is_named(tmp_path, monkeypatch, case):
    damage, cause = BAD_FILES[case]
    path = tmp_path / "a.png"
    make_image(path, (40, 30))
    damage(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1500)  # Pillow refuses twice as many
    message = message_of(lambda: read_image(path, size=None, channels=3))
    assert message.startswith(f"{path}: {CANNOT_BE_READ}{cause}")


def test_a_class_in_train_or_test_alone_is_named(split_pets):
    for part, name in (("test", "cat"), ("train", "bee")):
        shutil.rmtree(split_pets / part / name)
        message = message_of(lambda: load(split_pets))
        assert message == f"{split_pets}: expected the same classes in train and test, found {name!r} in one of them"


def test_a_folder_and_its_test_fraction_fit_together(pets, split_pets):
    message = message_of(lambda: load(pets))
    assert message == f"test_fraction: expected in (0, 1), since {pets}/train has no class folders; got none"
    message = message_of(lambda: load(split_pets, test_fraction=0.2))
    assert message == f"test_fraction: expected none, since {split_pets} has a train folder; got 0.2"


def test_folders_without_classes_or_images_are_named(tmp_path, pets, split_pets):
    shutil.rmtree(split_pets / "test")
    for root, test_fraction, lacks in (
        (split_pets, None, split_pets / "test"),
        (tmp_path / "none", 0.4, tmp_path / "none"),
    ):
        message = message_of(lambda root=root, test_fraction=test_fraction: load(root, test_fraction=test_fraction))
        assert message == f"{lacks}: expected a folder for each class, found none"
    for i in range(4):
        (pets / "cat" / f"image_{i}.png").unlink()
    message = message_of(lambda: load(pets, test_fraction=0.4))
    assert message == f"{pets}/cat: expected 2 images and more, to train and to test, got 1"
    (pets / "cat" / "image_4.png").unlink()
    message = message_of(lambda: load(pets, test_fraction=0.4))
    assert message == f"{pets}/cat: expected .png, .jpg, .jpeg files of this class, found none"


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


def test_a_changed_file_or_option_is_decoded_anew(tmp_path, pets):
    before = load(pets, test_fraction=0.4)
    stat = (pets / "bee" / "image_0.png").stat()
    make_image(pets / "bee" / "image_0.png", (12, 10), seed=99)
    os.utime(pets / "bee" / "image_0.png", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    after = load(pets, test_fraction=0.4)
    assert digest(before.train_images, before.test_images) != digest(after.train_images, after.test_images)
    assert load(pets, test_fraction=0.4, image_size=8).train_images.shape[1:] == (8, 8, 3)
    assert len(cached(tmp_path)) == 3
