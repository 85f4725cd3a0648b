"""The batches that are measured, of `hardware=h100_1` (verl/trainer/config/hardware/), and the bench's largest."""

from __future__ import annotations

ROLLOUT_BATCH = 16
MICRO_BATCH = 8
LORA_RANK = LORA_ALPHA = 32
CRITIC_BATCHES = 16, 64
