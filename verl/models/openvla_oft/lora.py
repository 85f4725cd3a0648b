"""LoRA through peft, and merging it away for exports. Rollouts apply adapters as learners do: what is small against
a weight would be rounded away in bfloat16 if it were added to it.

A state then has ``X.base_layer.weight``, ``X.lora_A.default.weight``, ``X.lora_B.default.weight``; the
published layout has ``X.weight`` = base + scaling * B @ A. The scaling (alpha / rank) travels as a buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

SCALING = "lora_scaling"
BASE = ".base_layer."
_KEPT_TRAINABLE = ("proprio_projector", "value_head")


def add_lora(policy: nn.Module, rank: int, alpha: int, dropout: float = 0.0) -> None:
    """Puts adapters on every linear layer that takes part, but ``lm_head``; freezes everything else.

    OpenVLA-OFT's ``all-linear``: vision blocks, projector and decoder. The small heads (proprio, value) stay trainable
    as they are.
    """
    targets = list(adapted_layers(policy))
    settings = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets, init_lora_weights="gaussian"
    )
    on_meta = any(parameter.is_meta for parameter in policy.parameters())
    inject_adapter_in_model(settings, policy, low_cpu_mem_usage=on_meta)
    for name, parameter in policy.named_parameters():
        if name.startswith(_KEPT_TRAINABLE):
            parameter.requires_grad_(True)
    policy.register_buffer(SCALING, torch.tensor(alpha / rank))


def adapted_layers(policy: nn.Module) -> dict[str, nn.Linear]:
    """The layers that get an adapter each, by name."""
    return {
        name: module
        for name, module in policy.named_modules()
        if type(module) is nn.Linear
        and module.weight.requires_grad
        and "lm_head" not in name
        and not name.startswith(_KEPT_TRAINABLE)
    }


def restore_scaling(policy: nn.Module) -> None:
    """Gives the buffer its value again, which ``to_empty`` has taken."""
    for module in policy.modules():
        if isinstance(module, LoraLayer):
            getattr(policy, SCALING).fill_(module.scaling["default"])
            return


def fresh(targets: Mapping[str, torch.Tensor]) -> dict[str, Callable[[], torch.Tensor]]:
    """For each adapter matrix in a state: what makes its first values, whole, in main memory.

    As peft's ``init_lora_weights="gaussian"``: lora_A from N(0, 1 / rank), lora_B zero.
    """
    made: dict[str, Callable[[], torch.Tensor]] = {}
    for name, target in targets.items():
        shape = tuple(target.shape)
        if ".lora_A." in name:
            made[name] = partial(torch.normal, 0.0, 1.0 / shape[0], shape)
        elif ".lora_B." in name:
            made[name] = partial(torch.zeros, shape)
    return made


def merged(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state with adapters, or without, to one with the published names only. The input is not changed."""
    if SCALING not in state:
        return state
    scaling = float(state[SCALING])
    result: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if ".lora_" in name or name == SCALING:
            continue
        if ".base_layer." not in name:
            result[name] = tensor
            continue
        owner, _, leaf = name.partition(".base_layer.")
        if leaf == "weight":
            down, up = (state[f"{owner}.lora_{x}.default.weight"] for x in ("A", "B"))
            tensor = tensor.float() + scaling * (up.float() @ down.float())  # in bfloat16 a small change would vanish
        result[f"{owner}.{leaf}"] = tensor
    return result
