"""Supervised warm start: samples from demonstrations, training that resumes, evaluation in the simulator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tests.verl.models.conftest import SIZE
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.errors import ConfigError, InputError
from verl.models.openvla_oft.tiny import make_policy
from verl.models.warm_start import Demonstrations, TrainConfig, success_rate, train
from verl.models.warm_start.card import write_card
from verl.models.warm_start.evaluate import make_env
from verl.models.warm_start.goals import GoalHeads, far


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three episodes of 5, 9 and 12 steps in the collector's layout; the last one failed."""
    rng = np.random.default_rng(0)
    path = tmp_path / "demos.h5"
    with h5py.File(path, "w") as out:
        for i, (steps, kind) in enumerate(((5, "success"), (9, "success"), (12, "failure"))):
            demo = out.create_group(f"data/demo_{i}")
            demo.attrs.update(kind=kind, success=kind == "success", task="lift the red cube", num_samples=steps, seed=i)
            demo["actions"] = rng.uniform(-1, 1, (steps, 7)).astype(np.float32)
            demo["obs/agentview_image"] = rng.integers(0, 256, (steps + 1, 56, 56, 3), dtype=np.uint8)
            demo["obs/proprio"] = rng.normal(0, 1, (steps + 1, 8)).astype(np.float32)
    return path


@pytest.fixture
def data(file: Path) -> Demonstrations:
    return Demonstrations.read(file, ["agentview"], chunk=8)


def test_a_sample_is_an_observation_and_the_actions_that_follow(file: Path, data: Demonstrations) -> None:
    """Sample t holds actions t .. t + 7 of its episode; behind the end they repeat and are masked."""
    with h5py.File(file) as raw:
        actions = raw["data/demo_1/actions"][:]
        image = raw["data/demo_1/obs/agentview_image"][3]
    assert data.episodes == 2 and len(data) == 14
    sample = 5 + 3
    assert np.array_equal(data.images[sample, 0], image)
    assert np.array_equal(data.actions[sample, :6], actions[3:])
    assert data.mask[sample].tolist() == [True] * 6 + [False] * 2
    assert np.array_equal(data.actions[sample, 7], actions[-1])


def test_goals_are_where_the_hand_turns_next_and_where_it_ends(file: Path) -> None:
    """It turns where the gripper begins to close or to open; where that stays closed or open all the time, where the
    hand first comes low."""
    with h5py.File(file, "a") as changed:
        for name, gripper in (("demo_0", [-1, -1, 1, 1, -1]), ("demo_1", [1] * 9), ("demo_2", [-1] * 12)):
            changed[f"data/{name}/actions"][:, -1] = gripper
        heights = [0.3, 0.2, 0.109, 0.104, 0.1, 0.1, 0.12, 0.2, 0.2, 0.15]
        changed["data/demo_1/obs/proprio"][:, 2] = heights
        changed["data/demo_2/obs/proprio"][:, 2] = [0.3, 0.2, 0.3, 0.3, 0.1, 0.092, 0.09, *[0.2] * 6]
        hands = [changed[f"data/demo_{i}/obs/proprio"][:, :3] for i in range(3)]
    goals = Demonstrations.read(file, ["agentview"], 8, kinds=("success", "failure")).goals
    for sample, hand, turns in (
        (0, hands[0], [2, 2, 2, 4, 4]),
        (5, hands[1], [2, 2, 2, 9, 9, 9, 9, 9, 9]),
        (14, hands[2], [5] * 6 + [12] * 6),
    ):
        told = goals[sample : sample + len(turns)]
        assert np.array_equal(told[:, :3], hand[turns])
        assert (told[:, 3:] == hand[-1]).all()


def test_the_first_lesson_looks_at_what_is_still_ahead() -> None:
    """Samples whose hand is 3 cm or more from its next turn; all of them, where there is none such."""
    goals = np.zeros((4, 6), np.float32)
    proprio = np.array([[0.1, 0, 0], [0.01, 0, 0], [0, 0.031, 0], [0, 0, 0.029]], np.float32)
    assert far(proprio, goals).tolist() == [0, 2]
    assert far(0.1 * proprio, goals).tolist() == [0, 1, 2, 3]


def test_the_simulators_word_is_read_only_when_asked_for(file: Path) -> None:
    assert Demonstrations.read(file, ["agentview"], 8, kinds=("success", "failure")).episodes == 3
    assert Demonstrations.read(file, ["agentview"], 8, kinds=("success", "failure"), succeeded=True).episodes == 2


def test_kinds_are_chosen_and_their_absence_is_named(file: Path) -> None:
    """Only the kinds asked for are read."""
    assert Demonstrations.read(file, ["agentview"], 8, kinds=("failure",)).episodes == 1
    with pytest.raises(InputError, match=r"no episode of the kinds \['idle'\]"):
        Demonstrations.read(file, ["agentview"], 8, kinds=("idle",))


def test_files_that_say_too_little_are_named(file: Path, tmp_path: Path) -> None:
    """A camera that is not there, an episode without proprioception, a file that is none: one error, with the name."""
    with pytest.raises(InputError, match="demo_0: no camera 'wrist'; there are: agentview"):
        Demonstrations.read(file, ["wrist"], 8)
    with h5py.File(file, "a") as changed:
        del changed["data/demo_1/obs/proprio"]
    with pytest.raises(InputError, match="demo_1 has no proprioception"):
        Demonstrations.read(file, ["agentview"], 8)
    with pytest.raises(InputError, match="no file of demonstrations"):
        Demonstrations.read([], ["agentview"], 8)
    with pytest.raises(InputError, match="no such HDF5 file"):
        Demonstrations.read(tmp_path / "none.h5", ["agentview"], 8)


def test_several_files_are_read_one_after_the_other(file: Path, data: Demonstrations) -> None:
    """Samples of the second file stand behind those of the first."""
    both = Demonstrations.read([file, file], ["agentview"], 8)
    assert both.episodes == 4 and len(both) == 28 == len(both.instructions)
    for name in ("images", "proprio", "actions", "mask", "goals"):
        one = getattr(data, name)
        np.testing.assert_array_equal(getattr(both, name), np.concatenate([one, one]))


@pytest.mark.parametrize("words", [("lift the red cube", "lift the green cube"), ("lift the red cube",) * 2])
def test_two_places_are_learnt_and_not_the_one_between(
    tmp_path: Path, data: Demonstrations, words: tuple[str, str]
) -> None:
    """The same picture with two cubes has two goals: one for each instruction, or where people disagree both for one.
    A single place would leave half a nat or more."""
    policy = fresh(tmp_path, data)
    goals = np.array([[0.1, 0, 0], [-0.1, 0, 0]] * 8, np.float32)
    heads = GoalHeads(policy, goals, words * 8)
    patches = torch.randn(1, policy.vision_backbone.num_patches, policy.language_model.config.hidden_size)
    optimizer = torch.optim.Adam(heads.parameters(), lr=1e-2)
    for _ in range(200):
        optimizer.zero_grad()
        loss = heads.patch_loss(patches.expand(4, -1, -1), np.array([0, 1, 2, 3]))
        loss.backward()
        optimizer.step()
    assert loss.item() < -1


def test_each_lesson_trains_its_own_side(tmp_path: Path, data: Demonstrations) -> None:
    """The first the vision side alone, the second the decoder alone, on pictures that are looked at once."""
    for lessons, kept, moved in (
        ((3, 0), "language_model", "vision_backbone"),
        ((0, 3), "vision_backbone", "language_model"),
    ):
        policy = fresh(tmp_path / kept, data)
        before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
        train(policy, data, TrainConfig(3, *lessons, batch_size=4, warmup=1, weight_decay=0.5))
        same = {name for name, tensor in policy.state_dict().items() if torch.equal(tensor, before[name])}
        assert all(name in same for name in before if name.startswith(kept))
        assert any(name not in same for name in before if name.startswith(moved))


def test_statistics_keep_rotations_and_the_gripper_from_being_stretched(data: Demonstrations) -> None:
    """Rotation bounds are the full range; the gripper is not masked in."""
    action = data.norm_stats()["action"]
    assert action["q01"][3:6] == [-1.0] * 3 and action["q99"][3:6] == [1.0] * 3
    assert action["mask"] == [True] * 6 + [False]


def fresh(folder: Path, data: Demonstrations) -> OpenVLAOFTPolicy:
    return make_policy(folder, SIZE, {"lift": data.norm_stats()}, proprio_dim=8)


@pytest.mark.parametrize(("bfloat16", "lessons"), [(False, (0, 0)), (True, (0, 0)), (False, (2, 2)), (True, (1, 5))])
def test_training_lowers_the_loss_and_resumes_to_the_same_weights(
    tmp_path: Path, data: Demonstrations, bfloat16: bool, lessons: tuple[int, int]
) -> None:
    """Stopped after 3 of 6 steps and continued by a new process's objects: weights equal bit for bit."""
    torch.set_num_threads(1)
    config = TrainConfig(6, *lessons, batch_size=8, warmup=1, save_every=3, bfloat16=bfloat16)
    whole, losses = fresh(tmp_path / "a", data), []
    train(whole, data, config, progress=lambda step, loss: losses.append(loss))
    assert losses[-1] < losses[lessons[0]]

    class Stop(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 4:
            raise Stop

    state = tmp_path / "state.pt"
    with pytest.raises(Stop):
        train(fresh(tmp_path / "b", data), data, config, state, stop)
    resumed = fresh(tmp_path / "c", data)
    train(resumed, data, config, state)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    with pytest.raises(ConfigError, match="belongs to a run with other settings"):
        train(resumed, data, replace(config, lr=1e-4), state)


def test_success_is_the_simulators(tmp_path: Path, data: Demonstrations) -> None:
    """A policy without training runs whole episodes in the real simulator, fails, and the same seeds repeat."""
    torch.set_num_threads(1)
    policy = fresh(tmp_path / "p", data)
    env = make_env(["Lift"], ["agentview"], 56, max_steps=10)
    first, second = (success_rate(policy, env, [1, 2], temperature=1.0) for _ in range(2))
    env.close()
    assert first == second == (0.0, [-1, -1])


def test_the_card_states_the_figures(tmp_path: Path, data: Demonstrations) -> None:
    """Every figure that the card promises is in it."""
    policy = fresh(tmp_path / "p", data)
    figures = {
        "episodes": 2,
        "samples": 14,
        "steps": 6,
        "loss": 5.1,
        "seed": 0,
        "python": "3",
        "torch": "2",
        "sloppier_samples": 9,
        "sloppier_steps": 3,
        "sloppier_m": 0.841,
        "forward_ms_batch_8": 1.5,
        "evaluation_episodes": 64,
        "evaluation_seed": 9,
        "success_sampled": 0.25,
        "success_greedy": 0.5,
        "temperature": 0.6,
        "max_steps": 32,
        "tasks": ["Lift"],
    }
    write_card(tmp_path / "p", policy, figures, "python studies/make_tiny_policy.py --steps 6")
    text = (tmp_path / "p" / "README.md").read_text()
    assert "25.0%" in text and "50.0%" in text and "make_tiny_policy.py --steps 6" in text
