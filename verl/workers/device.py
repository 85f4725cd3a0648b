"""Which device an actor computes on: that of the GPU which Ray gave it, else the CPU.

Ray hides no GPU from an actor that asked for none, since the sidecar's host asks for none and must see its card. So
what an actor sees is not what it was given; it goes by what was asked for it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from evo_vlac.gpu_node import reason
from verl.errors import DeviceError

CPU = torch.device("cpu")


def given_device(gpus: float, wanted: str | None = None) -> torch.device:
    """The device of an actor.

    Args:
        gpus: that Ray was asked for.
        wanted: ``cpu``, ``cuda`` or ``cuda:N`` where the configuration names one.

    Raises:
        DeviceError: it is a GPU, and torch does not see it.
    """
    if wanted is None and not gpus:
        return CPU
    device = torch.device(wanted or "cuda")
    if device.type != "cuda":
        return device
    asked = f"actor_rollout_ref.rollout.device={wanted}" if wanted is not None else f"Ray gave this actor {gpus:g} GPU"
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not seen:
        raise DeviceError(f"{asked}, and torch sees none: {reason()}. trainer.n_gpus_per_node=0 computes on the CPU")
    index = device.index or 0
    if index >= seen:
        raise DeviceError(f"{asked}: torch sees {seen} GPU(s) here, cuda:0 to cuda:{seen - 1}")
    return torch.device("cuda", index)


def card_number(device: torch.device, environment: Mapping[str, str] = os.environ) -> int | None:
    """CUDA's number, on the node, of a device of this process; None of the CPU, and where CUDA_VISIBLE_DEVICES names
    cards in another way."""
    if device.type != "cuda":
        return None
    index, visible = device.index or 0, environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return index
    names = visible.split(",")
    name = names[index].strip() if index < len(names) else ""
    return int(name) if name.isdigit() else None
