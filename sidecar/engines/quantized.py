"""The critic's linear layers in 8 bits, by torchao (optional): half the weights' memory, and on an H100 more products.

    fp8    weights and activations in float8 (e4m3), a scale a row; from compute capability 8.9 on
    int8   weights in int8, a scale a channel, activations as they are

The vocabulary's layer stays as it is: verdicts are read from its logits. Which verdicts change with a checkpoint,
``python -m sidecar.bench.verdicts`` tells.
"""

from __future__ import annotations

from typing import Any

import torch

from sidecar.errors import EngineUnavailableError

_FP8_CAPABILITY = (8, 9)
_LEAST = 256  # features in and out; smaller layers gain nothing


def quantize(model: Any, kind: str | None) -> None:
    """Changes the linear layers of ``model``, which lies on its device; None: nothing.

    Raises EngineUnavailableError for a device or a torchao that cannot; that there is one the registry has looked.
    """
    if kind is None:
        return
    key = f"direct.quantize={kind}"
    device = next(model.parameters()).device
    if device.type != "cuda":
        raise EngineUnavailableError(
            f"{key}: for a GPU; the model is on {device} (dtype=bfloat16 is the fast one there)"
        )
    if kind == "fp8" and torch.cuda.get_device_capability(device) < _FP8_CAPABILITY:
        raise EngineUnavailableError(f"{key}: {torch.cuda.get_device_name(device)} has no float8; int8 is there")
    apply(model, kind)


def apply(model: Any, kind: str) -> None:
    """As :func:`quantize`, wherever the model lies."""
    try:
        from torchao import quantization as ao

        config = (
            ao.Float8DynamicActivationFloat8WeightConfig(granularity=ao.PerRow())
            if kind == "fp8"
            else ao.Int8WeightOnlyConfig()
        )
    except (ImportError, AttributeError) as error:  # another version's names
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise EngineUnavailableError(f"direct.quantize={kind}: this torchao cannot: {reason}") from error
    ao.quantize_(model, config, filter_fn=_is_wanted)


def _is_wanted(module: torch.nn.Module, name: str) -> bool:
    if not isinstance(module, torch.nn.Linear) or name.rpartition(".")[2] == "lm_head":
        return False
    return min(module.in_features, module.out_features) >= _LEAST


def plain_parts(tensor: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """The plain tensors that ``tensor`` is made of, by name: itself, or values and scales of a quantized one."""
    if type(tensor) in (torch.Tensor, torch.nn.Parameter) and not hasattr(tensor, "__tensor_flatten__"):
        return [("", tensor)]
    names, _ = tensor.__tensor_flatten__()  # type: ignore[attr-defined]
    return [(f".{name}{rest}", part) for name in names for rest, part in plain_parts(getattr(tensor, name))]
