"""Label-free training: whatever the simulator wrote into a file, the training examples are the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pyarrow import parquet

from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import Hdf5Writer
from evo_vlac.errors import OptionError
from evo_vlac.training.pairs import PairConfig, Shares
from evo_vlac.training.training_set import TrainingSet, build_training_set
from evo_vlac.video.writer import write_video
from tests.evo_vlac.datasets.lerobot_sets import images3

CONFIG = PairConfig(count=200, label_free=True, shares=Shares(reference=0.1))


def write(path: Path, task: str, count: int = 3, length: int = 40) -> Path:
    """Episodes of noise with all that the collector knows: success, flags, kind, states, positions."""
    rng = np.random.default_rng(len(task))
    with Hdf5Writer(path, "robosuite", task) as writer:
        for seed in range(count):
            frames = list(rng.integers(0, 256, (length + seed, 28, 28, 3), np.uint8))
            dones = tuple(i > 20 for i in range(len(frames)))
            places = {"cube": rng.normal(size=(len(frames), 3)).astype(np.float32)}
            writer.write(
                Trajectory(
                    f"{seed}",
                    task,
                    frames,
                    dones=dones,
                    success=True,
                    kind="success",
                    seed=seed,
                    actions=rng.normal(size=(len(frames) - 1, 7)).astype(np.float32),
                    proprio=rng.normal(size=(len(frames), 8)).astype(np.float32),
                    objects=places,
                )
            )
    return path


def examples(made: TrainingSet) -> tuple[str, dict[str, bytes]]:
    """The lines, without the folder's name, and every picture that they show."""
    pictures = {file.name: file.read_bytes() for file in sorted((made.folder / "frames").iterdir())}
    return made.jsonl.read_text().replace(str(made.folder.absolute()), ""), pictures


def delete(file: Any) -> None:
    for demo in file["data"].values():
        for name in ("dones", "actions", "objects", "obs/proprio"):
            del demo[name]
        for name in ("success", "kind", "seed", "num_samples"):
            del demo.attrs[name]


def turn_round(file: Any) -> None:
    for demo in file["data"].values():
        demo["dones"][...] = ~demo["dones"][...]
        demo["objects/cube"][...] = demo["objects/cube"][...][::-1]
        demo.attrs.update(success=False, kind="idle", seed=-5)


def scramble(file: Any) -> None:
    """Flags of another length, rewards, a success that is no truth at all: an honest reader would skip the episode."""
    for demo in file["data"].values():
        del demo["dones"]
        demo["dones"] = np.arange(7) % 2 == 0
        demo["rewards"] = np.full(11, np.nan)
        demo["obs/proprio"][...] = np.nan
        demo.attrs["success"] = "perhaps"


@pytest.mark.parametrize("change", [delete, turn_round, scramble])
def test_the_simulators_fields_change_no_byte(tmp_path: Path, change: Callable[[Any], None]) -> None:
    """Deleted, contrary or meaningless, in demonstrations and in play."""
    paths = [write(tmp_path / name, task) for name, task in (("a.h5", "lift it"), ("b.h5", "push the cube"))]
    play = write(tmp_path / "play.h5", "play", length=50)
    before = examples(build_training_set(paths, tmp_path / "before", CONFIG, play=[play]))
    for path in (*paths, play):
        with h5py.File(path, "r+") as file:
            change(file)
    made = build_training_set(paths, tmp_path / "after", CONFIG, play=[play])
    assert examples(made) == before and not made.skipped and made.episodes == 9


def test_without_the_key_the_flags_decide(tmp_path: Path) -> None:
    """So the test above would see it if they entered."""
    path, config = write(tmp_path / "a.h5", "lift it"), PairConfig(count=200)
    before = examples(build_training_set([path], tmp_path / "before", config))
    with h5py.File(path, "r+") as file:
        turn_round(file)
    assert examples(build_training_set([path], tmp_path / "after", config)) != before


def test_labels_are_the_papers(tmp_path: Path) -> None:
    """Done is 1 in the last 5 % of a demonstration, 0 before 80 % and in play; what lies between is not asked about."""
    demo, play = write(tmp_path / "a.h5", "lift it", 1, 41), write(tmp_path / "p.h5", "play", 1, 41)
    shares = Shares(
        done=1, done_wrong_task=0, critic=0, reversed=0, stagnant=0, critic_wrong_task=0, failed=0, describe=0
    )
    made = build_training_set(
        [demo], tmp_path / "set", PairConfig(count=600, shares=shares, label_free=True), play=[play]
    )
    asked: dict[str, set[int]] = {}
    for line in map(json.loads, made.jsonl.read_text().splitlines()):
        episode, frame = Path(line["images"][0]).stem.split("-")
        asked.setdefault(f"{line['messages'][2]['content']} {int(episode)}", set()).add(int(frame))
    assert asked == {"1 0": {39, 40}, "0 0": set(range(32)), "0 1": set(range(41))}


def test_it_reads_no_success_of_other_layouts(tmp_path: Path) -> None:
    """A film's ``success`` in tasks.json, and LeRobot's next.success."""
    films = tmp_path / "films"
    films.mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    write_video(films / "a.mp4", list(frames), 5.0)
    sets = []
    for success in (True, False, "perhaps"):
        (films / "tasks.json").write_text(json.dumps({"a.mp4": {"task": "lift it", "success": success}}))
        sets.append(examples(build_training_set([films], tmp_path / f"set {success}", CONFIG)))
    assert sets[0] == sets[1] == sets[2]
    lerobot = []
    for name, done in (("x", [False] * 3 + [True]), ("y", [True] + [False] * 3)):
        data = images3(tmp_path / name, [[0, 1]]) / "data/chunk-000/file-000.parquet"
        parquet.write_table(parquet.read_table(data).append_column("next.success", [done * 2]), data)
        lerobot.append(examples(build_training_set([tmp_path / name], tmp_path / f"set {name}", CONFIG)))
    assert lerobot[0] == lerobot[1]


def test_what_would_let_labels_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"shares.state is 0.1; label-free training reads no states"):
        PairConfig(label_free=True, shares=Shares(state=0.1))
    with pytest.raises(OptionError, match="play is for label-free training"):
        path = write(tmp_path / "a.h5", "lift it", 1)
        build_training_set([path], tmp_path / "set", PairConfig(), play=[path])
