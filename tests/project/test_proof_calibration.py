"""A calibrated threshold leaves films of play alone, and no word of a simulator enters it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import Hdf5Writer
from studies.proof_calibration import LINES, MOST, calibrate, chosen


class Brightness:
    """Says done with the probability that the picture's first pixel tells, in percent."""

    def done(self, frames: Sequence[np.ndarray], task: str) -> list[Any]:
        return [SimpleNamespace(probability=float(frame[0, 0, 0]) / 100) for frame in frames]


def films(path: Path, told: Sequence[Sequence[int]], success: bool, task: str = "lift") -> Path:
    with Hdf5Writer(path, "robosuite", "Lift") as writer:
        for i, film in enumerate(told):
            frames = np.stack([np.full((8, 8, 3), percent, np.uint8) for percent in film])
            steps = len(film) - 1
            writer.write(
                Trajectory(
                    f"seed {i}", task, frames, dones=(success,) * len(film), success=success, kind="success",
                    actions=np.zeros((steps, 7), np.float32), proprio=np.zeros((len(film), 8), np.float32),
                )
            )  # fmt: skip
    return path


def test_the_threshold_is_the_lowest_that_leaves_play_alone(tmp_path: Path) -> None:
    """Two in a row count, one does not; of an expert's film its last fifth is asked about."""
    experts = films(tmp_path / "e.h5", [[99] * 8 + [58, 58], [0] * 8 + [72, 72]], True)
    play = films(tmp_path / "p.h5", [[0] * 5 + [62, 62] + [0] * 3, [0, 90, 0, 90] + [0] * 6], False)
    critic: Any = Brightness()
    told = calibrate(critic, [experts], [play], 2)["lift"]
    assert told["threshold"] == 0.65 and told["films"] == [2, 2]
    assert told["ended"]["0.55"] == (1.0, 0.5) and told["ended"]["0.65"] == (0.5, 0.0)


def test_each_instruction_has_its_own(tmp_path: Path) -> None:
    """Films of one say nothing about another."""
    files = []
    for task, percent in (("lift", 62), ("push", 82)):
        for name, success, said in (("e", True, percent + 5), ("p", False, percent)):
            files.append(films(tmp_path / f"{task}{name}.h5", [[0] * 8 + [said, said]], success, task))
    critic: Any = Brightness()
    told = calibrate(critic, files[::2], files[1::2], 2)
    assert {task: row["threshold"] for task, row in told.items()} == {"lift": 0.65, "push": 0.85}


def test_of_thresholds_that_are_as_good_it_is_the_middle_one() -> None:
    """Films of play of another sort would pass the lowest. A line that costs an expert's film is not as good."""
    shares = {0.3: (1.0, 0.5), 0.5: (0.9, 0.0), 0.6: (0.9, 0.0), 0.7: (0.9, 0.0), 0.9: (0.8, 0.0)}
    assert chosen(shares) == 0.6


def test_the_simulators_word_changes_nothing(tmp_path: Path) -> None:
    told = []
    for word in (True, False):
        experts = films(tmp_path / f"e{word}.h5", [[0] * 8 + [72, 72]], word)
        play = films(tmp_path / f"p{word}.h5", [[0] * 5 + [62, 62] + [0] * 3], not word)
        critic: Any = Brightness()
        told.append(calibrate(critic, [experts], [play], 2))
    assert told[0] == told[1]


def test_where_no_threshold_keeps_to_it_the_highest_is_taken(tmp_path: Path) -> None:
    film = films(tmp_path / "f.h5", [[100] * 10], True)
    critic: Any = Brightness()
    told = calibrate(critic, [film], [film], 2)["lift"]
    assert told["threshold"] == LINES[-1] and told["ended"][str(LINES[-1])][1] > MOST
