"""From a checkpoint's files into a policy, a tensor at a time; of a sharded policy this rank's rows alone."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from verl.models.openvla_oft import lora
from verl.models.openvla_oft.checkpoint import Tensors, check, own_rows
from verl.models.openvla_oft.value_head import ValueHead

if TYPE_CHECKING:
    from verl.models.openvla_oft.policy import OpenVLAOFTPolicy

logger = logging.getLogger(__name__)


@torch.no_grad()
def read_weights(policy: OpenVLAOFTPolicy, folder: Path) -> None:
    """Takes over the tensors in ``folder``.

    Where it has none, an adapter is new (drawn from torch's default generator, on all ranks alike), as is a value head.

    Raises:
        CheckpointError: which tensors are missing, unknown or of another shape, or which file cannot be read.
    """
    tensors = Tensors(folder)
    targets = dict(policy.state_dict(keep_vars=True))
    lora.restore_scaling(policy)
    fresh = lora.fresh(targets)
    published = {n.replace(lora.BASE, "."): t for n, t in targets.items() if n not in fresh and n != lora.SCALING}
    _fit_heads(policy, tensors, folder)
    found = {name: tensors.shape(name) for name in tensors.names()}
    check(folder, found, {name: tuple(t.shape) for name, t in published.items()})
    for name, target in published.items():
        local, rows = own_rows(target)
        if local.numel():
            local.copy_(tensors.read(name, rows))
    for name, whole in fresh.items():
        local, rows = own_rows(targets[name])
        local.copy_(whole()[rows])
    # Buffers that no checkpoint holds have no values yet: make them again, or the rotation would be garbage.
    language_model = policy.language_model
    language_model.model.rotary_emb = LlamaRotaryEmbedding(language_model.config).to(policy.device)


def _fit_heads(policy: OpenVLAOFTPolicy, tensors: Tensors, folder: Path) -> None:
    """Leaves out the small heads that the policy does not have, and makes the value head that only the policy has."""
    if policy.proprio_projector is None and tensors.drop("proprio_projector."):
        logger.info("%s: its proprio projector is not used (use_proprio is false)", folder)
    if policy.value_head is None:
        tensors.drop("value_head.")
    elif not any(name.startswith("value_head.") for name in tensors.names()):
        new = ValueHead(policy.config.llama().hidden_size).state_dict()
        tensors.give({f"value_head.{name}": tensor for name, tensor in new.items()})
