"""What the memory plan says of the card: of the policy's two kinds of process, and of the critic."""

from __future__ import annotations

import torch

from evo_vlac.model_shape import VLAC_2B
from verl.gpu_check.sizes import CRITIC_BATCHES, LORA_RANK, MICRO_BATCH, ROLLOUT_BATCH
from verl.trainer import memory_parts as parts
from verl.trainer.memory_shapes import PolicyShape, policy_shape

BFLOAT16 = 2
SEEN = 9 * CRITIC_BATCHES[-1]  # frames that the bench's largest batch leaves in them


def planned(device: torch.device, small: bool) -> dict[str, float]:
    """GB that torch holds, without CUDA's own; always of the published shapes."""
    policy = policy_shape(None)
    return {
        "rollout_gb": _rollout(policy) / 1e9,
        "update_gb": _learner(policy) / 1e9,
        "most_held_gb": _critic() / 1e9,
    }


def _rollout(policy: PolicyShape) -> float:
    return parts.rollout_weights(policy, 0, BFLOAT16) + parts.forward_pass(policy, ROLLOUT_BATCH, BFLOAT16)


def _learner(policy: PolicyShape) -> float:
    """Weights, gradients and the optimizer's two numbers of each that is trained, and an update's working memory."""
    moved = parts.FLOAT32 * parts.trained(policy, LORA_RANK)
    working = parts.gathered(policy, LORA_RANK, BFLOAT16) + parts.optimizer_step(policy, 1, LORA_RANK)
    kept = parts.activations(policy, MICRO_BATCH, BFLOAT16, True)
    return parts.learner_weights(policy, 1, LORA_RANK, BFLOAT16) + 3 * moved + working + kept


def _critic() -> float:
    features, prefixes = (mib * 2**20 for mib in parts.CACHES_MIB.values())  # the bench has the defaults
    caches = parts.critic_caches(VLAC_2B, BFLOAT16, SEEN, 1, (features, prefixes))
    batch = parts.critic_batch(VLAC_2B, CRITIC_BATCHES[-1], BFLOAT16, True)
    return parts.critic_weights(VLAC_2B, BFLOAT16) + caches + batch
