"""The learner's copy of the policy, as torch FSDP2 shards it.

    without weights, on the meta device -> adapters -> sharded -> this rank's rows allocated -> read from the files

No process ever holds more than its shard and the tensor that it reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.registry import POLICIES

if TYPE_CHECKING:  # it needs the bridge, which a measurement on a bare machine has not
    from verl.config import FsdpConfig, ModelConfig


def backends(device: torch.device, fsdp: FsdpConfig) -> str:
    """Of torch.distributed. With ``param_offload`` parameters and gradients lie in main memory, and NCCL cannot reduce
    what lies there, the gradient's norm for one: gloo does."""
    if device.type != "cuda":
        return "gloo"
    return "cpu:gloo,cuda:nccl" if fsdp.param_offload else "nccl"


def sharded_policy(
    model: ModelConfig,
    fsdp: FsdpConfig,
    unnorm_key: str,
    value_head: bool,
    center_crop: bool,
    num_images_in_input: int | None,
    use_proprio: bool | None,
    device: torch.device,
    world: int,
) -> OpenVLAOFTPolicy:
    """``model.path`` with adapters where configured, this rank's shard of it on ``device``. Made on all ranks alike."""
    policy = POLICIES[model.vla].without_weights(
        model.path,
        unnorm_key=unnorm_key,
        value_head=value_head,
        center_crop=center_crop,
        num_images_in_input=num_images_in_input,
        use_proprio=use_proprio,
    )
    if model.lora_rank > 0:
        policy.add_lora(rank=model.lora_rank, alpha=model.lora_alpha)
    if model.enable_gradient_checkpointing:
        policy.gradient_checkpointing_enable()
    shard(policy, fsdp.dtype, device, world, fsdp.param_offload)
    policy.read_weights(model.path)
    return policy.eval()


def shard(policy: OpenVLAOFTPolicy, dtype: str, device: torch.device, world: int, param_offload: bool = False) -> None:
    """Shards a policy without weights over ``world`` ranks, and allocates this rank's rows; they have no values yet.

    Args:
        dtype: that is computed with. Adapters leave the rest frozen, which is kept in it.
    """
    if any(".lora_" in name for name, _ in policy.named_parameters()):
        for parameter in policy.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(getattr(torch, dtype))
    mesh = init_device_mesh(device.type, (world,))
    precision = MixedPrecisionPolicy()
    if dtype == "bfloat16":
        precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    offload = CPUOffloadPolicy() if param_offload and device.type == "cuda" else OffloadPolicy()
    for block in policy.shard_blocks():
        fully_shard(block, mesh=mesh, mp_policy=precision, offload_policy=offload)
    fully_shard(policy, mesh=mesh, mp_policy=precision, offload_policy=offload)
    register_fsdp_forward_method(policy, "evaluate")
    policy.to_empty(device="cpu" if isinstance(offload, CPUOffloadPolicy) else device)
