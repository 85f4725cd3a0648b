"""Frames to the model's input: squashed with LANCZOS as PIL does it, scaled, normalised; on the GPU where there is one.

PIL resamples in two passes, columns then rows, and rounds to 8 bits after each; done here as two matrix products, it
differs from PIL by at most one step of 255, in few pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from evo_vlac.engine import Image
from evo_vlac.images import rgb_array

_SUPPORT = 3.0  # LANCZOS: three lobes


class Pixels:
    """Makes float tensors (n, 3, height, width) of ``size`` (height, width) on ``device``."""

    def __init__(
        self,
        size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.size, self.device, self.dtype = size, device, dtype
        self._mean = torch.tensor(mean, device=device).mul(255).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=device).mul(255).view(1, 3, 1, 1)

    def __call__(self, images: Sequence[Image]) -> torch.Tensor:
        """The images in order. Images of one size travel and are resized together."""
        out = torch.empty((len(images), 3, *self.size), device=self.device, dtype=self.dtype)
        by_size: dict[tuple[int, ...], list[int]] = {}
        arrays = [rgb_array(np.asarray(image)) for image in images]
        for i, array in enumerate(arrays):
            by_size.setdefault(array.shape, []).append(i)
        for members in by_size.values():
            whole = self._upload([arrays[i] for i in members])
            pixels = whole.permute(0, 3, 1, 2).to(torch.float32)
            if tuple(pixels.shape[2:]) != self.size:
                pixels = squash(pixels, self.size)
            out[members] = ((pixels - self._mean) / self._std).to(self.dtype)
        return out

    def _upload(self, arrays: list[np.ndarray[Any, Any]]) -> torch.Tensor:
        """uint8 (n, height, width, 3) on the device. Strided views are read here, once."""
        first = arrays[0]
        if self.device.type == "cuda":
            host = torch.empty((len(arrays), *first.shape), dtype=torch.uint8, pin_memory=True)
            for i, array in enumerate(arrays):
                host[i].numpy()[...] = array
            return host.to(self.device, non_blocking=True)
        return torch.from_numpy(np.stack(arrays))


def squash(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """float32 (n, 3, h, w), 0 to 255, to (n, 3, *size), whole numbers, as ``PIL.Image.resize(..., LANCZOS)``."""
    height, width = pixels.shape[2:]
    device = pixels.device
    if width != size[1]:
        pixels = (pixels @ _weights(width, size[1]).to(device).T).round_().clamp_(0, 255)
    if height != size[0]:
        pixels = (_weights(height, size[0]).to(device) @ pixels).round_().clamp_(0, 255)
    return pixels


@lru_cache(maxsize=32)
def _weights(source: int, target: int) -> torch.Tensor:
    """(target, source): row i holds what each source pixel gives to target pixel i; rows sum to 1."""
    scale = source / target
    stretch = max(scale, 1.0)
    weights = torch.zeros(target, source, dtype=torch.float64)
    for i in range(target):
        center = (i + 0.5) * scale
        low = max(0, int(center - _SUPPORT * stretch + 0.5))
        high = min(source, int(center + _SUPPORT * stretch + 0.5))
        row = [_lanczos((j - center + 0.5) / stretch) for j in range(low, high)]
        weights[i, low:high] = torch.tensor(row, dtype=torch.float64) / sum(row)
    return weights.to(torch.float32)


def _lanczos(x: float) -> float:
    if x == 0:
        return 1.0
    if abs(x) >= _SUPPORT:
        return 0.0
    a = math.pi * x
    return _SUPPORT * math.sin(a) * math.sin(a / _SUPPORT) / (a * a)
