"""The policy's forward pass as a rollout worker makes it, and an update as `hardware=h100_1` makes it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.flop_counter import FlopCounterMode

from verl.algorithms.core_algos import policy_loss
from verl.gpu_check.sizes import LORA_ALPHA, LORA_RANK, MICRO_BATCH, ROLLOUT_BATCH
from verl.gpu_check.timing import most_reserved_gb, timed
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.random_weights import PUBLISHED, SMALL, draw_weights, on_meta, shape_config
from verl.workers.sharded_policy import shard
from verl.workers.weight_receiver import finish

INSTRUCTION = "pick up the black bowl between the plate and the ramekin and place it on the plate"
MICRO_BATCHES = 2  # of the step that is timed
CLIP = 0.2, 0.28


def policy(device: torch.device, small: bool) -> dict[str, float]:
    """Both, one after the other; the card is empty in between."""
    return {**forward(device, small), **update(device, small)}


def without_weights(small: bool) -> OpenVLAOFTPolicy:
    """On the meta device."""
    size = SMALL if small else PUBLISHED
    with tempfile.TemporaryDirectory() as folder:
        return on_meta(shape_config(size, "libero_spatial"), size, Path(folder))


def rollout_policy(device: torch.device, small: bool) -> OpenVLAOFTPolicy:
    """As a rollout worker holds it: bfloat16 on a card."""
    made = without_weights(small)
    made.to(torch.bfloat16 if device.type == "cuda" else torch.float32).to_empty(device=device)
    draw_weights(made)
    return made.eval()


def forward(device: torch.device, small: bool) -> dict[str, float]:
    """A chunk for each of a rollout worker's environments: pictures in main memory to actions in main memory."""
    most_reserved_gb(device)
    figures = _passes(rollout_policy(device, small), 2 if small else ROLLOUT_BATCH, device, 0.1 if small else 10.0)
    return {**figures, "rollout_gb": most_reserved_gb(device)}


def _passes(made: OpenVLAOFTPolicy, count: int, device: torch.device, seconds: float) -> dict[str, float]:
    images, told = pictures(count), [INSTRUCTION] * count
    noise = np.random.default_rng(0).random((count, made.config.action_tokens), np.float32)

    def predict() -> object:
        return made.predict(images, told, temperature=1.0, uniforms=noise)

    took = timed(predict, device, seconds)
    with FlopCounterMode(display=False) as counted:
        predict()
    return {
        "weights_gb": sum(tensor.nbytes for tensor in made.state_dict().values()) / 1e9,
        "forward_batch": count,
        "forward_ms": 1e3 * took,
        "forward_pictures_ms": 1e3 * timed(lambda: made.prepare(images, told, None), device, seconds / 5),
        "forward_tflops": counted.get_total_flops() / took / 1e12,
        "chunks_per_s": count / took,
    }


def update(device: torch.device, small: bool) -> dict[str, float]:
    """LoRA by FSDP on one rank, checkpointed: a step of two micro-batches, the second time that it is made."""
    rank, batch = (4, 2) if small else (LORA_RANK, MICRO_BATCH)
    made = without_weights(small)
    made.add_lora(rank=rank, alpha=LORA_ALPHA)
    made.gradient_checkpointing_enable()
    with tempfile.TemporaryDirectory() as folder:
        where = f"file://{folder}/rendezvous"
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", init_method=where, rank=0, world_size=1)
        try:
            shard(made, "bfloat16" if device.type == "cuda" else "float32", device, world=1)
            draw_weights(made)
            return _steps(made.train(), batch, device)
        finally:
            dist.destroy_process_group()


def _steps(made: OpenVLAOFTPolicy, batch: int, device: torch.device) -> dict[str, float]:
    trained = [parameter for parameter in made.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, eps=1e-8)
    given: Any = (pictures(batch), [INSTRUCTION] * batch, None, _tokens(made, batch, device))
    old = torch.zeros(batch, made.config.action_tokens, device=device)
    passes, start = 0.0, 0.0
    for _ in range(2):  # the first makes the optimizer's state, and kernels ready
        finish(device)
        start = time.perf_counter()
        for _ in range(MICRO_BATCHES):
            log_probs = made.evaluate(*given).log_probs
            loss, _ = policy_loss(log_probs, old, torch.ones_like(old), torch.ones_like(old), *CLIP)
            torch.autograd.backward(loss)
        finish(device)
        passes = time.perf_counter() - start
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        finish(device)
    step = time.perf_counter() - start
    return {
        "update_micro_batch": batch,
        "update_micro_batch_s": passes / MICRO_BATCHES,
        "update_optimizer_s": step - passes,
        "update_chunks_per_s": MICRO_BATCHES * batch / step,
        "update_trained_millions": sum(parameter.numel() for parameter in trained) / 1e6,
        "update_gb": most_reserved_gb(device),
    }


def pictures(count: int) -> np.ndarray:
    """(count, 1, 256, 256, 3) uint8 noise, as large as LIBERO's."""
    return np.random.default_rng(0).integers(0, 256, (count, 1, 256, 256, 3), np.uint8)


def _tokens(made: OpenVLAOFTPolicy, count: int, device: torch.device) -> torch.Tensor:
    drawn = torch.randint(made.action_tokens.bins, (count, made.config.action_tokens), device=device)
    return drawn + made.action_tokens.first
