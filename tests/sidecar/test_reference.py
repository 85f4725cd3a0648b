"""Reference trajectories from folders: which pictures are whose, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from questions import picture, shown

from evo_vlac.queries import critic_query
from sidecar.config import ReferenceConfig
from sidecar.engines.parcel import Arena, pack, unpack
from sidecar.errors import ConfigError
from sidecar.reference import References, load_reference


def draw(folder: Path, colours: range, task: str | None = None) -> Path:
    folder.mkdir(parents=True)
    for colour in colours:
        PILImage.fromarray(np.asarray(picture(colour))).save(folder / f"{colour:03d}.png")
    if task is not None:
        (folder / "task.txt").write_text(task, encoding="utf-8-sig")
    return folder


def load(folder: Path, count: int = 3) -> References:
    return load_reference(ReferenceConfig(str(folder), count))


def test_a_folder_of_images_is_every_tasks(tmp_path: Path) -> None:
    references = load(draw(tmp_path / "one", range(10, 15)))
    assert shown(references.pictures) == [10, 12, 14]
    assert references.of("lift the red cube") == references.of("anything") == range(3)


def test_a_folder_beside_the_images_without_an_instruction_is_none_of_a_task(tmp_path: Path) -> None:
    """Somebody's thumbnails do not make a reference of all tasks one of each."""
    folder = draw(tmp_path / "one", range(10, 15))
    (folder / "thumbnails").mkdir()
    assert load(folder).of("anything") == range(3)


def test_a_folder_a_task_gives_each_its_own(tmp_path: Path) -> None:
    """By the instruction, whatever its case, blanks and full stop; hidden folders count for nothing."""
    draw(tmp_path / "b", range(10, 20), "Lift the red cube.\n")
    draw(tmp_path / "a", range(30, 32), "open the door")
    (tmp_path / ".git").mkdir()
    references = load(tmp_path)
    own = {task: shown([references.pictures[i] for i in references.of(task)]) for task in ("lift the  red cube", "?")}
    assert own == {"lift the  red cube": [10, 14, 19], "?": []}
    assert shown([references.pictures[i] for i in references.of("Open the door")]) == [30, 31]


def test_what_a_system_left_is_no_reference(tmp_path: Path) -> None:
    """macOS writes ._0.png beside 0.png, Synology a folder @eaDir."""
    for folder in (draw(tmp_path / "all", range(10, 13)), draw(tmp_path / "tasks" / "a", range(10, 13), "open it")):
        (folder / "._010.png").write_bytes(b"no picture")
        (folder / "@eaDir").mkdir()
        assert shown(load(folder).pictures) == [10, 11, 12]
    (tmp_path / "tasks" / "@eaDir").mkdir()
    assert shown(load(tmp_path / "tasks").pictures) == [10, 11, 12]


def test_no_folder_is_no_reference() -> None:
    assert not load_reference(ReferenceConfig()).of("lift the red cube")


@pytest.mark.parametrize(
    ("tasks", "beside", "said"),
    [
        ({"a": "open it", "b": "Open  it."}, False, "b and another folder are both of the task 'open it'"),
        ({"a": "open it", "b": None}, False, "b/task.txt is missing"),
        ({"a": None}, False, "a/task.txt is missing"),
        ({"a": "  "}, False, "a/task.txt is empty"),
        ({"a": "open it"}, True, "images beside folders"),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path: Path, tasks: dict[str, str | None], beside: bool, said: str) -> None:
    folder = draw(tmp_path / "all", range(3 if beside else 0))
    for name, task in tasks.items():
        draw(folder / name, range(2), task)
    with pytest.raises(ConfigError, match=said):
        load(folder)


def test_a_task_without_images_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "a", range(0), "open it")
    with pytest.raises(ConfigError, match=r"a: no images in it"):
        load(tmp_path)


def test_a_replica_shows_the_same_tasks_pictures(tmp_path: Path) -> None:
    """Pictures of references are not sent but named, over all tasks."""
    draw(tmp_path / "a", range(30, 32), "open the door")
    draw(tmp_path / "b", range(10, 20), "lift it")
    ours, theirs = load(tmp_path), load(tmp_path)
    numbers = ours.of("lift it")
    keys = (*(("reference", i) for i in numbers), "first", "before", "after")
    query = critic_query(
        picture(2), picture(3), "lift it", reference=[ours.pictures[i] for i in numbers], first=picture(1), keys=keys
    )
    arena = Arena()
    (arrived,) = unpack(pack([query], arena), arena, theirs.pictures)
    assert shown(arrived.images) == [10, 14, 19, 1, 2, 3]
    arena.close()
