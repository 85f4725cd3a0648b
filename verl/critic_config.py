"""The section ``critic`` of the configuration: how the critic is asked, and what its answers mean.

Environment processes are given it as it is; they need no more of the configuration than this.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from shm_bridge import ConfigError as RulesError
from shm_bridge.rules import ASKED_EVERY, DoneRules, RewardRules
from verl.config_tree import in_range, one_of, over_zero
from verl.critic_noise import VerdictNoise
from verl.errors import ConfigError


@dataclass(frozen=True, slots=True)
class WeightsConfig:
    done: float
    value: float

    def __post_init__(self) -> None:
        in_range("critic.weights.done", self.done, 0)
        in_range("critic.weights.value", self.value, 0)


@dataclass(frozen=True, slots=True)
class SidecarConfig:
    """``per``: node, or gpu: a replica of the critic on each GPU of a node, all of the node's one sidecar."""

    start: bool
    python: str | None
    per: str
    config: dict[str, Any]
    max_restarts: int

    def __post_init__(self) -> None:
        in_range("critic.sidecar.max_restarts", self.max_restarts, 0)
        one_of("critic.sidecar.per", self.per, ("node", "gpu"))

    @property
    def loads_last(self) -> bool:
        """Whether it was told to, or its engine measures the free memory while it loads, as vLLM does unless its cache
        has a fixed size: learners and rollout workers load before, or their weights would be counted as its own."""
        options, memory = self.config.get("vllm"), self.config.get("memory")
        fixed = isinstance(options, dict) and options.get("kv_cache_gb") is not None
        told = isinstance(memory, dict) and memory.get("load") == "asked"
        return self.start and (told or (self.config.get("engine") == "vllm" and not fixed))


@dataclass(frozen=True, slots=True)
class CriticConfig:
    """One value a key; a wrong one raises ConfigError.

    Attributes:
        run_id: of the sidecar; None until it is bound to a run.
        thresholds: pairs of an episode's instruction and the threshold that counts in place of ``threshold``.
        instructions: pairs of an episode's instruction and the words that the critic is asked with in its place.
        noise: seeded by ``data.seed``.
        verdict_noise: ``noise``, or None where it changes nothing.
        done_rules, reward_rules: built from the keys here.
    """

    enable: bool
    run_id: str | None
    every: str
    threshold: float
    hold: int
    reward: str
    weights: WeightsConfig
    value_stride: int
    invalid: str
    invalid_warn_share: float
    invalid_stop_share: float | None
    verdict_timeout_s: float
    max_failures: int
    overlap: bool
    audit_val: bool
    audit_min_precision: float
    audit_stop: bool
    noise: VerdictNoise
    shuffle: bool
    thresholds: tuple[tuple[str, float], ...]
    instructions: tuple[tuple[str, str], ...]
    ready_timeout_s: float
    sidecar: SidecarConfig
    verdict_noise: VerdictNoise | None = field(init=False)
    done_rules: DoneRules = field(init=False)
    reward_rules: RewardRules = field(init=False)

    def __post_init__(self) -> None:
        try:
            done = DoneRules(self.threshold, self.hold, self.invalid)
            reward = RewardRules(self.reward, self.weights.done, self.weights.value, self.value_stride)
        except RulesError as error:
            raise ConfigError(f"critic.{error}") from None
        noisy = self.noise.missed_done or self.noise.false_done
        object.__setattr__(self, "verdict_noise", self.noise if noisy else None)
        object.__setattr__(self, "done_rules", done)
        object.__setattr__(self, "reward_rules", reward)
        one_of("critic.every", self.every, ASKED_EVERY)
        over_zero("critic.verdict_timeout_s", self.verdict_timeout_s)
        over_zero("critic.ready_timeout_s", self.ready_timeout_s)
        in_range("critic.invalid_warn_share", self.invalid_warn_share, 0, 1)
        in_range("critic.invalid_stop_share", self.invalid_stop_share, 0, 1)
        in_range("critic.audit_min_precision", self.audit_min_precision, 0, 1)
        in_range("critic.max_failures", self.max_failures, 1)
        for told, line in self.thresholds:
            in_range(f"critic.thresholds: {told!r}", line, 0, 1)
        if wrong := [pair for pair in self.instructions if not all(pair)]:
            raise ConfigError(
                f"critic.instructions: {list(wrong[0])}, but both, what is told and what is asked, need words"
            )

    def rules_of(self, instruction: str) -> DoneRules:
        """What makes a frame of such an episode done."""
        own = dict(self.thresholds).get(instruction)
        return self.done_rules if own is None else replace(self.done_rules, threshold=own)

    @property
    def asked(self) -> bool:
        """Whether anybody asks the critic: training, or an audit of evaluations."""
        return self.enable or self.audit_val
