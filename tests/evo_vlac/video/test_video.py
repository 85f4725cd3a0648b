"""Videos come in from anything, go out whole or not at all, and show what the critic said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evo_vlac.errors import OptionError, OutputError, VideoError
from evo_vlac.utils.video_tool import (
    compress_image,
    compress_video,
    images_get_from_video,
    video_trajectory,
    visualize_le,
)
from evo_vlac.video import (
    Annotation,
    Series,
    VideoWriter,
    annotated_video,
    read_video,
    sample_indices,
    summary_picture,
    write_video,
)
from evo_vlac.video.annotate import compose
from evo_vlac.video.text import text_width, wrap

FRAMES = [np.full((48, 64, 3), i * 6, np.uint8) for i in range(40)]


def shade(frame: np.ndarray) -> int:
    """Which of FRAMES a decoded frame is."""
    return round(float(frame.mean()) / 6)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "webm", "gif", "mkv", "avi"])
def test_formats_round_trip(tmp_path: Path, suffix: str) -> None:
    """As many frames, in order, at the same rate."""
    write_video(tmp_path / f"a.{suffix}", FRAMES, 10)
    video = read_video(tmp_path / f"a.{suffix}")
    assert [shade(frame) for frame in video.frames] == pytest.approx(list(range(40)), abs=1)
    assert video.fps == pytest.approx(10) and video.frames[0].shape == (48, 64, 3)


def test_folders_arrays_and_lists(tmp_path: Path) -> None:
    """A folder in natural order of its names, an array, a list of images."""
    for i in range(12):
        Image.fromarray(FRAMES[i]).save(tmp_path / f"frame_{i}.png")
    (tmp_path / "notes.txt").touch()
    for source in (tmp_path, np.stack(FRAMES[:12]), FRAMES[:12], [Image.fromarray(f) for f in FRAMES[:12]]):
        assert [shade(frame) for frame in read_video(source).frames] == list(range(12))  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])
def test_odd_sizes_are_written(tmp_path: Path, size: tuple[int, int]) -> None:
    """Encoders want even sizes; the edge is repeated."""
    write_video(tmp_path / "a.mp4", [np.zeros((size[1], size[0], 3), np.uint8)] * 3, 5)
    assert read_video(tmp_path / "a.mp4").frames[0].shape[:2] == (48, 64)


@given(st.floats(1, 60), st.floats(1, 60), st.integers(1, 200))
def test_thinning_keeps_first_and_last(source: float, target: float, frames: int) -> None:
    """Indices go up, the last frame is always there, and no more remain than the rate allows."""
    kept = sample_indices(source, target, frames)
    assert kept[0] == 0 and kept[-1] == frames - 1 and kept == sorted(set(kept))
    if source > target:
        assert len(kept) <= (frames - 1) * target / source + 2
    else:
        assert kept == list(range(frames))


def test_compressing(tmp_path: Path) -> None:
    """Target size, at most the rate, the last frame kept, upstream's return."""
    write_video(tmp_path / "a.mp4", FRAMES, 20)
    path, fps = compress_video(str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), fps=5)
    video = read_video(path)
    assert fps == 5 and video.frames[0].shape == (448, 448, 3)
    assert [shade(f) for f in video.frames] == pytest.approx([*range(0, 40, 4), 39], abs=1)
    assert compress_video(str(tmp_path / "a.mp4"), str(tmp_path / "c.mp4"), target_size=None, fps=30)[1] == 20
    assert len(images_get_from_video(str(tmp_path / "c.mp4"))) == 40
    Image.fromarray(FRAMES[3]).save(tmp_path / "a.png")
    out = compress_image(str(tmp_path / "a.png"), str(tmp_path / "b.png"), (20, 10))
    assert Image.open(out).size == (20, 10)


def test_what_is_no_video_is_one_clear_error(tmp_path: Path) -> None:
    """No such file, a text, an empty folder, a wrong array, no frames."""
    (tmp_path / "a.mp4").write_text("hello")
    (tmp_path / "empty").mkdir()
    cases = [
        (tmp_path / "none.mp4", "no such file"),
        (tmp_path / "a.mp4", "not a video"),
        (tmp_path / "empty", "no pictures"),
        (np.zeros((4, 4, 3), np.uint8), "shape"),
        (np.zeros((2, 4, 4, 3), np.float32), "float32"),
        ([], "no frames"),
        (3, "int"),
    ]
    for source, words in cases:
        with pytest.raises(VideoError, match=words):
            read_video(source)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="fps is 0"):
        read_video(tmp_path / "a.mp4", fps=0)


def test_a_video_that_breaks_off_gives_what_is_whole(tmp_path: Path) -> None:
    """Cut in the middle: the frames before the break, or a clear error; never a crash."""
    write_video(tmp_path / "a.mkv", FRAMES * 4, 10)
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) * 2 // 3])
    assert 0 < len(read_video(tmp_path / "cut.mkv")) < 160


def test_a_failed_video_leaves_nothing(tmp_path: Path) -> None:
    """A frame of another size, an error of the caller, no frames: no file, no leftover; the old file stays."""
    target = tmp_path / "a.mp4"
    write_video(target, FRAMES, 5)
    before = target.read_bytes()
    with pytest.raises(VideoError, match="frame 1 is"):
        write_video(target, [FRAMES[0], FRAMES[0][:40]], 5)
    with pytest.raises(VideoError, match="no frames"):
        write_video(target, [], 5)
    with pytest.raises(KeyError), VideoWriter(target, 5) as writer:
        writer.write(FRAMES[0])
        raise KeyError("caller")
    assert target.read_bytes() == before and list(tmp_path.iterdir()) == [target]
    with pytest.raises(OptionError, match="fps is 0"):
        write_video(target, FRAMES, 0)
    with pytest.raises(OutputError):
        write_video(tmp_path / "a.unknown", FRAMES, 5)
    with pytest.raises(OutputError, match="cannot be written"):
        write_video(target / "b.mp4", FRAMES, 5)


def annotation(**changes: object) -> Annotation:
    base: dict[str, object] = {
        "task": "Подними куб und noch viel mehr, so dass der Text umbrochen werden muss, 把方块拿起来 " * 2,
        "values": Series((0, 10, 20, 39), (0.0, 30.0, 20.0, 80.0)),
        "critics": Series((10, 20, 39), (30.0, float("nan"), -75.0)),
        "done": Series(tuple(range(40)), tuple(i / 40 for i in range(40))),
        "reference": tuple(FRAMES[::8]),
    }
    return Annotation(**{**base, **changes})  # type: ignore[arg-type]


def test_the_annotated_video_grows_with_time(tmp_path: Path) -> None:
    """A picture per frame; later ones have more curve in them; progress is told."""
    heard: list[int] = []
    path = annotated_video(tmp_path / "a.mp4", FRAMES, annotation(), 5, lambda done, _: heard.append(done))
    video = read_video(path)
    assert len(video) == 40 and heard == list(range(1, 41))
    first, last = (compose(np.zeros((48, 64, 3), np.uint8), annotation(), i, 40) for i in (0, 39))
    assert first.shape == last.shape and (first != last).any()


def test_done_marks_show_up_at_the_threshold() -> None:
    """Frames over the threshold, strictly."""
    assert annotation(threshold=0.9).done_frames == [37, 38, 39]
    with pytest.raises(OptionError, match="values has 1 frames for 0"):
        annotation(values=Series((0,), ()))


def test_a_summary_is_one_picture(tmp_path: Path) -> None:
    """Of any number of frames, one among them; a folder in its place is an error."""
    for count in (1, 2, 40):
        path = summary_picture(tmp_path / f"{count}.png", FRAMES[:count], annotation(reference=()))
        with Image.open(path) as image:
            assert image.format == "PNG" and image.width >= 760
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match="folder"):
        summary_picture(tmp_path / "folder.png", FRAMES[:2], annotation())
    with pytest.raises(OptionError, match="at least one frame"):
        summary_picture(tmp_path / "x.png", [], annotation())


@pytest.mark.parametrize(
    "text", ["short", "a long line of plain words that will not fit", "把红色的方块拿起来放到盘子里去吧", ""]
)
def test_wrapped_lines_fit(text: str) -> None:
    """No line is wider than allowed, none are more than allowed, in scripts without blanks too."""
    lines = wrap(text, 14, 120, 2)
    assert len(lines) <= 2 and all(text_width(line, 14) <= 120 for line in lines)


def test_upstreams_trajectory_video(tmp_path: Path) -> None:
    """Lists shorter than the frames are spread over them; strings and None are taken; paths too."""
    images = [Image.fromarray(frame) for frame in FRAMES]
    lists = (["0", 1, None, "Yes"], ["5", "-3"], [0, 5, 2])
    path = video_trajectory("t", "0", [], images, *lists, "x", str(tmp_path), 5, images, 3, critic_log_scale=True)
    assert Path(path).name == "t_0_trajectory.mp4" and len(read_video(path)) == 40
    images[0].save(tmp_path / "a.png")
    assert video_trajectory("u", "0", [str(tmp_path / "a.png")], [], None, None, None, "x", str(tmp_path))
    with pytest.raises(OptionError, match="no images"):
        video_trajectory("u", "0", [], [], None, None, None, "x", str(tmp_path))


def test_upstreams_value_overlay(tmp_path: Path) -> None:
    """The curve over the frames, at the asked size; a task of any words makes a file name."""
    path = visualize_le(FRAMES[:5], None, [0, 20, 10], "lift / it", 3, str(tmp_path))
    video = read_video(path)
    assert Path(path).name == "lift___it_3_trajectory_legend.mp4"
    assert len(video) == 5 and video.frames[0].shape == (480, 640, 3)


def test_frames_of_several_sizes_are_annotated(tmp_path: Path) -> None:
    """Photographs of a folder; the video has the first one's size."""
    frames = [np.zeros((30, 40, 3), np.uint8), np.zeros((40, 30, 3), np.uint8)]
    path = annotated_video(tmp_path / "a.mp4", frames, Annotation("x", Series((0, 1), (0.0, 5.0))), 5)
    assert len(read_video(path)) == 2
