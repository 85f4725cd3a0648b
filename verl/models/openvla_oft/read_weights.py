"""From a checkpoint's files into a policy, a tensor at a time; of a sharded policy this rank's rows alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from verl.models.openvla_oft import lora
from verl.models.openvla_oft.checkpoint import Tensors, check, own_rows
from verl.models.openvla_oft.value_head import ValueHead

logger = logging.getLogger(__name__)


@torch.no_grad()
def read_weights(policy: nn.Module, folder: Path) -> None:
    """Takes over the tensors in ``folder``.

    Where it has none, an adapter is new (drawn from torch's default generator, on all ranks alike), as is a value head.

    Raises:
        CheckpointError: which tensors are missing, unknown or of another shape, or which file cannot be read.
    """
    targets = dict(policy.state_dict(keep_vars=True))
    lora.restore_scaling(policy)
    fresh = lora.fresh(targets)
    published = {n.replace(lora.BASE, "."): t for n, t in targets.items() if n not in fresh and n != lora.SCALING}
    tensors = compare(published, folder)
    for name, target in published.items():
        local, rows = own_rows(target)
        if local.numel():
            local.copy_(tensors.read(name, rows))
    for name, whole in fresh.items():
        local, rows = own_rows(targets[name])
        local.copy_(whole()[rows])


def compare(wanted: Mapping[str, torch.Tensor], folder: Path) -> Tensors:
    """The tensors in ``folder``, of which none has been read: their names and shapes are those of ``wanted``.

    Raises:
        CheckpointError: see :func:`read_weights`.
    """
    tensors = Tensors(folder)
    _fit_heads(wanted, tensors, folder)
    found = {name: tensors.shape(name) for name in tensors.names()}
    check(folder, found, {name: tuple(tensor.shape) for name, tensor in wanted.items()})
    return tensors


def _fit_heads(wanted: Mapping[str, torch.Tensor], tensors: Tensors, folder: Path) -> None:
    """Leaves out the small heads that the policy does not have, and makes the value head that only the policy has."""
    heads = {name.partition(".")[0] for name in wanted}
    if "proprio_projector" not in heads and tensors.drop("proprio_projector."):
        logger.info("%s: its proprio projector is not used (use_proprio is false)", folder)
    if "value_head" not in heads:
        tensors.drop("value_head.")
    elif not any(name.startswith("value_head.") for name in tensors.names()):
        new = ValueHead(len(wanted["value_head.norm.weight"])).state_dict()
        tensors.give({f"value_head.{name}": tensor for name, tensor in new.items()})
