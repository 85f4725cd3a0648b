"""Verdict videos can be read, whatever the instruction's length and the frame's size."""

from __future__ import annotations

import av
import numpy as np
import pytest
from PIL import ImageFont

from verl.trainer.report.verdict_video import wrapped, write_verdict_video

LONG = "put the black bowl in the bottom drawer of the cabinet and close it, then turn the stove on"


@pytest.mark.parametrize("width", [100, 308, 500])
def test_no_line_is_wider_than_the_picture(width):
    """All words are there, in order, on lines that fit."""
    font = ImageFont.load_default(size=14)
    lines = wrapped(LONG, font, width)
    assert " ".join(lines) == LONG
    assert max(font.getlength(line) for line in lines) <= width
    assert wrapped("", font, width) == []


@pytest.mark.parametrize(("size", "instruction"), [(112, "lift the red cube"), (112, LONG), (256, LONG), (640, LONG)])
def test_a_video_has_a_frame_for_each_step_and_a_second_of_its_end(tmp_path, make_episode, size, instruction):
    """It is written, decodes, and nothing of the task's text lies on the camera's picture or beyond the border."""
    frames = np.full((6, size, size, 3), 200, np.uint8)
    episode = make_episode(steps=5, instruction=instruction, frames=frames)
    write_verdict_video(episode.end, tmp_path / "a.mp4", threshold=0.9)
    with av.open(str(tmp_path / "a.mp4")) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(images) == 6 + 10
    border = images[0][:20, [0, 1, -2, -1]].astype(int)
    assert np.abs(border - np.array([24, 24, 28])).max() < 30, "the text stays off the border"


def test_an_episode_that_was_not_recorded_has_no_video(tmp_path, make_episode):
    """An error that says so."""
    with pytest.raises(ValueError, match="not recorded"):
        write_verdict_video(make_episode().end, tmp_path / "a.mp4", threshold=0.9)
