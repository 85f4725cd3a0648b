"""Upstream's video helpers, with its names, arguments and returns, over :mod:`evo_vlac.video`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageDraw

from evo_vlac.compat.recordings import read_recording
from evo_vlac.errors import OptionError
from evo_vlac.images import load_image
from evo_vlac.outputs import whole_file
from evo_vlac.paths import from_home
from evo_vlac.video import Annotation, Series, VideoWriter, annotated_video, read_video, write_video
from evo_vlac.video.chart import Axes, draw_curve
from evo_vlac.video.film import Film

log = logging.getLogger(__name__)


def images_get_from_video(video_path: str) -> list[PILImage.Image]:
    """Every frame of a video as a PIL RGB image."""
    return [PILImage.fromarray(frame) for frame in read_video(video_path).frames]


def compress_video(
    input_path: str, output_path: str, target_size: tuple[int, int] | None = (448, 448), fps: float = 5
) -> tuple[str, float]:
    """Writes the video at ``target_size`` (width, height; None: as it is) and at most ``fps`` frames a second; returns
    (output_path, the frame rate written).

    Every int(rate / fps)-th frame is kept, as upstream does: of 29.97 frames a second every fifth. The last frame is
    always kept, too: it is the one that is judged.
    """
    with Film(from_home(input_path)) as film:
        rate = film.fps
    if rate <= fps:
        video = read_video(input_path, size=target_size)
        write_video(output_path, video.frames, video.fps)
        return output_path, video.fps
    video = read_video(input_path, fps=rate / int(rate / fps), size=target_size)
    write_video(output_path, video.frames, fps)
    return output_path, fps


def compress_image(input_path: str, output_path: str, target_size: tuple[int, int] = (448, 448)) -> str:
    """Writes the image squashed to ``target_size`` (width, height); returns ``output_path``."""
    image = load_image(input_path).resize(target_size, PILImage.Resampling.LANCZOS)
    with whole_file(output_path) as partial:
        image.save(partial)
    return output_path


def video_trajectory(
    traj_id: str,
    view: str,
    image_paths: Sequence[str],
    image_objects: Sequence[Any],
    done_list: Sequence[Any] | None,
    critic_list: Sequence[Any] | None,
    value_list: Sequence[Any] | None,
    task: str,
    output_path: str | None,
    fps: float = 5,
    ref_image_paths: Sequence[Any] | None = None,
    n_num: int = 5,
    critic_log_scale: bool = False,
) -> str:
    """Writes ``{output_path}/{traj_id}_{view}_trajectory.mp4``, the trajectory with its curves; returns its path.

    The lists may be shorter than the frames: their entries are spread evenly, the last at the last frame.
    ``critic_log_scale`` draws the critics' signed logarithm.
    """
    images: Sequence[Any] = image_paths if len(image_paths) > len(image_objects) else image_objects
    frames = [np.asarray(load_image(image), dtype=np.uint8) for image in images]
    if not frames:
        raise OptionError("video_trajectory: no images given")
    critics = _numbers(critic_list)
    if critic_log_scale:
        critics = [float(np.sign(c) * np.log1p(abs(c))) for c in critics]
    values = _numbers(value_list)
    spots = _spread(len(values) or len(critics) + 1, len(frames))
    done = _numbers(done_list)
    annotation = Annotation(
        task=task,
        values=Series(tuple(spots[: len(values)]), tuple(values)),
        critics=Series(tuple(spots[len(spots) - len(critics) :]), tuple(critics)),
        done=Series(tuple(_spread(len(done), len(frames))), tuple(done)),
        threshold=0.0,  # upstream's done list holds 0 for everything under its threshold
        reference=tuple(_sampled(ref_image_paths, n_num)),
    )
    path = Path(output_path or ".") / f"{traj_id}_{view}_trajectory.mp4"
    return str(annotated_video(path, frames, annotation, fps))


def visualize_le(
    image_objects: Sequence[Any],
    critic_list: Sequence[Any] | None,
    value_list: Sequence[Any],
    task: str,
    id: Any,
    output_path: str,
    resize_shape: tuple[int, int] = (640, 480),
    fps: float = 5,
    transparency: float = 0.1,
    line_width: int = 4,
    edge_width: int = 2,
) -> str:
    """Writes ``{output_path}/{task}_{id}_trajectory_legend.mp4``: the frames at ``resize_shape`` (width, height) with
    the value curve drawn over them (falls in orange, a white edge under the line, the picture ``transparency``
    whiter)."""
    frames = [load_image(image).resize(resize_shape) for image in image_objects]
    values = _numbers(value_list)
    series = Series(tuple(_spread(len(values), len(frames))), tuple(values))
    width, height = resize_shape
    axes = Axes((20, 20, width - 20, height - 20), len(frames), min([0.0, *values]), max([100.0, *values]))
    name = "".join(c if c.isalnum() else "_" for c in task)
    with VideoWriter(Path(output_path) / f"{name}_{id}_trajectory_legend.mp4", fps) as writer:
        for index, frame in enumerate(frames):
            picture = PILImage.blend(frame, PILImage.new("RGB", resize_shape, "white"), transparency)
            draw_curve(ImageDraw.Draw(picture), axes, series.until(index), width=line_width, edge=edge_width)
            writer.write(np.asarray(picture, dtype=np.uint8))
    return str(writer.path)


def read_data_and_create_video(
    filename: str,
    camera_name: str | None = None,
    create_video: bool = False,
    output_path: str | None = None,
    fps: float = 30,
    start_frame: int = 0,
    end_frame: int | None = None,
) -> list[PILImage.Image]:
    """The images of a recording (``.pkl.gz``: a list of steps, ``step["rgb"][camera]`` a base64 image), and its video.

    The first camera is taken unless one is named. Returns PIL images.
    """
    recording = read_recording(filename)
    images = recording.images(camera_name, start_frame, end_frame)
    if create_video and images:
        folder = Path(filename).with_name(Path(filename).name.split(".")[0])
        path = output_path or str(folder / f"{camera_name or recording.cameras[0]}_video.mp4")
        write_video(path, [np.asarray(image, dtype=np.uint8) for image in images], fps)
        log.info("video saved at %s", path)
    return images


def _numbers(values: Sequence[Any] | None) -> list[float]:
    """The values as floats: None is 0; what is no number is NaN, and drawn as unreadable."""
    out = []
    for value in values if values is not None else ():
        try:
            out.append(0.0 if value is None else float(value))
        except (TypeError, ValueError):
            out.append(float("nan"))
    return out


def _spread(count: int, frames: int) -> list[int]:
    if count <= 1:
        return [0] * count
    if count <= frames:
        skip = max(1, round((frames - 1) / (count - 1)))
        grid = [min(i * skip, frames - 1) for i in range(count)]
        if len(set(grid)) == count:
            grid[-1] = frames - 1
            return grid
    return [round(i * (frames - 1) / (count - 1)) for i in range(count)]


def _sampled(references: Sequence[Any] | None, count: int) -> list[npt.NDArray[np.uint8]]:
    if not references or count <= 0:
        return []
    picks = np.linspace(0, len(references) - 1, min(count, len(references)), dtype=int)
    return [np.asarray(load_image(references[i]), dtype=np.uint8) for i in picks]
