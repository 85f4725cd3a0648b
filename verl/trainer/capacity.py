"""Whether the critic keeps up with a node's environments: wanted and expected verdicts a second. Pure functions.

    wanted    environments / seconds a step / steps between questions   + pairs of value lists, in dones of equal cost
    expected  replicas x dones a second of one
    waiting   1 - expected / wanted, where that is over 0: a closed loop slows down to what is answered

An episode plays on while its verdicts come, so that nobody waits while expected is over wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

from verl.config import Config
from verl.envs.factory import describe

DONE_FLOP = 1.75e12  # of VLAC-2B, one frame of 448 px
CARD_FLOPS = 385e12  # that the critic gets of a card: 220 dones a second of an H200 (docs/hardware.md)
PAIR_COST = 2.1  # dones of fresh frames: a pair with 6 references, frames seen, there
STEP_S = {"libero": 0.21}  # of an environment, with its part of drawing and of the policy's passes; reckoned


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of a node, in dones a second; ``wanted`` is what its environments would ask if nobody ever waited."""

    wanted: float
    expected: float

    @property
    def waiting(self) -> float:
        """Share of a rollout's time in which its environments wait for the critic, 0 to 1."""
        return max(0.0, 1.0 - self.expected / self.wanted) if self.wanted > 0 else 0.0

    def line(self) -> str:
        """For the preflight: what is wanted, expected, and what follows."""
        follows = f"{self.waiting:.0%} of a rollout will be waiting" if self.waiting else "nobody waits"
        return f"critic: {self.wanted:.0f} verdicts/s wanted, {self.expected:.0f} expected on a node: {follows}"


def capacity(
    environments: int,
    step_s: float,
    asked_every: int,
    replicas: int,
    dones_per_s: float,
    episode_steps: int = 0,
    value_stride: int = 0,
) -> Capacity:
    """Of ``environments`` that take ``step_s`` a step and ask a done every ``asked_every`` steps.

    Args:
        replicas: critics of the node.
        dones_per_s: of one of them.
        episode_steps, value_stride: each episode of so many steps is followed by a value list (none is done: the most
            that can come); 0: no value lists.
    """
    steps_per_s = environments / step_s
    pairs = 0.0
    if episode_steps and value_stride:
        pairs = steps_per_s / episode_steps * -(-episode_steps // value_stride)
    return Capacity(steps_per_s / asked_every + PAIR_COST * pairs, replicas * dones_per_s)


def of_config(
    config: Config, dones_per_s: float = CARD_FLOPS / DONE_FLOP, step_s: float | None = None
) -> Capacity | None:
    """Of a node of the run; None where the critic is not asked, the nodes have no GPU, or nobody knows a step's time.

    Args:
        dones_per_s: of a critic: as measured, or as reckoned for VLAC-2B with a card to itself.
        step_s: as measured; None: what is known of ``env.name``.
    """
    critic, gpus = config.critic, config.trainer.n_gpus_per_node
    step_s = STEP_S.get(str(config.env.get("name"))) if step_s is None else step_s
    if not critic.asked or not gpus or step_s is None:
        return None
    chunk = config.model.action_chunks_len if critic.every == "chunk" else 1
    return capacity(
        config.rollout.workers * config.rollout.envs_per_worker,
        step_s,
        chunk,
        gpus if critic.sidecar.per == "gpu" else 1,
        dones_per_s,
        describe(config.env)[1],
        critic.value_stride,
    )
