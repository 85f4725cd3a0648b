"""Frames from anything that shows a trajectory: a video file, a folder of pictures, an array, a list of images.

Decoding is PyAV's (FFmpeg's libraries): mp4, mov, webm, mkv, avi, gif and the rest of them.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from evo_vlac.engine import Image
from evo_vlac.errors import ImageError, OptionError, VideoError
from evo_vlac.images import load_image, rgb_array

log = logging.getLogger(__name__)

VideoLike: TypeAlias = "str | os.PathLike[str] | npt.NDArray[np.uint8] | Sequence[Image | str]"

DEFAULT_FPS = 5.0
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})
VIDEOS = frozenset({".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif", ".m4v", ".mpg", ".mpeg"})


@dataclass(frozen=True, slots=True)
class Video:
    """Frames, each uint8 (H, W, 3) upright RGB, and how many of them make a second."""

    frames: tuple[npt.NDArray[np.uint8], ...]
    fps: float
    name: str = "video"

    def __len__(self) -> int:
        return len(self.frames)


def read_video(source: VideoLike, fps: float | None = None, size: tuple[int, int] | None = None) -> Video:
    """Reads a trajectory whole, at most at ``fps`` frames a second (a slower source is left as it is) and, where
    ``size`` (width, height) is given, squashed to it.

    Raises VideoError naming the source: no such file, nothing that can be decoded, no frames.
    """
    if fps is not None and not fps > 0:
        raise OptionError(f"fps is {fps}; more than 0 is needed")
    name, rate, frames = _open(source)
    if fps is not None and rate > fps:
        frames, rate = _thinned(frames, rate / fps), fps
    try:
        kept = tuple(_fit(frame, size) for frame in frames)
    except ImageError as error:
        raise VideoError(f"{name}: {error}") from error
    if not kept:
        raise VideoError(f"{name} has no frames")
    return Video(kept, float(rate), name)


def sample_indices(source_fps: float, target_fps: float, frames: int) -> list[int]:
    """Which frames remain when ``source_fps`` is thinned to ``target_fps``: evenly, and the last one always."""
    return list(_thinned(iter(range(frames)), max(1.0, source_fps / target_fps)))


def _thinned(frames: Iterator[Any], step: float) -> Iterator[Any]:
    """Keeps frame 0, and the one nearest to every further multiple of ``step``; and the last, which is judged."""
    taken, pending, index = 0, None, -1
    for index, frame in enumerate(frames):
        pending = frame
        if index >= round(taken * step):
            taken += 1
            pending = None
            yield frame
    if pending is not None:
        yield pending


def _open(source: VideoLike) -> tuple[str, float, Iterator[Any]]:
    if isinstance(source, np.ndarray):
        if source.ndim != 4:
            raise VideoError(f"a video array has shape {source.shape}; needed: (frames, height, width, 3)")
        return "the array", DEFAULT_FPS, iter(source)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            return str(path), DEFAULT_FPS, iter(_pictures(path))
        if not path.is_file():
            raise VideoError(f"no video {path}: there is no such file or folder")
        return _decode(path)
    if isinstance(source, Sequence):
        return "the list of images", DEFAULT_FPS, iter(source)
    raise VideoError(
        f"a video of type {type(source).__name__} is not taken; allowed: a path, a folder, an array, a list"
    )


def _pictures(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES]
    if not found:
        raise VideoError(f"the folder {folder} has no pictures ({', '.join(sorted(PICTURES))})")
    return sorted(found, key=natural)


def natural(path: Path) -> list[tuple[int, int, str]]:
    """A sorting key under which frame_2 comes before frame_10."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts if part]


def _decode(path: Path) -> tuple[str, float, Iterator[Any]]:
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path} has no picture track")
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate or Fraction(int(DEFAULT_FPS))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path} is not a video that can be read: {error}") from error
    return str(path), float(rate), _frames(path)


def _frames(path: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """Decodes frame by frame; what is whole before a break in the file is kept, with a warning."""
    import av

    count = 0
    try:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                count += 1
                yield _turned(frame)
    except (av.FFmpegError, OSError, ValueError) as error:
        if count == 0:
            raise VideoError(f"{path} is broken, no frame can be decoded: {error}") from error
        log.warning("%s breaks off after %d frames (%s); going on with those", path, count, error)


def _turned(frame: Any) -> npt.NDArray[np.uint8]:
    """Phones store how the camera was held instead of turning the picture."""
    array: npt.NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(array, turns)) if turns else array


def _fit(frame: Any, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    if size is None and isinstance(frame, np.ndarray):
        return np.ascontiguousarray(rgb_array(frame))
    image = load_image(frame)
    if size is not None and image.size != size:
        from PIL import Image as PILImage

        image = image.resize(size, PILImage.Resampling.LANCZOS)
    return np.asarray(image, dtype=np.uint8)
