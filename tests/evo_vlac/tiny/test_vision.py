"""The tiny tower's first lesson: where things are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import Hdf5Writer, read_demonstrations
from evo_vlac.errors import DatasetError
from evo_vlac.tiny.model import TinyConfig, build_tiny_vlac
from evo_vlac.tiny.vision import CELLS, LookConfig, coarse, learn_to_look, read_sights

SMALL = TinyConfig(
    image_size=28, vision_hidden=32, vision_layers=1, vision_mlp=32, text_hidden=32, text_layers=1, text_mlp=32
)


def square(seed: int, name: str = "cube") -> Trajectory:
    """Five frames of a white square; its place, a pixel a centimetre."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 22, (5, 2))
    frames = np.zeros((5, 28, 28, 3), np.uint8)
    for frame, (y, x) in zip(frames, corners):
        frame[y : y + 6, x : x + 6] = 255
    places = np.concatenate([corners / 100, np.zeros((5, 1))], axis=1).astype(np.float32)
    return Trajectory(f"{seed}", "lift it", frames, success=False, objects={name: places})


def write(path: Path, demos: list[Trajectory]) -> Path:
    with Hdf5Writer(path, "squares", "lift it") as writer:
        for demo in demos:
            writer.write(demo)
    return path


def test_it_learns_where_a_square_is(tmp_path: Path) -> None:
    """Held-out squares are found to a third of the distance of a guess, and the model that comes out is a whole one."""
    model = build_tiny_vlac(tmp_path / "model", SMALL)
    demos = write(tmp_path / "squares.h5", [square(seed) for seed in range(120)])
    config = LookConfig(steps=150, batch_size=32, learning_rate=3e-3, warmup_steps=10, held_out=10)
    blind = learn_to_look(model, [demos], tmp_path / "blind", LookConfig(steps=1, held_out=10))
    seen = learn_to_look(model, [demos], tmp_path / "seen", config)
    assert seen["cube"] < blind["cube"] / 3
    assert {f.name for f in (tmp_path / "seen").iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_objects_of_other_scenes_are_unknown(tmp_path: Path) -> None:
    """A file of its own objects leaves NaN where another file's would stand; positions come back as written."""
    one = write(tmp_path / "one.h5", [square(0)])
    two = write(tmp_path / "two.h5", [square(1, "ball")])
    sights = read_sights([one, two], held_out=2)
    assert sights.names == ("ball", "cube") and len(sights.places) == 10
    both = np.concatenate([np.asarray(next(read_demonstrations([path])).frames) for path in (one, two)])
    np.testing.assert_array_equal(sights.frames(np.array([9, 0, 4, 5])), both[[9, 0, 4, 5]])
    assert np.isnan(sights.places[:5, :3]).all() and np.isnan(sights.places[5:, 3:]).all()
    np.testing.assert_array_equal(sights.places[:5, 3:], next(read_demonstrations([one])).objects["cube"])
    assert sights.held_out.tolist() == [False] * 5 + [True] * 5


def test_episodes_without_positions_are_refused(tmp_path: Path) -> None:
    """What the file lacks, and what writes it."""
    bare = Trajectory("x", "lift it", np.zeros((2, 4, 4, 3), np.uint8), success=False)
    with pytest.raises(DatasetError, match="no positions"):
        read_sights([write(tmp_path / "bare.h5", [bare])], held_out=2)
    with pytest.raises(DatasetError, match="no episodes"):
        read_sights([], held_out=2)


def test_label_free_it_learns_the_picture(tmp_path: Path) -> None:
    """Held-out squares are told better than by the mean of all pictures."""
    model = build_tiny_vlac(tmp_path / "model", SMALL)
    film = write(tmp_path / "squares.h5", [square(seed) for seed in range(120)])
    config = LookConfig(steps=150, batch_size=32, learning_rate=3e-3, warmup_steps=10, held_out=10, label_free=True)
    assert learn_to_look(model, [film], tmp_path / "seen", config)["unexplained"] < 0.9


def test_label_free_no_position_changes_the_model(tmp_path: Path) -> None:
    """The same to the byte with the simulator's positions in the file and without."""
    model = build_tiny_vlac(tmp_path / "model", SMALL)
    squares = [square(seed) for seed in range(20)]
    made = []
    for name, demos in (("with", squares), ("without", [Trajectory(s.name, s.task, s.frames) for s in squares])):
        film = write(tmp_path / f"{name}.h5", demos)
        learn_to_look(model, [film], tmp_path / name, LookConfig(steps=2, batch_size=8, held_out=10, label_free=True))
        made.append((tmp_path / name / "model.safetensors").read_bytes())
    assert made[0] == made[1] != (model / "model.safetensors").read_bytes()


def test_cells_are_mean_colours() -> None:
    """Of any size of picture: one that is all of a colour, and one with a bright half."""
    frame = np.full((30, 57, 3), 51, np.uint8)
    assert coarse(frame) == pytest.approx(0.2)
    frame[:, 29:] = 255
    cells = coarse(frame).reshape(CELLS, CELLS, 3)
    assert cells[:, :7].max() == pytest.approx(0.2) and cells[:, 8:].min() == pytest.approx(1.0)
