"""Recordings are read as data only, smoothed and split by what the critic says."""

from __future__ import annotations

import base64
import gzip
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evo_vlac.compat.recordings import read_recording, write_recording
from evo_vlac.compat.segments import split_segments
from evo_vlac.errors import DatasetError
from evo_vlac.utils.video_tool import read_data_and_create_video
from evo_vlac.video import read_video
from tests.evo_vlac.compat.test_gac_model import chosen
from tests.evo_vlac.conftest import TASK


def encoded(i: int) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), i, np.uint8)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Forty steps, two cameras, a numpy state."""
    steps = [
        {"rgb": {"front": encoded(i), "wrist": encoded(0).encode()}, "state": np.arange(3), "t": i} for i in range(40)
    ]
    return write_recording(tmp_path / "a.pkl.gz", steps)


def test_reading(recording: Path, tmp_path: Path) -> None:
    """Images of a camera, a part of them, and a video."""
    images = read_data_and_create_video(str(recording), create_video=True, start_frame=5, end_frame=15)
    assert len(images) == 10 and images[0].getpixel((0, 0)) == (5, 5, 5)
    assert len(read_video(tmp_path / "a" / "front_video.mp4")) == 10
    assert len(read_recording(recording).images("wrist")) == 40
    with pytest.raises(DatasetError, match="no camera 'side'; there are: front, wrist"):
        read_recording(recording).images("side")


class Evil:
    def __reduce__(self) -> Any:
        return (os.system, ("true",))


def test_pickles_that_would_run_code_are_refused(tmp_path: Path) -> None:
    """A recording is data."""
    (tmp_path / "evil.pkl.gz").write_bytes(gzip.compress(pickle.dumps([{"rgb": {"a": Evil()}}])))
    with pytest.raises(DatasetError, match="system"):
        read_recording(tmp_path / "evil.pkl.gz")


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(b"no pickle"), gzip.compress(pickle.dumps([])), gzip.compress(pickle.dumps([{"a": 1}]))],
    ids=["no gzip", "no pickle", "no steps", "no pictures"],  # gzip writes the time, and names must not change
)
def test_broken_recordings_are_named(tmp_path: Path, content: bytes) -> None:
    """Not a recording: the file is in the message."""
    (tmp_path / "b.pkl.gz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"b\.pkl\.gz"):
        read_recording(tmp_path / "b.pkl.gz")
    with pytest.raises(DatasetError, match="no recording"):
        read_recording(tmp_path / "none.pkl.gz")


def shown(query: Any) -> list[int]:
    return [int(np.asarray(image)[0, 0, 0]) for image in query.images]


def test_smoothing_leaves_out_what_leads_nowhere(recording: Path, tmp_path: Path) -> None:
    """Steps over a stretch with falling critics go, the rest stays in order."""

    def reply(query: Any) -> str:
        before, after = shown(query)[-2:]
        return "-10" if 10 <= before < 15 and after == before + 5 else "+10"

    steps = chosen(reply).magic_smooth(TASK, str(recording), hz=10)
    kept = [step["t"] for step in steps]
    assert kept == [*range(11), *range(20, 40)]
    assert len(read_recording(tmp_path / "a_smoothed" / "a_smoothed.pkl.gz").steps) == len(kept)
    assert len(read_video(tmp_path / "a_smoothed" / "a_smoothed.mp4")) == len(kept)


def test_splitting_at_peaks(recording: Path, tmp_path: Path) -> None:
    """A recording that rises, falls and rises again becomes three segments with files of their own."""

    def reply(query: Any) -> str:
        if query.kind == "task_description":
            return "put / it, away </task>"
        if query.kind == "done":
            return "0"
        return "-60" if 15 <= shown(query)[-2] < 25 else "+40"

    segments = chosen(reply).magic_split(TASK, str(recording), hz=10, done_assist=True)
    assert [segment["type"] for segment in segments] == ["ascending", "descending", "ascending"]
    assert segments[0]["start"] == 0 and segments[0]["end"] == 15 and len(segments[0]["images"]) == 15
    assert len(list((tmp_path / "a_segments" / "videos").glob("*.mp4"))) == 3
    assert len(list((tmp_path / "a_segments" / "ascending").glob("put___it__away*.pkl.gz"))) == 2


def test_flat_curves_have_no_segments() -> None:
    """Nothing rises, nothing is split; extra peaks count."""
    assert split_segments([1.0, 1.0, 1.0]) == [] and split_segments([]) == []
    assert [s.ascending for s in split_segments([0, 1, 2, 3, 4], extra_peaks=[2])][:1] == [True]
