"""Loads images of any kind as upright RGB pictures, as a viewer shows them, and resizes them for the model.

Arrays, PIL images, paths, URLs, data URIs and base64 text are taken; anything else is an ImageError. EXIF says how a
picture is held, transparent parts lie on white, 16-bit grey keeps its upper eight bits.
"""

from __future__ import annotations

import base64
import binascii
import io
import logging
import os
import re
import struct
from pathlib import Path
from typing import Any, TypeAlias
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageCms, ImageOps, UnidentifiedImageError

from evo_vlac.broken_files import unreadable
from evo_vlac.engine import Image
from evo_vlac.errors import ImageError
from evo_vlac.paths import from_home

log = logging.getLogger(__name__)

ImageLike: TypeAlias = "Image | str | os.PathLike[str] | bytes"

URL_TIMEOUT_S = 30.0
MAX_URL_BYTES = 64 * 2**20
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_SHOWN = 80
_GREY_16 = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})


def load_image(source: ImageLike) -> PILImage.Image:
    """The picture as PIL RGB. Raises ImageError naming the source and what is wrong with it."""
    if isinstance(source, PILImage.Image):
        return _rgb(source, "the PIL image")
    if isinstance(source, np.ndarray):
        return PILImage.fromarray(np.ascontiguousarray(rgb_array(source)))
    if isinstance(source, bytes):
        return _decode(source, f"{len(source)} bytes")
    if isinstance(source, os.PathLike):
        return _open(from_home(source))
    if isinstance(source, str):
        return _from_text(source)
    allowed = "a uint8 array (H, W, 3), a PIL image, a path, a URL, a data URI or base64 text"
    raise ImageError(f"an image of type {type(source).__name__} is not taken; allowed: {allowed}")


def rgb_array(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Checks an image array: uint8, (H, W, 3); grey (H, W) or (H, W, 1) and RGBA (H, W, 4) become RGB."""
    if array.dtype != np.uint8:
        raise ImageError(f"an image array has dtype {array.dtype}; only uint8 (0 to 255) is taken")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise ImageError(f"an image array has shape {array.shape}; needed: (height, width, 3)")
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    return array[..., :3]  # renderers leave anything in the fourth channel


def squash(source: ImageLike, size: tuple[int, int]) -> PILImage.Image:
    """The picture as RGB, squashed (not cropped) to (width, height) with LANCZOS, as the checkpoints were
    trained."""
    image = load_image(source)
    return image if image.size == size else image.resize(size, PILImage.Resampling.LANCZOS)


def is_address(text: str) -> bool:
    """Whether it is a URL or a data URI, and not the name of a file."""
    return text.startswith(("http://", "https://")) or (text.startswith("data:image") and not _exists(text))


def _from_text(text: str) -> PILImage.Image:
    if text.startswith(("http://", "https://")):
        return _decode(_fetch(text), text)
    if is_address(text):
        return _decode(_unbase64(text.partition(",")[2], "data URI"), "the data URI")
    # A base64 text has no dot, so a file name with its extension is never mistaken for one.
    if len(text) > 100 and _BASE64.fullmatch(text) and not _exists(text):
        return _decode(_unbase64(text, "base64 text"), "the base64 text")
    return _open(from_home(text))


def _exists(text: str) -> bool:
    try:
        return from_home(text).exists()
    except OSError:  # too long for a file name
        return False


def _open(path: Path) -> PILImage.Image:
    if not path.is_file():
        raise ImageError(f"no image file {path}" + (" (it is a folder)" if path.is_dir() else ""))
    try:
        return _decode(path.read_bytes(), str(path))
    except OSError as error:
        raise ImageError(unreadable(path, "an image", error)) from error
    except ImageError as error:
        if error.__cause__ is None:  # a picture, but not one to be shown
            raise
        raise ImageError(unreadable(path, "an image", error.__cause__)) from error


def _decode(data: bytes, name: str) -> PILImage.Image:
    try:
        with PILImage.open(io.BytesIO(data)) as image:
            count = getattr(image, "n_frames", 1)
            if count > 1 and image.format != "MPO":  # a phone's MPO: the picture, then previews of it
                log.warning("%s holds %d pictures; the first is taken", _short(name), count)
            image.load()
            return _rgb(image, name)
    except (UnidentifiedImageError, OSError, SyntaxError, PILImage.DecompressionBombError) as error:
        raise ImageError(f"{_short(name)} is not an image that can be read: {_short(str(error))}") from error


def _rgb(image: PILImage.Image, name: str) -> PILImage.Image:
    try:
        image = _upright(image)
        if image.mode == "RGB" and "transparency" not in image.info:
            return image
        if image.mode in _GREY_16:
            return _from_grey_16(image, name)
        if image.mode == "F":
            raise ImageError(f"{_short(name)} holds floats, whose black and white nobody knows; save it with 8 bits")
        if image.mode == "CMYK" and image.info.get("icc_profile"):
            return _by_profile(image)
        return _on_white(image) if image.has_transparency_data else image.convert("RGB")
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"{_short(name)} cannot be turned into RGB: {error}") from error


def _upright(image: PILImage.Image) -> PILImage.Image:
    """Cameras note how they were held instead of turning the picture."""
    try:
        turned = image.getexif().get(0x0112, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):  # EXIF that cannot be read
        return image


def _from_grey_16(image: PILImage.Image, name: str) -> PILImage.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        shown = f"{values.min()} to {values.max()}"
        raise ImageError(f"{_short(name)} holds values of {shown}; a grey picture has 0 to 65535")
    grey = PILImage.fromarray((values >> 8).astype(np.uint8))
    return grey.convert("RGB")


def _on_white(image: PILImage.Image) -> PILImage.Image:
    """Transparent parts as viewers show them. A picture that is transparent all over keeps its colours."""
    layers = image.convert("RGBA")
    if layers.getchannel("A").getextrema()[1] == 0:
        return layers.convert("RGB")
    white = PILImage.new("RGBA", layers.size, "white")
    return PILImage.alpha_composite(white, layers).convert("RGB")


def _by_profile(image: PILImage.Image) -> PILImage.Image:
    """Printing colours by the profile that the file brings along; without a usable one by the plain formula."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        turned = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        turned = None
    return turned or image.convert("RGB")


def _unbase64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"the {name} {_short(text)!r} is not valid base64: {error}") from error


def _fetch(url: str) -> bytes:
    try:
        with urlopen(Request(url, headers={"User-Agent": "evo_vlac"}), timeout=URL_TIMEOUT_S) as reply:
            data: bytes = reply.read(MAX_URL_BYTES + 1)
    except (URLError, OSError, ValueError) as error:
        raise ImageError(f"the image at {url} cannot be fetched: {error}") from error
    if len(data) > MAX_URL_BYTES:
        raise ImageError(f"the image at {url} has over {MAX_URL_BYTES} bytes")
    return data


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
