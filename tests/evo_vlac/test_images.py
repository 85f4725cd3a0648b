"""Everything people call an image becomes the same picture, or one clear error."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from evo_vlac.errors import ImageError
from evo_vlac.images import load_image, rgb_array, squash
from tests.evo_vlac.conftest import picture

ARRAY = picture(0)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(ARRAY).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[str]:
    """A web server with one picture at /a.png."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/a.png"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(png() if found else b"")

        def log_message(self, *_: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join(timeout=5)
    http.server_close()


def same(image: Image.Image) -> bool:
    return image.mode == "RGB" and bool((np.asarray(image) == ARRAY).all())


def test_every_form_gives_the_same_picture(tmp_path: Path, server: str) -> None:
    """Array, PIL, path, path object, bytes, base64, data URI and URL."""
    file = tmp_path / "a.png"
    file.write_bytes(png())
    text = base64.b64encode(png()).decode()
    forms = [
        ARRAY,
        Image.fromarray(ARRAY),
        str(file),
        file,
        png(),
        text,
        f"data:image/png;base64,{text}",
        f"{server}/a.png",
    ]
    assert all(same(load_image(form)) for form in forms)


def test_strided_views_are_taken_as_they_show(tmp_path: Path) -> None:
    """A view flipped by strides (a renderer's readback) is the upright picture."""
    flipped = np.ascontiguousarray(ARRAY[::-1])
    assert same(load_image(flipped[::-1]))


def test_grey_and_alpha_become_rgb() -> None:
    """Other channel counts that mean a picture are taken."""
    grey = ARRAY[..., 0]
    assert rgb_array(grey).shape == ARRAY.shape and rgb_array(grey[..., None]).shape == ARRAY.shape
    assert rgb_array(np.concatenate([ARRAY, ARRAY[..., :1]], axis=2)).shape == ARRAY.shape
    assert load_image(Image.fromarray(grey)).mode == "RGB"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (ARRAY.astype(np.float32), "float32"),
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.zeros((4,), np.uint8), "shape"),
        ("no/such/file.png", "no image file"),
        ("data:image/png;base64,!!!!", "data URI"),
        (b"not an image", "bytes"),
        (3, "int"),
        ("http://127.0.0.1:9/a.png", "cannot be fetched"),
    ],
)
def test_what_is_no_image_is_one_clear_error(source: object, words: str) -> None:
    """The message names the source and what is wrong with it."""
    with pytest.raises(ImageError, match=words):
        load_image(source)  # type: ignore[arg-type]


def test_folders_and_broken_files_are_named(tmp_path: Path, server: str) -> None:
    """A folder is no image; half a PNG is none; a 404 is none."""
    (tmp_path / "half.png").write_bytes(png()[:200])
    for source, words in ((tmp_path, "folder"), (tmp_path / "half.png", "half.png"), (f"{server}/b.png", "404")):
        with pytest.raises(ImageError, match=words):
            load_image(str(source))


def test_squashing_ignores_the_aspect() -> None:
    """Squashed, not cropped, as the checkpoints were trained; the right size is left alone."""
    assert squash(ARRAY, (112, 112)).size == (112, 112)
    image = Image.fromarray(ARRAY)
    assert squash(image, image.size) is image


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_says_how_a_picture_is_held(form: str, orientation: int) -> None:
    """As every viewer shows it, turned or mirrored; the PIL image of such a file too."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(ARRAY[:40]), form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    for source in (data, Image.open(io.BytesIO(data))):
        assert (np.asarray(load_image(source)) == shown).all()
    assert (shown.shape[0] > shown.shape[1]) == (orientation >= 5)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_leaves_the_picture_as_it_is() -> None:
    """No error, no turn."""
    data = saved(Image.fromarray(ARRAY), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert same(load_image(data))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_upper_bits(form: str) -> None:
    """Not everything over 255 is white."""
    ramp = Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16))
    assert (np.asarray(load_image(saved(ramp, form)))[..., 0].ravel() == np.arange(256)).all()


def test_pictures_of_no_known_range_are_refused() -> None:
    """Floats and 32-bit numbers (depth in metres or millimetres) are neither black nor white."""
    with pytest.raises(ImageError, match="holds floats"):
        load_image(saved(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"))
    with pytest.raises(ImageError, match="values of 0 to 90000"):
        load_image(Image.fromarray(np.array([[0, 90000]], np.int32)))


def test_transparent_parts_lie_on_white() -> None:
    """Palette with one transparent colour or an alpha for each, grey with alpha, RGBA, RGB with a transparent colour;
    a picture that is transparent all over keeps its colours."""
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putpixel((1, 0), 1)
    half = Image.fromarray(np.array([[[10, 20, 30, 255], [40, 50, 60, 0]]], np.uint8))
    rgb = Image.fromarray(np.array([[[10, 20, 30], [40, 50, 60]]], np.uint8))
    cases = [
        (saved(palette, "PNG", transparency=1), (255, 0, 0)),
        (saved(palette, "PNG", transparency=b"\xff\x00"), (255, 0, 0)),
        (saved(palette, "GIF", transparency=1), (255, 0, 0)),
        (saved(half, "PNG"), (10, 20, 30)),
        (saved(half.convert("LA"), "PNG"), (18, 18, 18)),
        (saved(rgb, "PNG", transparency=(40, 50, 60)), (10, 20, 30)),
    ]
    for data, left in cases:
        array = np.asarray(load_image(data))
        assert tuple(array[0, 0]) == left and tuple(array[0, 1]) == (255, 255, 255)
    clear = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    assert tuple(np.asarray(load_image(saved(clear, "PNG")))[0, 0]) == (10, 20, 30)


def test_printing_colours() -> None:
    """CMYK by the formula, and by the profile that a file brings along."""
    print_red = Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK")
    for form in ("JPEG", "TIFF"):
        assert np.abs(np.asarray(load_image(saved(print_red, form)), int) - (200, 30, 30)).max() < 5
    print_red.info["icc_profile"] = b"no profile"
    assert np.abs(np.asarray(load_image(print_red), int) - (200, 30, 30)).max() < 5


def test_an_animation_given_as_a_picture_says_which_it_took(caplog: pytest.LogCaptureFixture) -> None:
    """The first of several."""
    pages = [Image.new("RGB", (4, 4), (i * 60, 0, 0)) for i in range(3)]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert np.asarray(load_image(data))[0, 0, 0] == 0
    assert "holds 3 pictures; the first is taken" in caplog.text


def test_a_file_that_was_never_fetched_is_called_that(tmp_path: Path) -> None:
    """A Git LFS pointer; an empty file."""
    (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "b.png").touch()
    for name, words in (("a.png", "git lfs pull"), ("b.png", "empty")):
        with pytest.raises(ImageError, match=words):
            load_image(tmp_path / name)
