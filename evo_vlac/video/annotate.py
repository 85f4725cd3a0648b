"""A trajectory with what the critic said drawn beside it: as a video that grows with time, or as one picture.

+---------------- references ----------------+
| frame                | task, value, done   |
|                      | value curve         |
|                      | critic bars         |
+----------------------+---------------------+
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageDraw, ImageOps

from evo_vlac.engine import Image
from evo_vlac.errors import OptionError
from evo_vlac.images import load_image
from evo_vlac.metrics import ONE_FRAME, any_readable
from evo_vlac.outputs import whole_file
from evo_vlac.video.chart import GREEN, NOTHING, RED, Axes, Series, draw_axes, draw_bars, draw_curve, draw_marks
from evo_vlac.video.text import draw_text, wrap
from evo_vlac.video.writer import VideoWriter

_HEIGHT = 360  # of the main picture, px
_PANEL = 420  # of the charts, px
_STRIP = 96  # of the references, px
_SUMMARY_FRAMES = 8


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is drawn: ``values`` (percent) and ``critics`` (percent) over frames; ``done`` (probability 0..1) over
    frames, marked where over ``threshold``; the reference frames; the task."""

    task: str
    values: Series
    critics: Series = NOTHING
    done: Series = NOTHING
    threshold: float = 0.9
    reference: tuple[Image, ...] = ()

    def __post_init__(self) -> None:
        for name in ("values", "critics", "done"):
            series = getattr(self, name)
            if len(series.at) != len(series.values):
                raise OptionError(f"{name} has {len(series.at)} frames for {len(series.values)} values")

    @property
    def done_frames(self) -> list[int]:
        """The frames whose done probability is over the threshold."""
        return [at for at, value in zip(self.done.at, self.done.values) if value > self.threshold]


def annotated_video(
    path: str | os.PathLike[str],
    frames: Sequence[Image],
    annotation: Annotation,
    fps: float,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes the annotated video; one picture per frame, the charts growing with time. Frames of other sizes than the
    first stand whole within its size."""
    size = load_image(frames[0]).size if len(frames) else (1, 1)
    with VideoWriter(path, fps) as writer:
        for index, frame in enumerate(frames):
            writer.write(compose(_within(frame, size), annotation, index, len(frames)))
            if progress is not None:
                progress(index + 1, len(frames))
    return Path(path)


def summary_picture(path: str | os.PathLike[str], frames: Sequence[Image], annotation: Annotation) -> Path:
    """Writes one PNG: frames of the trajectory in a row, the whole charts below them."""
    if not len(frames):
        raise OptionError("a summary needs at least one frame")
    count = min(_SUMMARY_FRAMES, len(frames))
    picks = [round(i * (len(frames) - 1) / max(1, count - 1)) for i in range(count)]
    tiles = [_scaled(frames[i], 150) for i in picks]
    width = max(760, sum(tile.width + 4 for tile in tiles) + 16)
    canvas = PILImage.new("RGB", (width, 150 + 380), "white")
    draw = ImageDraw.Draw(canvas)
    x = 8
    for pick, tile in zip(picks, tiles):
        canvas.paste(tile, (x, 30))
        draw_text(draw, (x + 3, 183), f"{pick}", 11, "#34495e")
        x += tile.width + 4
    draw_text(draw, (8, 5), wrap(annotation.task, 15, width - 16, 1)[0], 15)
    _charts(draw, (60, 225, width - 20, 520), annotation, len(frames) - 1, len(frames))
    with whole_file(path) as partial:
        canvas.save(partial, format="PNG")
    return Path(path)


def compose(frame: Image, annotation: Annotation, index: int, total: int) -> npt.NDArray[np.uint8]:
    """The picture for frame ``index`` of ``total``: uint8 (H, W, 3)."""
    main = _scaled(frame, _HEIGHT)
    top = _STRIP + 26 if annotation.reference else 0
    canvas = PILImage.new("RGB", (main.width + _PANEL, top + _HEIGHT), "white")
    draw = ImageDraw.Draw(canvas)
    if annotation.reference:
        _strip(canvas, draw, annotation.reference)
    canvas.paste(main, (0, top))
    left = main.width + 12
    y = top + 6
    for line in wrap(annotation.task, 14, _PANEL - 24, 2):
        draw_text(draw, (left, y), line, 14)
        y += 19
    _status(draw, (left, y), annotation, index)
    _charts(draw, (left + 34, top + 100, main.width + _PANEL - 14, top + _HEIGHT - 12), annotation, index, total)
    return np.asarray(canvas, dtype=np.uint8)


def _status(draw: ImageDraw.ImageDraw, at: tuple[float, float], annotation: Annotation, index: int) -> None:
    x, y = at
    values, critics, done = (s.until(index) for s in (annotation.values, annotation.critics, annotation.done))
    if values.values:
        x += draw_text(draw, (x, y), f"value {values.values[-1]:.1f} %", 13, GREEN) + 14
    if critics.values:
        last = critics.values[-1]
        text = "critic unreadable" if last != last else f"critic {last:+.1f} %"
        x += draw_text(draw, (x, y), text, 13, RED if last < 0 else "#1f77b4") + 14
    if done.values:
        last = done.values[-1]
        over = last > annotation.threshold
        text = "done unreadable" if last != last else f"{'DONE' if over else 'not done'} {last:.2f}"
        draw_text(draw, (x, y), text, 13, GREEN if over else RED)


def _charts(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], annotation: Annotation, index: int, total: int
) -> None:
    left, top, right, bottom = box
    middle = top + int((bottom - top) * 0.55)
    drawn = [v for v in annotation.values.values if v == v]
    low, high = min([0.0, *drawn]), max([100.0, *drawn])
    value_axes = Axes((left, top, right, middle - 14), total, low, high)
    draw_axes(draw, value_axes, "value, % of the task", (low, (low + high) / 2, high))
    draw_marks(draw, value_axes, [f for f in annotation.done_frames if f <= index])
    draw_curve(draw, value_axes, annotation.values.until(index))
    reach = max([10.0, *(abs(c) for c in annotation.critics.values if c == c)])
    critic_axes = Axes((left, middle + 20, right, bottom - 4), total, -reach, reach)
    draw_axes(draw, critic_axes, "critic, % of the remaining work", (-reach, 0.0, reach))
    draw_bars(draw, critic_axes, annotation.critics.until(index))
    if index == total - 1 and not any_readable(annotation.critics.values):
        empty = ONE_FRAME if total == 1 else "not asked"
        why = "no answer could be read" if annotation.critics.values else empty
        draw_text(draw, (left + 8, critic_axes.y(0.0) - 18), why, 12, RED)


def _strip(canvas: PILImage.Image, draw: ImageDraw.ImageDraw, reference: Sequence[Image]) -> None:
    draw_text(draw, (8, 4), "reference", 12, "#34495e")
    tiles = [_scaled(image, _STRIP) for image in reference]
    shrink = min(1.0, (canvas.width - 16) / sum(tile.width + 4 for tile in tiles))
    x = 8.0
    for tile in tiles:
        size = (max(1, int(tile.width * shrink)), max(1, int(tile.height * shrink)))
        canvas.paste(tile.resize(size, PILImage.Resampling.BILINEAR), (int(x), 22))
        x += (tile.width + 4) * shrink


def _within(image: Image, size: tuple[int, int]) -> PILImage.Image:
    picture = load_image(image)
    return picture if picture.size == size else ImageOps.pad(picture, size, color="white")


def _scaled(image: Image, height: int) -> PILImage.Image:
    picture = load_image(image)
    width = max(1, round(picture.width * height / picture.height))
    return picture.resize((width, height), PILImage.Resampling.BILINEAR)
