"""``python -m verl.gpu_check.measure PART DEVICE SHAPE``: one part, whose figures are printed as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import torch

from verl.gpu_check.timing import timed


def machine(device: torch.device, small: bool) -> dict[str, Any]:
    """What is measured on; ``device`` is None where it is not there."""
    import transformers

    about = {"device": "CPU", "torch": torch.__version__, "transformers": transformers.__version__}
    if device.type == "cpu":
        return about
    if not torch.cuda.is_available():
        return {**about, "device": None}
    card = torch.cuda.get_device_properties(device)
    return {**about, "device": card.name, "device_gb": card.total_memory / 1e9, "cuda": torch.version.cuda}


def peak(device: torch.device, small: bool) -> dict[str, float]:
    """Dense bfloat16 matrix products on random data."""
    size = 512 if small else 8192
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    seconds = timed(lambda: a @ a, device, 0.1 if small else 3.0)
    return {"bf16_tflops": 2 * size**3 / seconds / 1e12}


def main(name: str, place: str, shape: str) -> None:
    """``name``: of :data:`verl.gpu_check.parts.PARTS`, or machine."""
    device, small = torch.device(place, 0) if place == "cuda" else torch.device(place), shape == "tiny"
    sys.stdout.write(json.dumps(_part(name)(device, small)) + "\n")


def _part(name: str) -> Callable[[torch.device, bool], dict[str, Any]]:
    """What a part imports is imported for it alone."""
    if name in ("machine", "peak"):
        return machine if name == "machine" else peak
    if name == "policy":
        from verl.gpu_check.policy import policy

        return policy
    if name == "weights":
        from verl.gpu_check.weights import weights

        return weights
    if name == "plan":
        from verl.gpu_check.planned import planned

        return planned
    from verl.gpu_check.libero import libero

    return libero


if __name__ == "__main__":
    main(*sys.argv[1:])
