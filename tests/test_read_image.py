import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from datasets.custom import read_image
from tests.make_data import make_image
from utils.errors import UserError


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


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iCCP"])  # comments, one in Unicode, and a colour profile
def test_a_png_with_large_metadata_is_read(tmp_path, kind):
    path, large, chunks = tmp_path / "a.png", "x" * 5_000_000, PngImagePlugin.PngInfo()
    if kind in ("tEXt", "zTXt"):
        chunks.add_text("Comment", large, zip=kind == "zTXt")
    elif kind == "iTXt":
        chunks.add_itxt("Comment", large, zip=True)
    image = make_image(path, (12, 10), pnginfo=chunks, icc_profile=large.encode() if kind == "iCCP" else None)
    assert kind.encode() in path.read_bytes()
    assert np.array_equal(read_image(path, size=None, channels=3), np.array(image))


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
    with pytest.raises(UserError) as error:
        read_image(path, size=None, channels=3)
    assert str(error.value).startswith(f"{path}: {CANNOT_BE_READ}{cause}")
    assert "\n" not in str(error.value)
