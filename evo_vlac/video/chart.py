"""Small charts in plain pictures: a value curve, critic bars, done marks. Drawn for one moment in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import ImageDraw

from evo_vlac.video.text import draw_text, text_width

GREEN, RED, ORANGE, BLUE, GREY, DARK = "#2e8b57", "#c0392b", "#e67e22", "#1f77b4", "#d5d8dc", "#34495e"
_LABEL = 11


@dataclass(frozen=True, slots=True)
class Series:
    """Points over frames: ``at`` are frame numbers, ascending; ``values`` belong to them."""

    at: tuple[int, ...]
    values: tuple[float, ...]

    def until(self, frame: int) -> Series:
        """The points up to and with ``frame``."""
        kept = [i for i, at in enumerate(self.at) if at <= frame]
        return Series(tuple(self.at[i] for i in kept), tuple(self.values[i] for i in kept))


NOTHING = Series((), ())


@dataclass(frozen=True, slots=True)
class Axes:
    """A chart's place (left, top, right, bottom; px), how many frames its width stands for, and its value range."""

    box: tuple[int, int, int, int]
    frames: int
    low: float
    high: float

    def x(self, frame: float) -> float:
        left, _, right, _ = self.box
        return left + (right - left) * frame / max(1, self.frames - 1)

    def y(self, value: float) -> float:
        _, top, _, bottom = self.box
        share = (min(self.high, max(self.low, value)) - self.low) / ((self.high - self.low) or 1.0)
        return bottom - (bottom - top) * share


def draw_axes(draw: ImageDraw.ImageDraw, axes: Axes, title: str, ticks: Sequence[float]) -> None:
    """The frame of a chart, its title and its value lines."""
    left, top, right, bottom = axes.box
    draw_text(draw, (left, top - 17), title, 12, DARK)
    for tick in ticks:
        y = axes.y(tick)
        draw.line((left, y, right, y), fill=GREY)
        label = f"{tick:.0f}"
        draw_text(draw, (left - 5 - text_width(label, _LABEL), y - 7), label, _LABEL, DARK)
    draw.line((left, top, left, bottom), fill=DARK)


def draw_curve(draw: ImageDraw.ImageDraw, axes: Axes, series: Series, width: int = 2, edge: int = 0) -> None:
    """A line through the points, ``width`` px, with a white ``edge`` (px) around it; stretches that fall are orange."""
    points = [(axes.x(at), axes.y(value)) for at, value in zip(series.at, series.values)]
    if edge and len(points) > 1:
        draw.line([coordinate for point in points for coordinate in point], fill="white", width=width + 2 * edge)
    for i in range(1, len(points)):
        fell = series.values[i] < series.values[i - 1]
        draw.line((*points[i - 1], *points[i]), fill=ORANGE if fell else GREEN, width=width)
    if points:
        x, y = points[-1]
        draw.ellipse((x - width - 2, y - width - 2, x + width + 2, y + width + 2), fill=GREEN)


def draw_bars(draw: ImageDraw.ImageDraw, axes: Axes, series: Series) -> None:
    """A bar from zero for each point; an unreadable (NaN) one is a grey cross on the zero line."""
    zero = axes.y(0.0)
    left, _, right, _ = axes.box
    half = max(1.0, min(8.0, (right - left) / max(1, len(series.at)) / 3))
    for at, value in zip(series.at, series.values):
        x = axes.x(at)
        if value != value:
            draw.line((x - 3, zero - 3, x + 3, zero + 3), fill="grey", width=2)
            draw.line((x - 3, zero + 3, x + 3, zero - 3), fill="grey", width=2)
            continue
        y = axes.y(value)
        draw.rectangle((x - half, min(y, zero), x + half, max(y, zero)), fill=BLUE if value >= 0 else RED)


def draw_marks(draw: ImageDraw.ImageDraw, axes: Axes, frames: Sequence[int]) -> None:
    """A green tick on the chart's top edge for each done frame."""
    _, top, _, bottom = axes.box
    for frame in frames:
        x = axes.x(frame)
        draw.line((x, top, x, bottom), fill="#a9dfbf", width=2)
        draw.polygon([(x - 4, top - 5), (x + 4, top - 5), (x, top + 2)], fill=GREEN)
