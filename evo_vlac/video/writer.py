"""Writing frames as a video that players and browsers show: H.264 (MPEG-4 where there is no encoder), yuv420p."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac.errors import OptionError, OutputError, VideoError
from evo_vlac.images import rgb_array
from evo_vlac.outputs import whole_file

_CODECS = {".webm": ("libvpx-vp9", "libvpx"), ".gif": ("gif",)}
_DEFAULT_CODECS = ("libx264", "libopenh264", "mpeg4")
_MAX_FPS = 1000


class VideoWriter:
    """Takes frames one by one; the file is renamed into place when the ``with`` block ends without an error. Sizes are
    those of the first frame, rounded up to even numbers (the edge is repeated). The folder is made."""

    def __init__(self, path: str | os.PathLike[str], fps: float) -> None:
        if not 0 < fps <= _MAX_FPS:
            raise OptionError(f"fps is {fps}; allowed: over 0, at most {_MAX_FPS}")
        self.path = Path(path)
        self.fps = fps
        self.count = 0
        self._stack = ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._shape = (0, 0)

    def __enter__(self) -> VideoWriter:
        import av

        partial = self._stack.enter_context(whole_file(self.path))
        try:
            self._container = av.open(str(partial.absolute()), "w")  # absolute: as in film.py
        except (av.FFmpegError, ValueError) as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise OutputError(f"{self.path} cannot be written as a video: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failure: BaseException | None = error
        try:
            if failure is None and self.count == 0:
                failure = VideoError(f"{self.path}: no frames to write")
            if failure is None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
        finally:
            self._container.close()
            self._stack.__exit__(type(failure) if failure else None, failure, trace)
        if failure is not None and error is None:
            raise failure

    def write(self, frame: npt.NDArray[np.uint8]) -> None:
        """Appends an RGB frame (H, W, 3) uint8; all frames have one size."""
        import av

        frame = rgb_array(frame)
        if self._stream is None:
            self._start(frame.shape[0], frame.shape[1])
        if frame.shape[:2] != self._shape:
            raise VideoError(f"{self.path}: frame {self.count} is {frame.shape[:2]}, the first was {self._shape}")
        frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts = self.count
        for packet in self._stream.encode(picture):
            self._container.mux(packet)
        self.count += 1

    def _start(self, height: int, width: int) -> None:
        import av

        self._shape = (height, width)
        rate = Fraction(self.fps).limit_denominator(1001)
        errors = []
        for codec in _CODECS.get(self.path.suffix.lower(), _DEFAULT_CODECS):
            try:
                stream = self._container.add_stream(codec, rate=rate)
            except (av.FFmpegError, ValueError) as error:
                errors.append(f"{codec}: {error}")
                continue
            stream.width, stream.height = width + width % 2, height + height % 2
            stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
            if codec == "libx264":
                stream.options = {"crf": "20", "preset": "veryfast"}
            self._stream = stream
            return
        raise OutputError(f"{self.path}: no video encoder ({'; '.join(errors)})")


def write_video(path: str | os.PathLike[str], frames: Iterable[npt.NDArray[np.uint8]], fps: float) -> Path:
    """Writes RGB frames (H, W, 3) uint8 as a video."""
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
    return Path(path)
