"""A peft adapter as OpenVLA-OFT's fine-tuning saves it, added to its base's weights while these are read.

base_model.model.X.lora_A.weight (r, in), base_model.model.X.lora_B.weight (out, r)
    -> X.weight += scaling * lora_B @ lora_A, in float32;  scaling = alpha / r, or alpha / sqrt(r) with rsLoRA
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from verl.models.checkpoint_parts import ADAPTER_CONFIG, ADAPTER_TENSORS
from verl.models.openvla_oft.errors import CheckpointError

_PREFIX = "base_model.model."
_NOT_HERE = ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias")


class Adapter:
    """The matrices of one adapter; small enough to be held whole.

    Raises:
        CheckpointError: a file is missing or broken, or the adapter is of a kind that is not a product of two matrices.
    """

    def __init__(self, folder: Path) -> None:
        raw = json.loads((folder / ADAPTER_CONFIG).read_text())
        kind = raw.get("peft_type", "LORA")
        unknown = [key for key in _NOT_HERE if raw.get(key)] + ([] if kind == "LORA" else [f"peft_type={kind}"])
        if unknown:
            found = ", ".join(unknown)
            raise CheckpointError(f"{folder} cannot be applied: {found} in {ADAPTER_CONFIG} is not plain LoRA")
        rank, alpha = float(raw["r"]), float(raw["lora_alpha"])
        self.scaling = alpha / (math.sqrt(rank) if raw.get("use_rslora") else rank)
        try:
            tensors = load_file(folder / ADAPTER_TENSORS)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{folder / ADAPTER_TENSORS} cannot be read: {error}") from None
        self._down: dict[str, torch.Tensor] = {}
        self._up: dict[str, torch.Tensor] = {}
        for name, tensor in tensors.items():
            owner, _, kind = name.removeprefix(_PREFIX).rpartition(".lora_")
            place = {"A.weight": self._down, "B.weight": self._up}.get(kind)
            if place is None or tensor.ndim != 2:
                raise CheckpointError(f"{folder} cannot be applied: {name} {tuple(tensor.shape)} is not plain LoRA")
            place[f"{owner}.weight"] = tensor.float()
        if odd := sorted(self._down.keys() ^ self._up.keys()):
            raise CheckpointError(f"{folder} cannot be applied: {odd[0]} has one matrix of two")

    def names(self) -> set[str]:
        """The weights that it changes."""
        return set(self._down)

    def added(self, name: str, tensor: torch.Tensor, rows: slice) -> torch.Tensor:
        """``rows`` of the weight ``name`` with the adapter, float32; unchanged where it has nothing for it."""
        if name not in self._down:
            return tensor
        return tensor.float() + self.scaling * (self._up[name][rows] @ self._down[name])
