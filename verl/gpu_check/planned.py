"""The memory plan's figures beside the card's: of the policy's two kinds of process, and of the critic."""

from __future__ import annotations

from collections.abc import Mapping

from verl.gpu_check.policy import LORA_RANK, MICRO_BATCH, ROLLOUT_BATCH
from verl.trainer import memory_parts as parts
from verl.trainer.memory_shapes import VLAC_2B, PolicyShape, policy_shape

BFLOAT16 = 2
CRITIC_BATCH = 64
CACHES = 512 * 2**20, 1024 * 2**20  # the bench's: those of sidecar.config.MemoryConfig
SEEN = 9 * CRITIC_BATCH  # frames and prefixes that the bench's largest batch leaves in them, at most


def against_plan(figures: Mapping[str, Mapping[str, float]], shape: str) -> dict[str, dict[str, float]]:
    """where -> ``planned_gb``, ``measured_gb`` (held by torch, without CUDA's own); nothing for other shapes, whose
    memory is the processes' own, or on a CPU."""
    if shape != "published":
        return {}
    policy, found = policy_shape(None), {}
    for part, figure, where, planned in (
        ("policy", "rollout_gb", "rollout worker", _rollout(policy)),
        ("policy", "update_gb", "learner, LoRA", _learner(policy)),
        ("critic", "most_held_gb", "critic", _critic()),
    ):
        if measured := figures.get(part, {}).get(figure):
            found[where] = {"planned_gb": planned / 1e9, "measured_gb": measured}
    return found


def _rollout(policy: PolicyShape) -> float:
    return parts.rollout_weights(policy, 0, BFLOAT16) + parts.forward_pass(policy, ROLLOUT_BATCH, BFLOAT16)


def _learner(policy: PolicyShape) -> float:
    """Weights, gradients and the optimizer's two numbers of each that is trained, and an update's working memory."""
    moved = parts.FLOAT32 * parts.trained(policy, LORA_RANK)
    working = parts.gathered(policy, LORA_RANK, BFLOAT16) + parts.optimizer_step(policy, 1, LORA_RANK)
    kept = parts.activations(policy, MICRO_BATCH, BFLOAT16, True)
    return parts.learner_weights(policy, 1, LORA_RANK, BFLOAT16) + 3 * moved + working + kept


def _critic() -> float:
    caches = parts.critic_caches(VLAC_2B, BFLOAT16, SEEN, 1, CACHES)
    batch = parts.critic_batch(VLAC_2B, CRITIC_BATCH, BFLOAT16, True)
    return parts.critic_weights(VLAC_2B, BFLOAT16) + caches + batch
