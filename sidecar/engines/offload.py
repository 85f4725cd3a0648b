"""Moves the weights off their device for UPDATE, into pinned host memory, and back for ROLLOUT; enforces the budget.

The weights never change, so their host copy is made once; leaving the GPU is then only a matter of letting go, coming
back is one copy over the bus.
"""

from __future__ import annotations

import ctypes
import gc
import logging
from typing import Any

import torch

from sidecar.engines.quantized import plain_parts
from sidecar.errors import MemoryBudgetError

logger = logging.getLogger(__name__)


def _trim() -> None:
    """glibc keeps freed memory below whatever was allocated last. Other C libraries have no such call, nor the need."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class WeightOffload:
    """Of ``model`` on ``device``. On a CPU no weight moves."""

    def __init__(self, model: Any, device: torch.device, budget_bytes: int | None) -> None:
        self._model, self.device, self.budget = model, device, budget_bytes
        self._host: dict[str, torch.Tensor] = {}
        self.is_off = False
        if device.type == "cuda":
            self._enforce_budget()

    def offload(self) -> None:
        """Lets go of the device's memory; the weights are in host memory afterwards. On a CPU what was freed since the
        last time goes back to the system, where the learner needs it."""
        if self.device.type == "cpu":
            _trim()
        if self.is_off or self.device.type != "cuda" or self._model is None:
            return
        torch.cuda.synchronize(self.device)
        for name, tensor in self._tensors():
            if name not in self._host:
                self._host[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor)
            tensor.data = self._host[name]
        self.is_off = True
        gc.collect()
        torch.cuda.empty_cache()

    def restore(self) -> None:
        """Brings the weights back."""
        if not self.is_off or self._model is None:
            return
        for name, tensor in self._tensors():
            tensor.data = self._host[name].to(self.device, non_blocking=True)
        torch.cuda.synchronize(self.device)
        self.is_off = False

    def bytes(self) -> dict[str, int]:
        """``device``: held on the accelerator by this process's allocator; ``host``: pinned for the weights."""
        host = sum(tensor.nbytes for tensor in self._host.values())
        if self.device.type == "cuda":
            return {"device": torch.cuda.memory_reserved(self.device), "host": host}
        held = 0 if self._model is None else sum(tensor.nbytes for _, tensor in self._tensors())
        return {"device": 0, "host": held}

    def free(self) -> None:
        """Forgets the model."""
        self._model = None
        self._host.clear()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _tensors(self) -> list[tuple[str, torch.Tensor]]:
        """Parameters and buffers by name, of quantized ones what they are made of; tied ones once."""
        whole = (*self._model.named_parameters(), *self._model.named_buffers())
        return [(name + part, tensor) for name, one in whole for part, tensor in plain_parts(one)]

    def _enforce_budget(self) -> None:
        held = sum(tensor.nbytes for _, tensor in self._tensors())
        if self.budget is None:
            return
        if held > self.budget:
            raise MemoryBudgetError(
                f"memory.budget_gb={self.budget / 1e9:g}: the weights alone take {held / 1e9:.2f} GB"
            )
        total = torch.cuda.get_device_properties(self.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, self.budget / total), self.device)
        logger.info("memory budget %.1f of %.1f GB on %s", self.budget / 1e9, total / 1e9, self.device)
