"""A KV cache whose layers have room for what will come: the prefix is copied in once, tokens are written after it.

transformers' DynamicCache concatenates, and with it copies the whole cache, for every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

Layers = tuple[tuple[torch.Tensor, torch.Tensor], ...]
"""Keys and values of each layer: (b, heads, positions, head size)."""


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Like DynamicLayer, with ``room`` positions set aside after ``keys`` and ``values`` (None: none yet)."""

    def __init__(self, keys: torch.Tensor | None, values: torch.Tensor | None, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room, self._length = room, 0
        self._buffers: tuple[torch.Tensor, torch.Tensor] | None = None
        if keys is not None and values is not None:
            self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
            self.keys, self.values, self._length = keys, values, keys.shape[-2]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Writes (b, heads, s, size) after what is held; returns all of it."""
        end = self._length + key_states.shape[-2]
        if self._buffers is None or end > self._buffers[0].shape[-2]:
            self._grow(key_states, value_states, end)
        assert self._buffers is not None
        for buffer, new in zip(self._buffers, (key_states, value_states)):
            buffer[..., self._length : end, :] = new
        self._length = end
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        self.keys, self.values = (buffer[..., :end, :] for buffer in self._buffers)
        return self.keys, self.values

    def _grow(self, keys: torch.Tensor, values: torch.Tensor, end: int) -> None:
        size = max(end, self._length + self._room)
        held = (self.keys, self.values) if self._length else (None, None)
        buffers = []
        for old, new in zip(held, (keys, values)):
            buffer = new.new_empty((*new.shape[:-2], size, new.shape[-1]))
            if old is not None:
                buffer[..., : self._length, :] = old
            buffers.append(buffer)
        self._buffers = (buffers[0], buffers[1])

    def hold(self, keys: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
        """Holds these rows, one part (b, heads, positions, size) below the other, and sets the room aside."""
        first = keys[0]
        self._length = first.shape[-2]
        shape = (sum(len(part) for part in keys), first.shape[1], self._length + self._room, first.shape[-1])
        self._buffers = (first.new_empty(shape), first.new_empty(shape))
        for buffer, parts in zip(self._buffers, (keys, values)):
            torch.cat(list(parts), out=buffer[..., : self._length, :])
        self.dtype, self.device, self.is_initialized = first.dtype, first.device, True
        self.keys, self.values = (buffer[..., : self._length, :] for buffer in self._buffers)

    def empty(self) -> None:
        """Lets go of what it holds."""
        self._buffers, self._length = None, 0
        self.keys = self.values = None

    def get_seq_length(self) -> int:
        return self._length


def make_cache(layers: Layers | None, count: int, room: int) -> Cache:
    """A cache of ``count`` layers that holds ``layers`` and has ``room`` more positions."""
    held: Any = layers or ((None, None),) * count
    return Cache(layers=[RoomyLayer(keys, values, room) for keys, values in held])


def join(caches: Sequence[Any], room: int) -> Cache:
    """The rows of ``caches``, all of one length, as one cache with ``room`` more positions. The parts are emptied."""
    layers: list[Any] = []
    for parts in zip(*(cache.layers for cache in caches)):
        layer = RoomyLayer(None, None, room)
        layer.hold([part.keys for part in parts], [part.values for part in parts])
        for part in parts:
            part.empty()
        layers.append(layer)
    return Cache(layers=layers)
