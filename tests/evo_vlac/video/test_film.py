"""A film is read from any moment on, by its time stamps, and the film among several tracks is found."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from evo_vlac.compat.video_tool import compress_video
from evo_vlac.errors import VideoError
from evo_vlac.video import read_video, write_video
from evo_vlac.video.film import Film
from evo_vlac.video.reader import read_film

FRAMES = [np.full((48, 64, 3), i * 6, np.uint8) for i in range(40)]


def shades(frames: Iterable[np.ndarray]) -> list[int]:
    """Which of FRAMES the decoded ones are."""
    return [round(float(frame.mean()) / 6) for frame in frames]


def film_at(path: Path, seconds: Iterable[float]) -> Path:
    """FRAMES, each shown from its moment on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for frame, moment in zip(FRAMES, seconds):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = round(moment * 1000), Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def with_cover(path: Path) -> Path:
    """A film whose tagger put a picture in front: moov/udta/meta/ilst/covr, first in moov."""
    write_video(path, FRAMES[:20], 10)
    data = path.read_bytes()

    def atom(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I4s", len(body) + 8, name) + body

    cover = io.BytesIO()
    Image.new("RGB", (96, 96), "red").save(cover, "JPEG")
    picture = atom(b"covr", atom(b"data", struct.pack(">II", 13, 0) + cover.getvalue()))
    handler = atom(b"hdlr", struct.pack(">II4s4sIIB", 0, 0, b"mdir", b"appl", 0, 0, 0))
    user = atom(b"udta", atom(b"meta", struct.pack(">I", 0) + handler + atom(b"ilst", picture)))
    at = data.index(b"moov") - 4
    size = struct.unpack(">I", data[at : at + 4])[0]
    path.write_bytes(data[:at] + struct.pack(">I4s", size + len(user), b"moov") + user + data[at + 8 :])
    return path


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), "RG/BW"),
        ((0, 1, -1, 0), "BR/WG"),  # held upright
        ((-1, 0, 0, -1), "WB/GR"),
        ((0, -1, 1, 0), "GW/RB"),
        ((-1, 0, 0, 1), "GR/WB"),  # a front camera
        ((1, 0, 0, -1), "BW/RG"),
        ((0, 1, 1, 0), "RB/GW"),
        ((0, -1, -1, 0), "WG/BR"),
    ],
)
def test_how_the_camera_was_held(tmp_path: Path, matrix: tuple[int, ...], shown: str) -> None:
    """Turned and mirrored as the film's own matrix says: red, green, blue and white in the four corners."""
    picture = np.zeros((48, 64, 3), np.uint8)
    corners = {"R": (220, 30, 30), "G": (30, 220, 30), "B": (30, 30, 220), "W": (220, 220, 220)}
    for number, colour in enumerate(corners.values()):
        picture[24 * (number // 2) :][:24, 32 * (number % 2) :][:, :32] = colour
    path = write_video(tmp_path / "a.mp4", [picture] * 3, 10)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value * 65536 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    frame = read_video(path).frames[0]
    names = {tuple(np.array(colour) > 120): name for name, colour in corners.items()}
    found = [names[tuple(frame[y, x] > 120)] for y in (5, -5) for x in (5, -5)]
    assert "{}{}/{}{}".format(*found) == shown


def test_a_rate_that_varies_is_thinned_by_time(tmp_path: Path) -> None:
    """Half of the frames lie in the first second: by count they would get half of what is kept."""
    moments = [*(i / 20 for i in range(20)), *(1 + i for i in range(20))]
    video = read_video(film_at(tmp_path / "a.mp4", moments), fps=2)
    assert shades(video.frames) == pytest.approx([0, 10, *range(20, 40)], abs=1)
    assert video.source_frames == (0, 10, *range(20, 40)) and video.source_length == 40
    assert video.seconds == pytest.approx((0, 0.5, *range(1, 21)), abs=0.01)


def test_numbers_and_seconds_of_the_source(tmp_path: Path) -> None:
    """Beside what was resampled; of pictures by number."""
    write_video(tmp_path / "a.mp4", FRAMES, 20)
    video = read_video(tmp_path / "a.mp4", fps=5)
    assert video.source_frames == (*range(0, 40, 4), 39) and video.fps == 5
    assert video.seconds == pytest.approx([i / 20 for i in video.source_frames])
    assert read_video(FRAMES[:3]).source_frames == (0, 1, 2)


def test_the_cover_is_not_the_film(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A tagger's picture comes first; one line says what is taken."""
    assert len(read_video(with_cover(tmp_path / "a.mp4"))) == 20
    assert [r.message for r in caplog.records] == [
        f"{tmp_path}/a.mp4: track 1 is taken; the picture before it is a cover"
    ]


def test_the_cover_has_no_say_in_a_compressed_films_rate(tmp_path: Path) -> None:
    """Every second frame of ten a second, and the last: the rate is the film's, not the picture's."""
    _, fps = compress_video(str(with_cover(tmp_path / "a.mp4")), str(tmp_path / "b.mp4"), target_size=None, fps=5)
    assert fps == 5 and len(read_video(tmp_path / "b.mp4")) == 11


def test_of_two_films_one_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first, unless another is marked as the default."""
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for number, stream in enumerate(streams):
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.disposition = av.stream.Disposition.default if number else av.stream.Disposition(0)
        for number, stream in enumerate(streams):
            for _ in range(3):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(FRAMES[number * 20], format="rgb24")))
            container.mux(stream.encode())
    assert shades(read_video(tmp_path / "a.mkv").frames)[0] == pytest.approx(20, abs=1)
    assert "has 2 films; track 1 (64 x 48) is taken" in caplog.text


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "avi", "gif"])
def test_any_part_of_a_film(tmp_path: Path, suffix: str) -> None:
    """One after the other, back, ahead, past the end; exact to the frame, with an index in the file or without."""
    write_video(tmp_path / f"a.{suffix}", FRAMES, 10)
    with Film(tmp_path / f"a.{suffix}") as film:
        for start, end in ((0, 6), (6, 9), (9, 12), (30, 33), (2, 5), (38, 99), (0, 2), (20, 21)):
            part = read_film(film, start / 10, end / 10)
            assert shades(part.frames) == pytest.approx(list(range(start, min(end, 40))), abs=1)
            assert part.source_frames == tuple(range(len(part))) and part.seconds[0] == pytest.approx(0, abs=0.01)
        with pytest.raises(VideoError, match="no frames"):
            read_film(film, 50.0, 60.0)
        assert shades(read_film(film, 1.0, 1.1).frames) == pytest.approx([10], abs=1)


def test_parts_in_order_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten parts of one long group of pictures; seeks would decode it ten times."""
    write_video(tmp_path / "a.mp4", FRAMES, 10)
    with Film(tmp_path / "a.mp4") as film:
        decoded = 0

        def counted(source: Iterable[object]) -> Iterable[object]:
            nonlocal decoded
            for frame in source:
                decoded += 1
                yield frame

        monkeypatch.setattr(film, "_decoder", counted(film._decoder))
        assert sum(len(read_film(film, i * 0.4, (i + 1) * 0.4)) for i in range(10)) == decoded == 40


def test_an_unfinished_film_is_called_that(tmp_path: Path) -> None:
    """Never fetched, empty."""
    (tmp_path / "a.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "b.mp4").touch()
    for name, words in (("a.mp4", "git lfs pull"), ("b.mp4", "empty")):
        with pytest.raises(VideoError, match=words):
            read_video(tmp_path / name)


def test_depth_maps_among_pictures_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Colour, depth and mask of each moment in one folder, and what systems leave there."""
    for i in range(3):
        for kind in ("color", "depth", "mask"):
            Image.fromarray(FRAMES[i if kind == "color" else 30]).save(tmp_path / f"{i:03d}_{kind}.png")
    (tmp_path / "._000_color.png").write_bytes(b"x")
    assert shades(read_video(tmp_path).frames) == [0, 1, 2]
    assert "3 pictures are taken, 6 left out as 00" in caplog.text
