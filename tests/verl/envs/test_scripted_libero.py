"""LIBERO's scripted experts and their demonstrations, in the real simulator."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

if importlib.util.find_spec("libero") is None:
    pytest.skip("hf-libero is not installed (pip install 'vlac-rl[libero]')", allow_module_level=True)

from verl.envs.collect import LIBERO_STEPS, main, record
from verl.envs.libero_env import LiberoConfig, LiberoEnv
from verl.envs.libero_setup import find_assets, initial_states, suite_tasks
from verl.envs.scripted import TURN, ScriptedExpert
from verl.envs.scripted_libero import SCRIPTS, SUITE
from verl.envs.waypoints import OPEN
from verl.errors import AssetsMissingError

try:
    find_assets(None)
    HERE = True
except AssetsMissingError:
    HERE = False

needs_assets = pytest.mark.skipif(not HERE, reason="LIBERO's assets are not here (LIBERO_ASSETS=FOLDER)")
pytestmark = pytest.mark.libero
STOVE, PLATE, BOWL = 7, 5, 8
TASKS = (STOVE, PLATE, BOWL)
BOWL_XY = slice(10, 12)  # of a row of the table of states: time, arm and fingers come first


@pytest.fixture(scope="module")
def env() -> Iterator[LiberoEnv]:
    config = LiberoConfig(SUITE, TASKS, LIBERO_STEPS, image_size=16, effects=False, samples=0, split_step=True, keep=3)
    made = LiberoEnv(config)
    yield made
    made.close()


@needs_assets
@pytest.mark.parametrize("task", range(len(TASKS)), ids=["stove", "plate", "bowl"])
def test_every_expert_does_its_task(env: LiberoEnv, task: int) -> None:
    """From two states LIBERO's own success is reached and holds to the end; the file's positions are positions."""
    for seed in (4, 22):
        demo = record(env, task, "success", seed).trajectory
        assert demo.dones is not None and demo.dones[-1] and not demo.dones[0]
        assert "eef" in demo.objects and TURN not in demo.objects


@needs_assets
def test_the_plate_is_not_lost_where_it_turns_to_its_place(env: LiberoEnv) -> None:
    """These seeds left it 5 cm beside, in films that a critic was to take for successes."""
    assert all(record(env, 1, "success", seed).trajectory.success for seed in (700_013, 700_048, 700_113))


@needs_assets
@pytest.mark.parametrize("task", range(len(TASKS)), ids=["stove", "plate", "bowl"])
def test_what_must_not_succeed_does_not(env: LiberoEnv, task: int) -> None:
    """Two ways to fail, and one to miss by little, go on without LIBERO's success."""
    for kind, seed in (("failure", 1), ("failure", 2), ("near_miss", 1)):
        demo = record(env, task, kind, seed).trajectory
        assert not demo.success and len(demo.frames) > 40, (kind, seed)


@needs_assets
def test_a_held_out_state_is_never_collected(tmp_path: Path) -> None:
    """Seeds go through the first 40 of the task's states and begin again."""
    out = tmp_path / "bowl.h5"
    options = ["--episodes", "3", "--seed", "39", "--max-steps", "2", "--image-size", "16"]
    assert main(["--env", "libero", "--task", str(BOWL), "--out", str(out), *options]) == 0
    table = initial_states(suite_tasks(SUITE)[BOWL])[:, BOWL_XY]
    with h5py.File(out) as file:
        attributes, demos = file["data"].attrs, [file[f"data/demo_{number}"] for number in range(3)]
        assert (attributes["env_name"], attributes["task_name"]) == ("libero", "put_the_bowl_on_the_plate")
        assert attributes["task"] == "put the bowl on the plate"
        bowls = [demo["objects/akita_black_bowl_1"][0, :2] for demo in demos]
    nearest = [int(np.linalg.norm(table - bowl, axis=1).argmin()) for bowl in bowls]
    assert nearest == [39, 0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "0"], "no script for task 'open_the_middle_drawer_of_the_cabinet'; allowed are turn_on_the_stove"),
        (["--task", "10"], "10 is no task of libero_goal; allowed are 0 to 9"),
        (["--task", "Lift"], "--task Lift: with --env libero it is a task's number in the suite"),
        ([], "--task None: with --env libero it is a task's number in the suite"),
        (["--task", "7", "--kinds", "drop"], "--kinds: 'drop' is unknown; allowed are success, failure"),
        (["--task", "7", "--zoom", "2"], "--zoom is no option of --env libero"),
        (["--task", "Lift", "--env", "robosuite", "--split-step"], "--split-step is no option of --env robosuite"),
    ],
)
def test_a_wrong_option_ends_in_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, what is wrong, and no file."""
    with pytest.raises(SystemExit) as ended:
        main(["--env", "libero", "--out", str(tmp_path / "x.h5"), *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("task", SCRIPTS)
def test_of_the_mixed_most_make_a_mistake_of_one_decision_and_the_others_do_it_as_an_expert(task: str) -> None:
    """The knob not turned, the plate not pushed, the bowl let go where it was: by the way points."""

    def ends(kind: str, seed: int) -> list[tuple[object, ...]]:
        anchors = SCRIPTS[task](kind, np.random.default_rng(seed))
        places = [
            getattr(one.anchor, "keywords", one.anchor) for one in anchors
        ]  # of a place that is reckoned, its numbers
        return list(zip(places, (one.turn for one in anchors)))

    right = [ends("mixed", seed) == ends("success", 0) for seed in range(100)]
    assert 20 <= sum(right) <= 40
    wrong = [SCRIPTS[task]("mixed", np.random.default_rng(seed)) for seed in range(100) if not right[seed]]
    assert all(script[-1].anchor == "here" and script[-1].gripper == OPEN for script in wrong)
    assert not any(one.turn or one.steady or one.anchor == "plate_1" for script in wrong for one in script)


def test_a_hand_that_pushes_is_not_disturbed_and_one_on_its_way_is() -> None:
    """Half of the plates were lost where it was."""
    at = {name: np.zeros(3) for name in ("eef", "plate_1", "main_table_stove_front_region")}
    at["main_table_stove_front_region"] = np.array([0.3, 0.0, 0.0])
    expert = ScriptedExpert("push_the_plate_to_the_front_of_the_stove", "mixed", 5, scripts=SCRIPTS)
    moved = []
    for step in range(60):
        meant = expert.act({**at, "eef": np.array([0.02, 0.0, 0.1 if step < 3 else 0.003])})
        assert meant is not None
        moved.append(not np.array_equal(expert.disturbed(meant), meant))
    assert moved[0] and not any(moved[-20:])
