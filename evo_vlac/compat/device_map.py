"""What upstream's ``device_map`` may be, as the one device this project loads a critic on; and moving data there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from evo_vlac.errors import OptionError

_SPREAD = ("auto", "balanced", "balanced_low_0", "sequential")  # how accelerate spreads a model over devices


def device_of(device_map: Any) -> str:
    """The device's name: "auto" for None and for the names of accelerate's ways to spread a model, "cuda:N" for a
    number; of a map, the device all its entries name. Raises OptionError where they name several."""
    if device_map is None or device_map in _SPREAD:
        return "auto"
    if isinstance(device_map, Mapping):
        named = sorted({device_of(device) for device in device_map.values()})
        if len(named) > 1:
            raise OptionError(f"device_map names {', '.join(named)}; a critic is loaded on one device")
        return named[0] if named else "auto"
    if isinstance(device_map, int) and not isinstance(device_map, bool):
        return f"cuda:{device_map}"
    if isinstance(device_map, (str, torch.device)):
        return str(device_map)
    raise OptionError(f"device_map is {device_map!r}; allowed: a name, a number, a torch.device, None or a map of them")


def to_device(data: Any, device: Any) -> Any:
    """The data with its tensors on the device; mappings, lists and tuples keep their types."""
    if isinstance(data, Mapping):
        return type(data)({key: to_device(value, device) for key, value in data.items()})  # type: ignore[call-arg]
    if isinstance(data, (list, tuple)):
        return type(data)(to_device(value, device) for value in data)
    return data.to(device=device) if isinstance(data, torch.Tensor) else data
