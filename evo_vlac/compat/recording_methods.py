"""``magic_smooth`` and ``magic_split`` of ``GAC_model``: cutting recordings by the critic's values."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from evo_vlac.compat.recordings import read_recording, write_recording
from evo_vlac.compat.segments import Segment, split_segments
from evo_vlac.compat.trajectory_methods import TrajectoryMethods
from evo_vlac.compat.video_tool import images_get_from_video
from evo_vlac.video import write_video

log = logging.getLogger(__name__)


class RecordingMethods(TrajectoryMethods):
    """Recordings are ``.pkl.gz`` files, see :mod:`evo_vlac.compat.recordings`."""

    def magic_smooth(
        self,
        task: str,
        file_path: str,
        hz: int = 10,
        value_simple: Any = "mix_f",
        ref_image_list: Any = None,
        ref_num: int = 9,
        think: bool = False,
        max_skip: int = 3,
    ) -> list[dict[str, Any]]:
        """Leaves out stretches without progress, where the step over them has some; writes
        ``<name>_smoothed/`` beside the file (recording and video) and returns the remaining steps."""
        recording = read_recording(file_path)
        images = recording.images()
        skip = max(1, hz // 2)
        ask = {
            "task": task,
            "ref_image_list": _reference(ref_image_list),
            "batch_num": 10,
            "ref_num": ref_num,
            "think": think,
            "rich": True,
            "frame_skip": True,
            "value_simple": value_simple,
        }
        critics, _ = self.get_trajectory_critic(image_list=images, skip=skip, **ask)
        dropped: set[int] = set()
        i = 0
        while i < len(critics):
            if critics[i] > 0:
                i += 1
                continue
            window = 2
            while i + window < len(critics) and window <= max_skip:
                jump = [images[i * skip], images[(i + window) * skip]]
                if self._jump(images[0], jump, ask) >= 0:
                    break
                window += 1
            dropped.update(range(i * skip + 1, min((i + window) * skip, len(images) - 1)))
            i += window
        kept = [k for k in range(len(recording.steps)) if k not in dropped]
        steps = [recording.steps[k] for k in kept]
        folder, name = _beside(recording.path, "smoothed")
        write_recording(folder / f"{name}_smoothed.pkl.gz", steps)
        _video(folder / f"{name}_smoothed.mp4", [images[k] for k in kept if k < len(images)], hz)
        return steps

    def magic_split(
        self,
        task: str,
        file_path: str,
        hz: int = 10,
        value_simple: Any = "mix_f",
        done_assist: bool = False,
        ref_image_list: Any = None,
    ) -> list[dict[str, Any]]:
        """Splits a recording at the peaks and valleys of its values; writes ``<name>_segments/`` beside the file
        (``ascending/``, ``descending/``, ``videos/``) and returns the segments: type, start, end, data, images."""
        recording = read_recording(file_path)
        images = recording.images()
        skip = max(1, hz // 2)
        _, value_list = self.get_trajectory_critic(
            task=task,
            image_list=images,
            ref_image_list=_reference(ref_image_list),
            batch_num=10,
            skip=skip,
            rich=True,
            frame_skip=True,
            value_simple=value_simple,
        )
        peaks: list[int] = []
        if done_assist:
            done = self.get_trajectory_done(task, images, batch_num=10, rich=True, threshold=0.9, skip=skip)
            peaks = _done_peaks(done)
        folder, _ = _beside(recording.path, "segments")
        out = []
        for number, part in enumerate(split_segments(value_list, extra_peaks=peaks)):
            start, end = part.start * skip, min(part.end * skip, len(images) - 1)
            if end > start:
                out.append(self._segment(part, number, start, end, recording.steps, images, folder, hz))
        log.info("%d segments saved to %s", len(out), folder)
        return out

    def _segment(
        self,
        part: Segment,
        number: int,
        start: int,
        end: int,
        steps: Sequence[dict[str, Any]],
        images: Sequence[PILImage.Image],
        folder: Path,
        hz: int,
    ) -> dict[str, Any]:
        kind = "ascending" if part.ascending else "descending"
        pictures = list(images[start:end])
        described = self.get_trajectory_task(pictures)[0]
        name = "".join(c if c.isalnum() else "_" for c in described)[:60].strip("_") or "segment"
        data = list(steps[start:end])
        write_recording(folder / kind / f"{name}_{number:03d}.pkl.gz", data)
        _video(folder / "videos" / f"{kind}_{name}_{number:03d}.mp4", pictures, hz)
        return {"type": kind, "start": start, "end": end, "data": data, "images": pictures}

    def _jump(self, first: PILImage.Image, pair: list[PILImage.Image], ask: dict[str, Any]) -> float:
        """The critic of one jump; the first image of the episode goes before it, as references need it."""
        critics, _ = self.get_trajectory_critic(image_list=[first, *pair], skip=1, **ask)
        return critics[-1]


def _done_peaks(done: Sequence[float], needed: int = 4, gap: int = 4) -> list[int]:
    """Where the task is done for ``needed`` frames in a row; runs with at most ``gap`` frames between are one."""
    runs: list[list[int]] = []
    for i, score in enumerate(done):
        if score >= 0.95:
            if runs and i - runs[-1][-1] <= (1 if len(runs[-1]) < needed else gap):
                runs[-1].append(i)
            else:
                runs.append([i])
    return [run[needed - 1] for run in runs if len(run) >= needed]


def _reference(source: Any) -> Any:
    if not isinstance(source, str):
        return source
    return read_recording(source).images() if source.endswith(".pkl.gz") else images_get_from_video(source)


def _beside(path: Path, what: str) -> tuple[Path, str]:
    name = path.name.split(".")[0]
    return path.with_name(f"{name}_{what}"), name


def _video(path: Path, images: Sequence[PILImage.Image], hz: float) -> None:
    if images:
        write_video(path, [np.asarray(image, dtype=np.uint8) for image in images], hz)
