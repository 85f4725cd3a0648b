"""A video file, decoded in order from any moment on, by PyAV (FFmpeg's libraries): mp4, webm, avi, gif and the rest.

One frame at a time is in memory. Many episodes in one film (LeRobot 3) are read one after the other without decoding
any of it twice; what lies before the wanted moment is skipped by a seek to the nearest key frame.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

from evo_vlac.broken_files import unreadable
from evo_vlac.errors import VideoError

log = logging.getLogger(__name__)

DEFAULT_FPS = 5.0
_COUNTED = frozenset({"avi", "h264", "hevc", "m4v", "mjpeg"})  # formats whose time stamps say nothing, or are not there
_NEAR = 1.0  # seconds ahead that are decoded rather than sought: a seek may go back to a key frame


class Film:
    """An open video file. Raises VideoError naming it: not a video, no pictures in it, nothing that can be decoded."""

    def __init__(self, path: Path) -> None:
        import av

        if not path.is_file():
            raise VideoError(f"no video {path}: there is no such file or folder")
        self.path = path
        self._errors = (av.FFmpegError, OSError, ValueError)
        self._container: Any = None
        self._held: tuple[float, Any] | None = None  # decoded, and not yet given
        self._open()
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(int(DEFAULT_FPS))
        self.fps = float(rate)
        """Frames a second, on average."""

    @property
    def seconds(self) -> float | None:
        """How long the film is, by what its file says; None where that says nothing."""
        stream = self._stream
        if stream.frames:
            return float(stream.frames / self.fps)
        return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the decoder."""
        self._container.close()

    def frames(self, start: float = 0.0, end: float | None = None) -> Iterator[tuple[float, Any]]:
        """(seconds since the film's start, PyAV's frame) from ``start`` to before ``end``, both to half a frame.

        What is whole before a break in the file is given, with a warning.
        """
        half, count = 0.5 / self.fps, 0
        try:
            self._go_to(start, half)
            for seconds, frame in self._decoded():
                if seconds < start - half:
                    continue
                if end is not None and seconds >= end - half:
                    self._held = seconds, frame  # the first of what comes after
                    return
                count += 1
                yield seconds, frame
        except self._errors as error:
            if count == 0:
                raise VideoError(f"{self.path} is broken, no frame can be decoded: {error}") from error
            self._position = math.inf  # what lies after the break is found by a seek
            log.warning("%s breaks off after %d frames (%s); going on with those", self.path, count, error)

    def _open(self) -> None:
        import av

        try:
            if self._container is not None:
                self._container.close()
            # absolute: in a relative path FFmpeg takes what stands before a colon for a protocol
            self._container = av.open(str(self.path.absolute()))
            self._stream = _pictures(self.path, self._container)
            self._stream.thread_type = "AUTO"
        except self._errors as error:
            raise VideoError(unreadable(self.path, "a video", error)) from error
        base = self._stream.time_base
        self._origin = float((self._stream.start_time or 0) * base) if base else 0.0
        self._decoder = self._container.decode(self._stream)
        self._counted = self._container.format.name in _COUNTED
        self._held = None
        self._position = 0.0  # where the next frame is expected
        self._sought = False

    def _go_to(self, start: float, half: float) -> None:
        """So that the next frame decoded is not after ``start``."""
        now = self._position if self._held is None else self._held[0]
        if now - half <= start <= (math.inf if self._counted else now + _NEAR):
            return
        if self._counted:
            self._open()
            return
        try:
            ticks = int(max(0.0, start - half + self._origin) / self._stream.time_base)
            self._container.seek(ticks, stream=self._stream, backward=True)
        except self._errors:  # no index to seek by
            self._open()
            return
        self._decoder, self._held, self._sought = self._container.decode(self._stream), None, True
        first = next(self._decoded(), None)
        if first is None or first[0] > start + half:  # an index that misleads: from the start, then
            self._open()
        else:
            self._held = first

    def _decoded(self) -> Iterator[tuple[float, Any]]:
        if self._held is not None:
            held, self._held = self._held, None
            yield held
        step = 1 / self.fps
        for frame in self._decoder:
            seconds = self._position
            if frame.pts is not None and frame.time_base and not self._counted:
                seconds = float(frame.pts * frame.time_base) - self._origin
                if seconds <= self._position - step and not self._sought:  # time stamps that do not rise
                    seconds = self._position
            self._position, self._sought = seconds + step, False
            yield seconds, frame


def _pictures(path: Path, container: Any) -> Any:
    """The film among the picture tracks: not a cover, not thumbnails; said where there is a choice."""
    streams = list(container.streams.video)
    if not streams:
        raise VideoError(f"{path} has no picture track")
    films = [stream for stream in streams if not _is_still(stream)] or streams
    chosen = next((stream for stream in films if _has(stream, "default")), films[0])
    if len(films) > 1:
        size = f"{chosen.width} x {chosen.height}"
        log.warning("%s has %d films; track %d (%s) is taken", path, len(films), chosen.index, size)
    elif chosen is not streams[0]:
        log.warning("%s: track %d is taken; the picture before it is a cover", path, chosen.index)
    return chosen


def _is_still(stream: Any) -> bool:
    names = ("attached_pic", "timed_thumbnails", "still_image")
    return any(_has(stream, name) for name in names) or (stream.frames == 1 and stream.codec_context.name in _STILLS)


_STILLS = frozenset({"mjpeg", "png", "bmp", "webp"})


def _has(stream: Any, disposition: str) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition[disposition])
