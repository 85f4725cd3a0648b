"""The proof's study: its search finds what it should with few episodes, and its report has the agreed form."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evo_vlac.datasets import Trajectory
from evo_vlac.evaluation.evaluator import Judged
from studies.constant_shift import Shift, every_shift, halve
from studies.proof import _success, main
from studies.proof_films import FILES, collect
from studies.proof_imitation import good_episodes, shortened
from studies.proof_kept import KEPT, MODELS, ROOT, copy, take
from studies.proof_report import difference, episodes_to, results
from studies.proof_verdicts import HOLD, ended, held_at
from studies.proof_worlds import OTHER_TASK, WORLDS
from verl.envs import scripted_libero
from verl.envs.collect import Demo, _parser, configure, parse_kinds, task_name
from verl.envs.factory import create_environment
from verl.envs.libero_env import LiberoConfig, LiberoEnv
from verl.envs.libero_setup import instruction_of
from verl.envs.robosuite_env import TASKS, RobosuiteEnv
from verl.envs.scripted import KINDS
from verl.trainer.load_config import load_config


def test_the_search_ends_on_all_episodes_with_the_best() -> None:
    """The last rate is of as many episodes as the figure has, and far fewer are played than by rating all so."""
    every = every_shift()
    played: list[int] = []

    def rate(one: object, episodes: int) -> float:
        played.append(episodes)
        return 0.9 if one == Shift(2, False, -0.4) else 0.2

    assert halve(every, rate, 200) == Shift(2, False, -0.4)
    assert played[-1] == 200 and sum(played) < 200 * len(every) / 3


def test_a_search_of_fewer_episodes_than_the_first_round() -> None:
    every = [Shift(0, False, amount) for amount in (0.1, 0.2, 0.3)]
    assert halve(every, lambda one, episodes: one.amount * episodes, 2) == every[2]


def test_episodes_to_the_goal_are_the_first_that_reach_it() -> None:
    assert episodes_to([(0, 0.3), (64, 0.8), (128, 0.7)]) == 64
    assert episodes_to([(0, 0.3), (64, 0.79)]) is None


def test_the_report_tells_each_task_and_method_by_seed(tmp_path: Path) -> None:
    shift = {"success": 0.5, "dimension": 2, "closed": False, "amount": -0.4}
    (tmp_path / "shift-Lift.json").write_text(json.dumps(shift))
    for seed, last in ((0, 0.9), (1, 0.6)):
        run = tmp_path / "runs" / f"vlac-{seed}"
        run.mkdir(parents=True)
        (run / "summary.json").write_text("{}")
        rows = [
            {"train/episodes": n, "val/success": s, "val/success/0": s, "val/success/1": 0.1}
            for n, s in ((0, 0.3), (200, last))
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rated-start.json").write_text(json.dumps({"Lift": 0.35}))
    (tmp_path / "runs" / "vlac-1" / "rated.json").write_text(json.dumps({"Lift": 0.65}))
    (tmp_path / "sampler-start.json").write_text(json.dumps({"LiftRed": 0.05}))
    (tmp_path / "runs" / "vlac-1" / "sampler.json").write_text(json.dumps({"LiftRed": 0.45}))
    (tmp_path / "lasting-vlac-1.json").write_text(json.dumps({"Lift": {"ever": 3, "end": 1}}))
    found = results(tmp_path, ["Lift", "LiftRed"], ("vlac", "simulator"))
    assert found["tasks"]["Lift"]["vlac"] == {"success": [0.9, 0.65], "episodes_to_80": [200, None]}, (
        "rated counts more"
    )
    assert found["tasks"]["Lift"]["start"] == {"success": [0.35], "episodes_to_80": [None]}
    shifted = found["tasks"]["Lift"]["constant_shift"]
    assert shifted == {**shift, "success": [0.5], "episodes_to_80": [None]}
    red = {"success": [0.1, 0.1], "episodes_to_80": [None, None], "sampler": [None, 0.45]}
    assert found["tasks"]["LiftRed"] == {"vlac": red, "start": {"sampler": [0.05]}}
    assert found["lasting"] == {"vlac-1": {"Lift": {"ever": 3, "end": 1}}}
    assert {"commit", "versions", "date"} <= found.keys()


def test_a_study_goes_on_from_what_is_kept_of_another_machines(tmp_path: Path) -> None:
    """Its figures are told again from the small files alone, without metrics or policies."""
    first, later = tmp_path / "first", tmp_path / "later"
    run = first / "runs" / "vlac-0"
    run.mkdir(parents=True)
    (run / "summary.json").write_text("{}")
    (run / "rated.json").write_text(json.dumps({"Lift": 0.7}))
    (run / "metrics.jsonl").write_text(json.dumps({"train/episodes": 64, "val/success/0": 0.9}) + "\n")
    played = [(True, True, True), (True, True, False), (True, False, True), (True, False, False), (False, True, True)]
    rows = ({"task": 0, "training": t, "complete": said, "env_success": so} for t, said, so in played)
    (run / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (first / "thresholds.json").write_text("{}")
    told = results(first, ["Lift"], ("vlac",))["tasks"]
    copy(first, tmp_path / "kept")
    copy(tmp_path / "kept", later)
    left = {file.name for file in (later / "runs" / "vlac-0").iterdir()}
    assert left == {"summary.json", "rated.json", "curve.json", "dones.json"} and (later / "thresholds.json").exists()
    assert results(later, ["Lift"], ("vlac",))["tasks"] == told
    right = {"right": 1, "false": 1, "missed": 1}
    assert told["Lift"]["vlac"] == {"success": [0.7], "episodes_to_80": [64], "dones": [right]}


def test_nothing_that_is_published_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start, critic, thresholds and ratings are those of the repository; a folder with a start is left alone."""

    def never(*_: object) -> None:
        raise AssertionError("it was made again")

    for name in ("build_tiny_vlac", "learn_to_look", "finetune"):
        monkeypatch.setattr(f"studies.proof_critic.{name}", never)
    monkeypatch.setattr("studies.proof.train", never)
    monkeypatch.setattr("studies.proof_training.subprocess", SimpleNamespace(run=never))
    figures = tmp_path / "proof.json"
    stages = ["start", "critic", "calibrate", "audit", "train", "rate", "report"]
    said = ["--published", "--work", str(tmp_path / "work"), "--json", str(figures), "--only", *stages]
    seeds = len(list((KEPT["robosuite"] / "runs").glob("vlac-*")))
    assert main([*said, "--seeds", str(seeds), "--arms", "vlac", "simulator"]) == 0
    there = json.loads((ROOT / "docs" / "results" / "proof.json").read_text())
    assert json.loads(figures.read_text())["tasks"] == there["tasks"]
    (tmp_path / "work" / "thresholds.json").write_text("{}")
    take(tmp_path / "work")
    assert (tmp_path / "work" / "thresholds.json").read_text() == "{}"
    assert KEPT.keys() == MODELS.keys() == WORLDS.keys()


@pytest.mark.parametrize(("fresh", "count"), [(False, 10), (True, 30)])
def test_a_held_out_state_of_libero_is_rated_once(fresh: bool, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its ten were played three times over where thirty of the sampler's were asked for."""
    env = object.__new__(LiberoEnv)
    env.config = LiberoConfig("libero_goal", (5,), fresh_states=fresh)
    seen: list[range] = []
    monkeypatch.setattr("studies.proof.success_rate", lambda _, __, seeds, *___: (seen.append(seeds), (1.0, []))[1])
    assert _success(None, env, 0, Namespace(rated=30)) == 1.0
    assert [len(seeds) for seeds in seen] == [count]


def test_the_link_to_the_latest_training_is_not_kept(tmp_path: Path) -> None:
    run = tmp_path / "work" / "runs" / "vlac-0"
    run.mkdir(parents=True)
    (run / "summary.json").write_text("{}")
    (run.parent / "latest").symlink_to(run.name)
    copy(tmp_path / "work", tmp_path / "kept")
    assert [one.name for one in (tmp_path / "kept" / "runs").iterdir()] == ["vlac-0"]


def test_an_episode_ends_at_so_many_dones_in_a_row_rightly_or_not() -> None:
    """One done is not enough; that it is right is asked where it ends, as training would."""
    sure, unsure = 0.95, 0.85
    held, once = (unsure, *[sure] * HOLD), (sure, unsure, sure)

    def told(probabilities: tuple[float, ...], truth: tuple[bool, ...]) -> dict[str, int]:
        return ended([Judged("t", probabilities, truth)], 0.9, HOLD)

    assert told(held, (False,) * HOLD + (True,)) == _counts(ended_rightly=1)
    assert told(held, (True,) + (False,) * HOLD) == _counts(ended_wrongly=1)
    assert told(once, (True,) * 3) == _counts(missed=1)
    assert told(once, (False,) * 3) == _counts(not_done=1)


def _counts(**some: int) -> dict[str, int]:
    return {"ended_rightly": 0, "ended_wrongly": 0, "missed": 0, "not_done": 0} | some


def test_a_good_episode_ends_with_its_last_done_and_has_no_word_of_the_simulators() -> None:
    frames = np.zeros((6, 4, 4, 3), np.uint8)
    played = Trajectory(
        "seed 1", "lift", frames, dones=(False,) * 5 + (True,), success=True, kind="policy",
        actions=np.arange(35, dtype=np.float32).reshape(5, 7), proprio=np.zeros((6, 8), np.float32),
    )  # fmt: skip
    last = held_at((False, True, False, True, True, True), 2)
    assert last == 4 and held_at((True, False, True), 2) is None
    kept = shortened(played, last)
    assert len(kept) == 5 and kept.actions is not None and kept.actions.shape == (4, 7)
    assert kept.dones is None and kept.success is None and kept.kind == "policy"


def test_a_good_episodes_other_cameras_end_with_it() -> None:
    """The policy imitates all pictures that it sees; VLAC is shown the first camera's."""
    frames, hand = np.zeros((6, 4, 4, 3), np.uint8), np.arange(6, dtype=np.uint8).repeat(48).reshape(6, 4, 4, 3)
    said = [SimpleNamespace(done=i >= 2) for i in range(6)]
    critic: Any = SimpleNamespace(done=lambda shown, task, threshold: said if not np.any(shown) else [])
    played = Demo(Trajectory("seed 1", "lift", frames, kind="policy"), {"robot0_eye_in_hand": hand})
    (kept,) = good_episodes([played], critic, {"lift": 0.5}, 2)
    assert len(kept.trajectory) == 4 and kept.other_cameras["robot0_eye_in_hand"].tolist() == hand[:4].tolist()


def test_the_difference_is_paired_by_task_and_seed_and_its_interval_is_over_seeds() -> None:
    """What never reached the goal is no number: it is left out of the mean, and counted."""
    tasks = {
        "Lift": {"vlac": {"success": [0.9, 0.8], "episodes_to_80": [100, None]},
                 "simulator": {"success": [0.8, 0.8], "episodes_to_80": [150, 100]}},
        "Push": {"vlac": {"success": [0.5, 0.6], "episodes_to_80": [200, None]},
                 "simulator": {"success": [0.6, 0.5], "episodes_to_80": [300, None]}},
        "Stack": {"vlac": {"success": [0.1, 0.1], "episodes_to_80": [None, None]}},
    }  # fmt: skip
    told = difference(tasks, "success")
    assert told["mean"] == pytest.approx(0.025) and (told["seeds"], told["pairs"], told["open"]) == (2, 4, 0)
    assert told["low"] == pytest.approx(0.0) and told["high"] == pytest.approx(0.05)
    spread = 12.706 * 0.025  # Student's t with one degree of freedom, times the error of the mean of 0 and 0.05
    assert (told["t_low"], told["t_high"]) == pytest.approx((0.025 - spread, 0.025 + spread), abs=1e-3)
    speed = difference(tasks, "episodes_to_80")
    assert (
        speed["mean"] == -75 and speed["low"] is None and (speed["seeds"], speed["pairs"], speed["open"]) == (1, 2, 2)
    )


def test_films_for_the_policy_have_its_cameras_and_its_mistakes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Those for the critic have one camera: another one would be drawn for nobody."""
    told = list[list[str]]()
    monkeypatch.setattr("studies.proof_films.subprocess", SimpleNamespace(run=lambda said, **_: told.append(said)))
    collect(WORLDS["robosuite"], tmp_path, 15, 1)
    films = [_parser().parse_args(said[3:]) for said in told]
    both, kinds = "agentview,robot0_eye_in_hand", {"Lift": "otherwise", "LiftRed": "empty", "LiftGreen": "mixed"}
    mixed = {film.task: film for film in films if film.out.match("*-mixed.h5")}
    assert {task: mixed[task].kinds for task in kinds} == kinds and {film.cameras for film in mixed.values()} == {both}
    assert len(films) == 4 * len(FILES) and sum(film.cameras == both for film in films) == 4


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_plays_the_tasks_that_its_demonstrations_show(name: str) -> None:
    """In the same order, with the same limits and pictures; each instruction has another one for the arm that asks
    about it, and the recipe's keys exist."""
    world = WORLDS[name]
    section = load_config([*world.keys, *world.sampler, *world.recipe])[0].env
    env = create_environment(section)
    assert isinstance(env, RobosuiteEnv | LiberoEnv)
    for number, arguments in enumerate(world.collected.values()):
        config = configure(_parser().parse_args([*arguments, "--out", "x.h5"]))
        assert set(world.kinds) == ({"mixed"} if world.critic else set(FILES)), "a critic that lies here needs no films"
        for kinds in world.kinds.values():
            parse_kinds(kinds, scripted_libero.KINDS if name == "libero" else KINDS)
        assert task_name(config) == task_name(env.config, number)
        assert config.image_size == env.config.image_size == section["image_size"]
        limit = env.config.steps_of(number) if isinstance(env, RobosuiteEnv) else env.max_steps
        assert config.step_limit() == limit
        words = instruction_of(task_name(config)) if name == "libero" else TASKS[task_name(config)].instruction
        assert OTHER_TASK[words] not in (words, None)
    env.close()
