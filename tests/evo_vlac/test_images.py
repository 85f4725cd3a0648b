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
from PIL import Image

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
