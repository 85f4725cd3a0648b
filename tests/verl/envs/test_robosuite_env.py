"""robosuite behind the common interface, in the real simulator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from verl.envs.robosuite_env import CAMERAS, RobosuiteConfig, RobosuiteEnv
from verl.errors import ConfigError, UnknownTaskError


@pytest.fixture(scope="module")
def env() -> Iterator[RobosuiteEnv]:
    made = RobosuiteEnv(RobosuiteConfig(tasks=("Lift", "Stack"), cameras=("agentview", "robot0_eye_in_hand")))
    yield made
    made.close()


def picture(env: RobosuiteEnv, camera: str = "agentview") -> np.ndarray:
    out = np.zeros((112, 112, 3), np.uint8)
    env.render(camera, out)
    return out


def play(env: RobosuiteEnv, seed: int, task: int, steps: int = 12) -> list[np.ndarray]:
    """States and pictures of an episode under fixed actions that close the gripper."""
    rng = np.random.default_rng(seed)
    env.reset(seed, task)
    seen = [env.proprio(), picture(env)]
    for _ in range(steps):
        env.step(np.append(rng.uniform(-1, 1, 6), 1.0))
        seen += [env.proprio(), env.world.data.qpos.copy()]
    return [*seen, picture(env)]


def test_an_episode_depends_on_its_seed_alone(env: RobosuiteEnv) -> None:
    """What the process ran before (another seed, another task, half an episode) changes no bit of an episode."""
    fresh = RobosuiteEnv(RobosuiteConfig(tasks=("Lift", "Stack")))
    try:
        first = play(fresh, 5, 0)
    finally:
        fresh.close()
    play(env, 11, 0, steps=25)
    play(env, 3, 1, steps=7)
    again = play(env, 5, 0)
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a, b)


def test_seeds_differ(env: RobosuiteEnv) -> None:
    """Different seeds give different initial states."""
    places = []
    for seed in range(4):
        env.reset(seed)
        places.append(tuple(env.objects()["cube"]))
    assert len(set(places)) == 4


def test_the_global_generator_is_left_as_it_was(env: RobosuiteEnv) -> None:
    """robosuite draws from numpy's global generator; a reset must not reseed the rest of the process."""
    np.random.seed(1)
    expected = np.random.random(3)
    np.random.seed(1)
    env.reset(7)
    assert np.array_equal(np.random.random(3), expected)


def test_rendering_writes_the_given_buffer_and_flips_by_stride(env: RobosuiteEnv) -> None:
    """The renderer writes into a slot of a larger buffer, touches nothing beside it, and turning up is a view."""
    env.reset(1)
    ring = np.full((3, 112, 112, 3), 77, np.uint8)
    env.render("agentview", ring[1])
    assert (ring[0] == 77).all() and (ring[2] == 77).all()
    upright = env.cameras[0].upright(ring[1])
    assert np.shares_memory(upright, ring)
    red = (upright[..., 0] > 100) & (upright[..., 1] < 60)
    assert red.any(), "the red cube is in the picture"
    assert upright[-20:].mean() > upright[:15].mean(), "the white table is below, the dark arm above"


def test_leaving_out_what_is_outside_changes_no_pixel(env: RobosuiteEnv) -> None:
    """Culling is exact: with all geoms drawn the picture is the same, from every camera."""
    env.reset(2)
    for _ in range(10):
        env.step(np.array([0.3, 0.2, -0.8, 0, 0, 0.5, -1]))
    renderer = env.world.renderer
    for camera in ("agentview", "robot0_eye_in_hand"):
        culled = picture(env, camera)
        renderer._cull = False
        env.world.model.geom_group[:] = renderer._groups
        try:
            assert np.array_equal(picture(env, camera), culled)
        finally:
            renderer._cull = True


def test_rendering_does_not_touch_the_physics(env: RobosuiteEnv) -> None:
    """An episode is the same whether frames are drawn or not: only what somebody needs must be rendered."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (10, 7))
    ends = []
    for draw in (True, False):
        env.reset(9)
        for action in actions:
            env.step(action)
            if draw:
                picture(env)
        ends.append(env.world.data.qpos.copy())
    assert np.array_equal(*ends)


def test_the_step_is_robosuites_own(env: RobosuiteEnv) -> None:
    """Splitting the physics step around the controller stays within a millimetre of robosuite's own loop."""
    env.reset(4)
    start = env.world.env.sim.get_state().flatten()
    actions = [np.array([0.5, -0.3, -0.5, 0.1, 0, 0.2, -1.0])] * 10
    for action in actions:
        env.step(action)
    ours = env.objects()["eef"]
    env.reset(4)
    assert np.array_equal(start, env.world.env.sim.get_state().flatten())
    for action in actions:
        env.world.env.step(action)
    assert np.linalg.norm(ours - env.objects()["eef"]) < 1e-3


def test_proprio_is_position_rotation_and_fingers(env: RobosuiteEnv) -> None:
    """(8,) float32: the end effector's position, its axis-angle, the two finger joints (opposite signs)."""
    env.reset(0)
    state = env.proprio()
    assert state.shape == (8,) and state.dtype == np.float32
    assert state[:3] == pytest.approx(env.objects()["eef"], abs=1e-6)
    assert np.linalg.norm(state[3:6]) == pytest.approx(np.pi, abs=0.2), "the hand points down"
    assert state[6] == pytest.approx(-state[7], abs=1e-3)


def test_actions_outside_the_range_are_clipped(env: RobosuiteEnv) -> None:
    """An action of 5 is an action of 1."""
    ends = []
    for scale in (1.0, 5.0):
        env.reset(6)
        for _ in range(3):
            env.step(np.full(7, scale, np.float32))
        ends.append(env.proprio())
    assert np.array_equal(*ends)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tasks": ("Lft",)}, "unknown task 'Lft'; allowed are Lift, Stack"),
        ({"tasks": ()}, "env.tasks=[]"),
        ({"max_steps": 0}, "env.max_steps=0"),
        ({"cameras": ()}, "env.cameras=[]"),
        ({"image_size": 8}, "env.image_size=8: must be from 16 to 4096"),
        ({"cameras": ("agentvew",)}, "unknown camera 'agentvew'; allowed are agentview, "),
    ],
)
def test_wrong_keys_are_named_before_anything_is_built(values: dict[str, object], message: str) -> None:
    """A wrong value is refused by the configuration itself."""
    with pytest.raises(ConfigError) as caught:
        RobosuiteConfig(**values)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_the_cameras_that_are_allowed_are_those_of_every_scene() -> None:
    """What the configuration takes is in the model, and what the model has is taken: a wrong name is found early."""
    env = RobosuiteEnv(RobosuiteConfig(tasks=("Lift", "Stack"), cameras=CAMERAS))
    for task in range(2):
        env.reset(0, task)
        model = env.world.model
        assert {model.camera(i).name for i in range(model.ncam)} == set(CAMERAS)
    env.close()


def test_a_task_number_outside_is_refused(env: RobosuiteEnv) -> None:
    """Tasks are numbered from 0."""
    with pytest.raises(UnknownTaskError, match="task 2 of 2"):
        env.reset(0, 2)


@pytest.mark.parametrize(
    "out",
    [np.zeros((112, 112, 4), np.uint8), np.zeros((112, 112, 3), np.float32), np.zeros((112, 224, 3), np.uint8)[:, ::2]],
)
def test_a_buffer_of_the_wrong_kind_is_refused(env: RobosuiteEnv, out: np.ndarray) -> None:
    """Shape, type and contiguity are checked: the driver would write elsewhere."""
    env.reset(0)
    with pytest.raises(ConfigError, match="needs a C-contiguous uint8 buffer"):
        env.render("agentview", out)


def test_cubes_lie_as_far_out_as_asked() -> None:
    """In every scene, in all of the square, and never beyond it."""
    made = RobosuiteEnv(RobosuiteConfig(tasks=("Lift", "Push"), cube_within=0.1))
    try:
        for task, name in ((0, "cube"), (1, "cubeA")):
            places = []
            for seed in range(40):
                made.reset(seed, task)
                places.append(made.objects()[name][:2])
            farthest = np.abs(np.stack(places)).max(axis=0)
            assert (farthest > 0.08).all() and (farthest < 0.101).all()
    finally:
        made.close()


def test_a_mat_lies_apart_from_its_cube_and_its_place_is_the_seeds() -> None:
    """Anywhere for Place; straight before a cube on the robot's side for Slide, in the whole picture's reach."""
    made = RobosuiteEnv(RobosuiteConfig(tasks=("Place", "Slide"), cube_within=0.1))
    try:
        places = []
        for seed in range(40):
            made.reset(seed, 0)
            cube, mat = made.objects()["cube"], made.objects()["mat"]
            assert np.hypot(*(mat - cube)[:2]) > 0.119 and not made.world.success()
            places.append(mat[:2])
            made.reset(seed, 1)
            off = (made.objects()["mat"] - made.objects()["cube"])[:2]
            assert 0.119 < off[0] < 0.151 and abs(off[1]) < 0.016 and made.objects()["cube"][0] < -0.02
        assert (np.abs(np.stack(places)).max(axis=0) > 0.08).all()
        made.reset(39, 0)
        assert np.array_equal(made.objects()["mat"][:2], places[39]), "whatever was played in between"
    finally:
        made.close()


def test_a_cube_over_the_mat_does_not_lie_on_it_yet() -> None:
    """And one that lies there does, in the picture too."""
    made = RobosuiteEnv(RobosuiteConfig(tasks=("Place",), cube_within=0.1, zoom=2.0))
    try:
        made.reset(3)
        world, shown = made.world, np.zeros((112, 112, 3), np.uint8)
        made.render("agentview", shown)
        blue = (shown[..., 2] > 150) & (shown[..., 0] < 90)
        assert 200 < blue.sum() < 2000
        joint = world.env.cube.joints[0]
        for high, done in ((0.05, False), (0.0, True)):
            place = world.env.sim.data.get_joint_qpos(joint).copy()
            place[:2] = made.objects()["mat"][:2] + 0.03
            place[2] = world.env.table_offset[2] + world.env.cube.size[2] + high
            world.env.sim.data.set_joint_qpos(joint, place)
            world.env.sim.forward()
            assert world.success() is done
    finally:
        made.close()


def test_each_task_has_its_own_longest_episode() -> None:
    """Lanes are made for the longest of all before the first reset."""
    made = RobosuiteEnv(RobosuiteConfig(tasks=("Lift", "Push"), max_steps=50, task_steps=(20, 40)))
    try:
        assert made.max_steps == made.config.step_limit() == 50
        for task, steps in ((1, 40), (0, 20)):
            made.reset(3, task)
            assert made.max_steps == steps
    finally:
        made.close()


def test_a_zoom_shows_the_middle_larger_and_changes_no_state() -> None:
    """At 2 the middle quarter of the picture fills it; what is simulated stays the same."""
    near, far = (
        RobosuiteEnv(RobosuiteConfig(cameras=("agentview", "robot0_eye_in_hand"), image_size=size, zoom=zoom))
        for zoom, size in ((2.0, 56), (1.0, 112))
    )
    try:
        pictures = []
        for env in (near, far):
            env.reset(5)
            out = np.zeros((env.config.image_size, env.config.image_size, 3), np.uint8)
            env.render("agentview", out)
            pictures.append(out.astype(float))
        assert np.array_equal(near.proprio(), far.proprio())
        difference = np.abs(pictures[0] - pictures[1][28:84, 28:84]).mean()
        assert difference < 4 < np.abs(pictures[0] - pictures[1][::2, ::2]).mean()
    finally:
        near.close()
        far.close()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"task_steps": (3, 4)}, r"env.task_steps=\[3, 4\]: allowed are none, or one for each of env.tasks"),
        ({"task_steps": (65,)}, "env.task_steps=65: must be from 1 to 64"),
        ({"cube_within": 0.3}, "env.cube_within=0.3: must be from 0.0 to 0.15"),
        ({"success_steps": 0}, "env.success_steps=0: must be from 1 to 64"),
        ({"zoom": 0.5}, "env.zoom=0.5: must be from 1.0 to 4.0"),
    ],
)
def test_ranges_and_limits_that_make_no_sense_are_refused(keys: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RobosuiteConfig(**keys)


def test_a_task_may_have_to_be_done_for_some_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a row; a reset begins anew."""
    env = RobosuiteEnv(RobosuiteConfig(success_steps=3))
    env.reset(0)
    told = iter([True, True, False, True, True, True, True])
    monkeypatch.setattr(type(env.world), "success", lambda self: next(told))
    assert [env.step(np.zeros(7)) for _ in range(7)] == [False, False, False, False, False, True, True]
    env.reset(0)
    monkeypatch.setattr(type(env.world), "success", lambda self: True)
    assert [env.step(np.zeros(7)) for _ in range(3)] == [False, False, True]
    env.close()
