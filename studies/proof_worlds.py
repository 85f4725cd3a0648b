"""Where the proof is played: four tasks of robosuite, one to look for the cube, and three of LIBERO's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evo_vlac.training.pairs import Shares
from studies.proof_critic import SHARES
from studies.proof_verdicts import HOLD
from verl.envs.factory import create_environment
from verl.envs.libero_env import LiberoEnv
from verl.envs.robosuite_env import RobosuiteEnv
from verl.trainer.load_config import load_config

ROOT = Path(__file__).resolve().parents[1]
FRESH_SEED = 180_000  # of the evaluation states of every row
CHUNK = 4  # actions that the policy takes at a time; with 8 it looked twice before it closed its hand
OTHER_TASK = {  # what the policy is told, and what the critic is asked in the arm "other_task"
    "lift the red cube": "push the red cube onto the blue mat",
    "lift the green cube": "lift the red cube",
    "put the red cube on the blue mat": "lift the green cube",
    "push the red cube onto the blue mat": "put the red cube on the blue mat",
    "push the plate to the front of the stove": "turn on the stove",
    "turn on the stove": "put the bowl on the plate",
    "put the bowl on the plate": "push the plate to the front of the stove",
}


@dataclass(frozen=True)
class World:
    """A configuration's environment, and how its demonstrations are collected.

    Attributes:
        keys: ``key=value`` of the configuration, as a training has them.
        sampler: more of them, for states that nobody has published; none where each seed is one anyway.
        collected: by a task's name, its arguments of ``verl.envs.collect`` but kinds and cameras.
        kinds: of each file of demonstrations, and their weights.
        mistakes: by its name the kind of a task's mixed file where that is not "mixed", see ``verl.envs.scripted``.
        recipe: ``key=value`` of every training, beside what ``keys`` bring.
        episodes: demonstrations of each task for the policy.
        steps: of imitation.
        begins: the policy whose weights imitation goes on from; None: random ones.
        critic_base: likewise of the critic that is made here.
        critic: the checkpoint that judges, with thresholds of its own; None: one is made.
        shares: of the kinds of pairs that a critic made here learns from.
        hold: dones in a row that end an episode.
    """

    keys: tuple[str, ...]
    sampler: tuple[str, ...]
    collected: Mapping[str, tuple[str, ...]]
    kinds: Mapping[str, str]
    mistakes: Mapping[str, str] = field(default_factory=dict)
    recipe: tuple[str, ...] = ()
    episodes: int = 300
    steps: int = 20_000
    begins: Path | None = None
    critic_base: Path | None = None
    critic: Path | None = None
    shares: Shares = SHARES
    hold: int = HOLD

    @property
    def section(self) -> dict[str, Any]:
        """The environment's section of the configuration."""
        return load_config(list(self.keys))[0].env

    def environment(self, more: Sequence[str] = ()) -> tuple[RobosuiteEnv | LiberoEnv, dict[str, Any]]:
        """The environment, with ``more`` keys, and its section of the configuration."""
        section = load_config([*self.keys, *more])[0].env
        env = create_environment(section)
        assert isinstance(env, RobosuiteEnv | LiberoEnv)
        return env, section

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.collected)


_COMMON = (
    f"actor_rollout_ref.model.action_chunks_len={CHUNK}",
    "data.task_sampling=learnability",
    "algorithm.norm_adv_by_task=true",
    "algorithm.adv_estimator=gae",  # actions after a mistake are not blamed for it (docs/learning_rounds.md)
    "algorithm.loss_agg_mode=seq-mean-token-mean",
    "actor_rollout_ref.actor.ppo_mini_batch_size=16",
)


def _kinds(play: str, near: str) -> dict[str, str]:
    return {
        "mixed": "mixed",
        "expert": "success",
        "expert_new": "success",
        "play": play,
        "near": near,
        "near_new": near,
    }


TOLD = Shares(  # with descriptions, for the words (studies/proof_words.py)
    done=0.5, done_wrong_task=0.15, critic=0.12, reversed=0.04, stagnant=0.03, failed=0.04, describe=0.12
)
WORDS = Shares(  # ... where two tasks of four differ in them alone
    done=0.34, done_wrong_task=0.26, critic=0.06, reversed=0.03, stagnant=0.02, failed=0.04, describe=0.25
)
_ROBOSUITE = ("--cube-within", "0.1", "--zoom", "2.0")
_LIBERO = ("--env", "libero", "--suite", "libero_goal", "--image-size", "112", "--max-steps", "120", "--split-step")
WORLDS = {
    "robosuite": World(
        keys=("env=robosuite_tasks",),
        sampler=(),
        collected={
            task: ("--task", task, "--max-steps", str(steps), *_ROBOSUITE)
            for task, steps in (("Lift", 48), ("LiftRed", 48), ("LiftGreen", 48), ("Slide", 56))
        },
        kinds=_kinds("random:0.3,failure:0.25,near_miss:0.4,idle:0.05", "near_miss"),
        mistakes={"Lift": "otherwise", "LiftRed": "empty", "Slide": "otherwise"},
        steps=16_000,
        begins=ROOT / "models" / "openvla-oft-tiny-lift",
        shares=WORDS,
        hold=5,  # as env.success_steps
    ),
    "lift": World(
        keys=("env=robosuite_lift",),
        sampler=(),
        collected={"Lift": ("--task", "Lift", "--max-steps", "48", *_ROBOSUITE)},
        kinds={"mixed": "mixed"},
        mistakes={"Lift": "otherwise"},
        episodes=600,
        steps=8_000,
        critic=ROOT / "models" / "vlac-tiny-tasks",
        hold=5,  # as env.success_steps
    ),
    "libero": World(
        keys=(
            "env=libero",
            "data.task_suite_name=libero_goal",
            "env.tasks=[5, 7, 8]",
            "env.cameras=[agentview, wrist]",  # VLAC sees the first
            "env.max_steps=120",
            "env.image_size=112",
            "env.effects=false",
            "env.samples=0",
            "env.split_step=true",
            "env.keep=3",
        ),
        sampler=("env.fresh_states=true",),
        collected={
            name: ("--task", number, *_LIBERO)
            for name, number in (("push_the_plate", "5"), ("turn_on_the_stove", "7"), ("bowl_on_the_plate", "8"))
        },
        kinds=_kinds("random:0.3,failure:0.65,idle:0.05", "near_miss"),
        episodes=200,
        steps=9_000,
        begins=ROOT / "models" / "openvla-oft-tiny-lift",
        critic_base=ROOT / "models" / "vlac-tiny-words",
        shares=TOLD,
        hold=5,
        recipe=(
            *_COMMON,
            "data.train_batch_size=3",
            "actor_rollout_ref.rollout.envs_per_worker=2",  # three simulators each
            "trainer.total_episodes=600",
            "trainer.test_freq=5",
            "data.val_batch_size=30",
        ),
    ),
}
