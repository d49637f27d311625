import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import custom
from datasets.custom import load_image_folder, load_npz, read_image
from datasets.data import DataError
from tests.make_data import digest, make_image, make_image_folder, random_arrays, request

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
    return load_image_folder(request(root.parent / "data", root=root, **options))


def message_of(call):
    with pytest.raises(DataError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- npz


def npz(tmp_path, **changes):
    path = tmp_path / "mine.npz"
    np.savez(path, **random_arrays(shape=(9, 7), num_classes=4) | changes)
    return path


def test_npz_is_read_from_root_and_its_classes_are_called_by_their_numbers(tmp_path):
    data = load_npz(request(tmp_path, root=npz(tmp_path)))
    assert data.train_images.shape == (100, 9, 7, 1)
    assert data.class_names == ("0", "1", "2", "3")


def test_npz_classes_that_occur_only_in_test_are_refused(tmp_path):
    path = npz(tmp_path, y_test=np.full(50, 4))
    message = message_of(lambda: load_npz(request(tmp_path, root=path)))
    assert message == f"{path}: y_test: expected class ids 0..3, as in y_train, got 4..4"


def test_npz_class_ids_beyond_all_sense_are_refused(tmp_path):
    path = npz(tmp_path, y_train=np.full(100, 10**12))
    message = message_of(lambda: load_npz(request(tmp_path, root=path)))
    assert message == f"{path}: y_train: expected no more classes than images, got the class id 1000000000000"


def test_npz_that_is_not_there_is_named(tmp_path):
    message = message_of(lambda: load_npz(request(tmp_path, root=tmp_path / "none.npz")))
    assert message == f"root: expected an npz file, found none at {tmp_path}/none.npz"
    assert message_of(lambda: load_npz(request(tmp_path))) == "root: expected with dataset: npz, got none"


def test_options_of_image_folder_are_refused_with_npz(tmp_path):
    message = message_of(lambda: load_npz(request(tmp_path, root=npz(tmp_path), image_size=8)))
    assert message == "image_size: expected with dataset: image_folder only, got 8 with dataset: npz"


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


def test_a_test_fraction_is_drawn_in_each_class_by_the_seed(pets):
    data, same, other = (load(pets, test_fraction=0.4, seed=seed) for seed in (0, 0, 1))
    assert torch.bincount(data.test_classes).tolist() == [2, 2, 2]
    assert torch.bincount(data.train_classes).tolist() == [3, 3, 3]
    assert torch.equal(data.test_images, same.test_images)
    assert not torch.equal(data.test_images, other.test_images)
    everything = torch.cat([data.train_images, data.test_images])
    assert len({digest(image) for image in everything}) == 15


@pytest.mark.parametrize(("fraction", "num_test"), [(0.01, 1), (0.99, 4)])
def test_each_class_keeps_an_image_to_train_and_one_to_test(pets, fraction, num_test):
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
    message = message_of(lambda: load(root, test_fraction=0.4))
    assert message == (
        "image_size: expected, since the images are of several sizes; got none, but "
        f"{root}/a/image_0.jpg with 40 x 30 and {root}/a/image_1.jpg with 32 x 48 pixels"
    )
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
@pytest.mark.parametrize("channels", [1, 3])
def test_every_usual_mode_is_read(tmp_path, mode, channels):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode).save(path)
    image = read_image(path, size=None, channels=channels)
    assert image.shape == (4, 4, channels)
    assert image.min() == 255


def test_a_palette_with_transparency_gives_no_warning(tmp_path):
    Image.new("P", (4, 4)).save(tmp_path / "a.png", transparency=b"\x00\x80")
    assert read_image(tmp_path / "a.png", size=None, channels=3).shape == (4, 4, 3)


# ---- image_folder: what is refused


def test_a_broken_jpeg_is_named(tmp_path):
    root = make_image_folder(tmp_path / "photos", ("a", "b"), suffix=".jpg", sizes=((40, 30),))
    path = root / "b" / "image_3.jpg"
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])
    message = message_of(lambda: load(root, test_fraction=0.4))
    assert message.startswith(f"{path}: expected a whole image, but it is damaged (image file is truncated")
    path.write_bytes(b"no picture")
    message = message_of(lambda: load(root, test_fraction=0.4))
    assert message == f"{path}: expected a PNG or JPEG image, got neither"


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
        except DataError:
            continue


def test_other_formats_are_refused_whatever_they_are_called(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", format="GIF")
    assert "expected a PNG or JPEG image" in message_of(lambda: read_image(tmp_path / "a.png", size=None, channels=3))


def test_a_file_that_is_not_there_is_named(tmp_path):
    message = message_of(lambda: read_image(tmp_path / "none.png", size=None, channels=3))
    assert message.startswith(f"{tmp_path}/none.png: expected a PNG or JPEG image, but it cannot be read ([Errno 2]")


def test_deep_grey_is_refused_instead_of_cut(tmp_path):
    Image.fromarray(np.full((4, 4), 60000, np.uint16)).save(tmp_path / "a.png")
    message = message_of(lambda: read_image(tmp_path / "a.png", size=None, channels=1))
    assert message == f"{tmp_path}/a.png: expected 8 bits a pixel and channel, got more (Pillow's mode I;16)"


def test_so_many_pixels_that_pillow_fears_an_attack_are_refused(tmp_path, monkeypatch):
    make_image(tmp_path / "a.png", (40, 30))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "cannot be read (Image size" in message_of(lambda: read_image(tmp_path / "a.png", size=None, channels=3))


def test_a_class_without_images_is_named(pets):
    (pets / "dog").mkdir()
    message = message_of(lambda: load(pets, test_fraction=0.4))
    assert message == f"{pets}/dog: expected .png, .jpg, .jpeg files of this class, found none"


def test_a_class_missing_in_test_or_train_is_named(split_pets):
    shutil.rmtree(split_pets / "test" / "bee")
    message = message_of(lambda: load(split_pets))
    assert message == f"{split_pets}/test/bee: expected images of this class, as in {split_pets}/train, found none"
    shutil.rmtree(split_pets / "train" / "bee")
    shutil.rmtree(split_pets / "train" / "cat")
    message = message_of(lambda: load(split_pets))
    assert message == f"{split_pets}/train/cat: expected images of this class, as in {split_pets}/test, found none"


def test_a_missing_test_folder_is_named(split_pets):
    shutil.rmtree(split_pets / "test")
    message = message_of(lambda: load(split_pets))
    assert message == f"{split_pets}: expected a test folder beside train, found none"


@pytest.mark.parametrize(("fraction", "got"), [(None, "none"), (0.0, "0.0"), (1.0, "1.0")])
def test_a_folder_without_train_needs_a_test_fraction(pets, fraction, got):
    message = message_of(lambda: load(pets, test_fraction=fraction))
    since = f"since {pets} has no train folder with class folders in it"
    assert message == f"test_fraction: expected in (0, 1), {since}; got {got}"


def test_a_folder_with_train_takes_no_test_fraction(split_pets):
    message = message_of(lambda: load(split_pets, test_fraction=0.2))
    assert message == f"test_fraction: expected none, since {split_pets} has a train folder; got 0.2"


def test_a_class_with_one_image_cannot_be_split(pets):
    for i in range(1, 5):
        (pets / "cat" / f"image_{i}.png").unlink()
    message = message_of(lambda: load(pets, test_fraction=0.4))
    assert message == f"{pets}/cat: expected 2 images and more, to train and to test, got 1"


def test_a_root_that_is_no_folder_of_folders_is_named(tmp_path):
    assert (
        message_of(lambda: load(tmp_path / "none"))
        == f"root: expected a folder of images, found none at {tmp_path}/none"
    )
    (tmp_path / "empty").mkdir()
    message = message_of(lambda: load(tmp_path / "empty", test_fraction=0.5))
    assert message == f"{tmp_path}/empty: expected a folder for each class, found none"


# ---- image_folder: the cache


def cached(tmp_path):
    return sorted(path.name for path in (tmp_path / "data" / "cache").iterdir())


def test_images_are_decoded_once_whatever_the_seed(tmp_path, pets, monkeypatch):
    first = load(pets, test_fraction=0.4)
    monkeypatch.setattr(custom, "read_image", lambda *_, **__: pytest.fail("decoded again"))
    second = load(pets, test_fraction=0.4)
    load(pets, test_fraction=0.2, seed=7)
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


def test_where_no_cache_can_be_written_images_are_still_read(tmp_path, pets):
    expected = load(pets, test_fraction=0.4)
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").touch()
    with pytest.warns(UserWarning, match="this cache could not be written"):
        data = load(pets, test_fraction=0.4)
    assert torch.equal(data.train_images, expected.train_images)


def test_a_broken_image_leaves_no_cache(tmp_path, pets):
    path = pets / "cat" / "image_4.png"
    path.write_bytes(path.read_bytes()[:-40])
    message = message_of(lambda: load(pets, test_fraction=0.4, image_size=8))
    assert message.startswith(f"{path}: expected a whole image, but it is damaged (")
    assert cached(tmp_path) == []


def test_no_progress_bar_without_a_terminal(pets, capfd):
    load(pets, test_fraction=0.4)
    assert capfd.readouterr() == ("", "")
