"""Which device and which dtype a model runs in, by the names that people write."""

from __future__ import annotations

import logging

from evo_vlac import gpu_node
from evo_vlac.errors import EngineError, OptionError

log = logging.getLogger(__name__)
DTYPES = ("float32", "bfloat16", "float16")
_DEVICES = "auto, cpu, cuda, cuda:N, mps"


def resolve_device(name: str, *, auto_mps: bool = True) -> str:
    """The torch device that ``name`` stands for: "cpu", "mps" or "cuda:N".

    "auto" is CUDA, else MPS (with ``auto_mps``), else the CPU. Raises OptionError for a name that is none, EngineError
    for a device that is not there.
    """
    import torch

    mps = getattr(torch.backends, "mps", None)
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda:0"
        if auto_mps and mps is not None and mps.is_available():
            return "mps"
        if line := gpu_node.unseen():
            log.warning("device=auto takes the CPU: %s", line)
        return "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(f"device is {name!r}; allowed: {_DEVICES}") from error
    index = device.index or 0
    if device.type == "cuda" and (not torch.cuda.is_available() or index >= torch.cuda.device_count()):
        why = "" if torch.cuda.is_available() else f": {gpu_node.reason()}"
        raise EngineError(f"device is {name!r}, but torch sees {torch.cuda.device_count()} CUDA devices{why}")
    if device.type == "mps" and (mps is None or not mps.is_available()):
        raise EngineError("device is 'mps', but torch has no MPS here")
    if device.type not in ("cpu", "cuda", "mps"):
        raise OptionError(f"device is {name!r}; allowed: {_DEVICES}")
    return f"cuda:{index}" if device.type == "cuda" else name


def resolve_dtype(name: str, device: str) -> str:
    """The torch dtype's name; "auto" is bfloat16 on CUDA, else float32. Raises OptionError."""
    if name == "auto":
        return "bfloat16" if device.startswith("cuda") else "float32"
    if name not in DTYPES:
        raise OptionError(f"dtype is {name!r}; allowed: auto, {', '.join(DTYPES)}")
    return name
