"""Frames from anything that shows a trajectory: a video file, a folder of pictures, an array, a list of images."""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from evo_vlac.camera_names import colour_only
from evo_vlac.engine import Image
from evo_vlac.errors import ImageError, OptionError, VideoError
from evo_vlac.images import load_image, rgb_array
from evo_vlac.paths import from_home
from evo_vlac.video.film import DEFAULT_FPS, Film
from evo_vlac.video.thinning import thinned

log = logging.getLogger(__name__)

VideoLike: TypeAlias = "str | os.PathLike[str] | npt.NDArray[np.uint8] | Sequence[Image | str]"

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
UNREAD = frozenset({".heic", ".heif", ".avif", ".jxl", ".dng", ".cr2", ".nef", ".arw", ".exr"})
"""Pictures that Pillow does not read everywhere."""
VIDEOS = frozenset({".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif", ".m4v", ".mpg", ".mpeg"})


@dataclass(frozen=True, slots=True)
class Video:
    """Frames, each uint8 (H, W, 3) upright RGB, and how many of them make a second.

    ``source_frames`` and ``seconds``: the number of each in the source, from 0, and when it is shown there (NaN:
    pictures do not say). ``source_length``: how many the source has.
    """

    frames: tuple[npt.NDArray[np.uint8], ...]
    fps: float
    name: str
    source_frames: tuple[int, ...]
    seconds: tuple[float, ...]
    source_length: int

    def __len__(self) -> int:
        return len(self.frames)


def read_video(source: VideoLike, fps: float | None = None, size: tuple[int, int] | None = None) -> Video:
    """Reads a trajectory whole, at most at ``fps`` frames a second (a slower source is left as it is) and, where
    ``size`` (width, height) is given, squashed to it.

    Raises VideoError naming the source: no such file, nothing that can be decoded, no frames.
    """
    if fps is not None and not fps > 0:
        raise OptionError(f"fps is {fps}; more than 0 is needed")
    if isinstance(source, (str, os.PathLike)):
        source = from_home(source)
    if isinstance(source, Path) and not source.is_dir():
        with Film(source) as film:
            return read_film(film, fps=fps, size=size)
    name, frames = _still_pictures(source)
    if fps is not None and fps < DEFAULT_FPS:
        log.warning("%s: %g frames a second are assumed, since pictures do not say", name, DEFAULT_FPS)
    timed = ((i / DEFAULT_FPS, frame) for i, frame in enumerate(frames))
    return replace(video := _read(name, timed, DEFAULT_FPS, fps, size), seconds=(math.nan,) * len(video))


def read_film(
    film: Film,
    start: float = 0.0,
    end: float | None = None,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
) -> Video:
    """The frames of a film from ``start`` to before ``end`` (seconds); numbers and seconds count from ``start``.

    Only frames that stay are turned into arrays. Raises VideoError where there are none.
    """
    timed = ((seconds - start, frame) for seconds, frame in film.frames(start, end))
    part = "" if end is None else f" (from {start:g} to {end:g} s)"
    return _read(f"{film.path}{part}", timed, film.fps, fps, size)


def _read(
    name: str, timed: Iterable[tuple[float, Any]], rate: float, fps: float | None, size: tuple[int, int] | None
) -> Video:
    count = itertools.count()
    numbered = ((seconds, (next(count), seconds, frame)) for seconds, frame in timed)
    kept = (item for _, item in numbered) if fps is None else thinned(numbered, fps)
    try:
        taken = [(number, seconds, _fit(frame, size)) for number, seconds, frame in kept]
    except ImageError as error:
        raise VideoError(f"{name}: {error}") from error
    if not taken:
        raise VideoError(f"{name} has no frames")
    numbers, moments, frames = zip(*taken)
    return Video(frames, float(min(rate, fps or rate)), name, numbers, moments, next(count))


def _still_pictures(source: VideoLike) -> tuple[str, Iterable[Any]]:
    if isinstance(source, np.ndarray):
        if source.ndim != 4:
            raise VideoError(f"a video array has shape {source.shape}; needed: (frames, height, width, 3)")
        return "the array", source
    if isinstance(source, Path):
        return str(source), pictures_in(source)
    if isinstance(source, Sequence):
        return "the list of images", source
    raise VideoError(
        f"a video of type {type(source).__name__} is not taken; allowed: a path, a folder, an array, a list"
    )


def pictures_in(folder: Path) -> list[Path]:
    """The colour pictures of a folder, in natural order. Raises VideoError without any."""
    found = {path.name: path for path in folder.iterdir() if is_picture(path)}
    unread = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in UNREAD)
    other = f"{len(unread)} of kinds that are not read, as {unread[0]}; save them as PNG or JPEG" if unread else ""
    if not found:
        kinds = ", ".join(sorted(PICTURES))
        raise VideoError(f"the folder {folder} has no pictures ({kinds})" + (other and f", but {other}"))
    if unread:
        log.warning("%s: %d pictures are taken, and left out are %s", folder, len(found), other)
    films = sum(path.suffix.lower() in VIDEOS for path in folder.iterdir())
    if films:
        log.warning("%s: its %d pictures are taken as a trajectory, not its %d films", folder, len(found), films)
    names = colour_only(list(found))
    if len(names) < len(found):
        left = next(name for name in found if name not in names)
        log.warning("%s: %d pictures are taken, %d left out as %s", folder, len(names), len(found) - len(names), left)
    return sorted((found[name] for name in names), key=natural)


def is_picture(path: Path) -> bool:
    """Whether it is a picture by its name; hidden files are not."""
    return path.suffix.lower() in PICTURES and not path.name.startswith(".")


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A sorting key under which frame_2 comes before frame_10."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts if part]


def _turned(frame: Any) -> npt.NDArray[np.uint8]:
    """The picture as it is to be shown: phones store how they were held, front cameras that they mirror."""
    array: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    held = frame.side_data.get("DISPLAYMATRIX")
    if held is None:
        return array
    right, down_x, _, right_y, down = struct.unpack("=5i", bytes(held)[:20])  # where x and y of the stored picture go
    if abs(right) + abs(down) < abs(down_x) + abs(right_y):
        array, right, down = array.transpose(1, 0, 2), right_y, down_x
    return np.ascontiguousarray(array[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])


def _fit(frame: Any, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    if hasattr(frame, "pict_type"):  # PyAV's
        frame = _turned(frame)
    if size is None and isinstance(frame, np.ndarray):
        return np.ascontiguousarray(rgb_array(frame))
    image = load_image(frame)
    if size is not None and image.size != size:
        from PIL import Image as PILImage

        image = image.resize(size, PILImage.Resampling.LANCZOS)
    return np.asarray(image, dtype=np.uint8)
