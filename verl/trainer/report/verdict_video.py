"""An episode's frames as a video with the critic's verdicts drawn in."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from verl.episode import EpisodeEnd

WIDTH, MARGIN, ROW, PANEL, FPS = 320, 6, 20, 96, 10  # least width, border, text row, curve: pixels; frames a second
INK, FAINT, DONE, SUCCESS = (230, 230, 230), (90, 90, 90), (255, 170, 40), (80, 200, 120)


def write_verdict_video(end: EpisodeEnd, path: Path, threshold: float) -> None:
    """Writes ``path`` (mp4): each frame, the curve of P(done) up to it, the threshold, and how the episode ended.

    Raises:
        ValueError: the episode was not recorded (``frames`` is None).
    """
    import av

    if end.frames is None:
        raise ValueError(f"episode {end.request.episode} has no frames: it was not recorded")
    drawn = [_draw(end, i, threshold) for i in range(len(end.frames))]
    drawn += [drawn[-1]] * FPS  # the end stays for a second
    temporary = path.with_suffix(".part.mp4")
    with av.open(str(temporary), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width = drawn[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in drawn:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    temporary.replace(path)


def wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    """``text`` broken between words into lines of at most ``width`` pixels (a single word may be wider)."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _draw(end: EpisodeEnd, index: int, threshold: float) -> np.ndarray:
    frames = end.frames
    assert frames is not None
    frame = Image.fromarray(np.ascontiguousarray(frames[index]))
    scale = math.ceil(WIDTH / frame.width)
    frame = frame.resize((frame.width * scale, frame.height * scale), Image.Resampling.NEAREST)
    font = ImageFont.load_default(size=14)
    task = wrapped(end.instruction, font, frame.width - 2 * MARGIN)
    header = (len(task) + 1) * ROW + MARGIN
    width, height = frame.width // 2 * 2, (header + frame.height + PANEL) // 2 * 2
    canvas = Image.new("RGB", (width, height), (24, 24, 28))
    canvas.paste(frame, (0, header))
    pen = ImageDraw.Draw(canvas)
    for row, line in enumerate(task):
        pen.text((MARGIN, 4 + row * ROW), line, fill=INK, font=font)
    probabilities, status = end.probability_by_step(), 4 + len(task) * ROW
    known = probabilities[index] if index < len(probabilities) else np.nan
    says = "VLAC not asked" if np.isnan(known) else f"P(done) {known:.2f}"
    pen.text((MARGIN, status), f"step {index}   {says}", fill=DONE if known > threshold else INK, font=font)
    if end.env_success_step is not None and index >= end.env_success_step:
        pen.text((width - MARGIN, status), "simulator: success", fill=SUCCESS, font=font, anchor="ra")
    if index == len(frames) - 1:
        text = _ending(end)
        left, top, right, bottom = pen.textbbox((width // 2, header + 18), text, font=font, anchor="mm")
        pen.rectangle([left - 8, top - 5, right + 8, bottom + 5], fill=(24, 24, 28))
        pen.text((width // 2, header + 18), text, fill=DONE if end.complete else INK, font=font, anchor="mm")
    _curve(pen, probabilities, index, threshold, (0, header + frame.height, width, height), len(frames))
    return np.asarray(canvas)


def _ending(end: EpisodeEnd) -> str:
    if not end.request.training:
        return "simulator: success" if end.env_success else "simulator: no success"
    return f"VLAC: done, reward {end.score:.2f}" if end.complete else f"end, reward {end.score:.2f}"


def _curve(
    pen: ImageDraw.ImageDraw,
    probabilities: np.ndarray,
    index: int,
    threshold: float,
    box: tuple[int, int, int, int],
    frames: int,
) -> None:
    left, top, right, bottom = box[0] + 6, box[1] + 8, box[2] - 6, box[3] - 8

    def at(i: int, value: float) -> tuple[float, float]:
        return left + (right - left) * i / max(1, frames - 1), bottom - (bottom - top) * value

    pen.line([at(0, threshold), at(frames - 1, threshold)], fill=FAINT)
    pen.line([at(0, 0), at(frames - 1, 0)], fill=FAINT)
    points = [at(i, float(p)) for i, p in enumerate(probabilities[: index + 1]) if not np.isnan(p)]
    if len(points) > 1:
        pen.line(points, fill=DONE, width=2)
    elif points:
        pen.ellipse([points[0][0] - 2, points[0][1] - 2, points[0][0] + 2, points[0][1] + 2], fill=DONE)
