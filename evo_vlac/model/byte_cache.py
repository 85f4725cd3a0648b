"""A cache bounded by bytes: what was not used for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Holds values up to ``limit`` bytes in all; ``size_of`` tells a value's size. Not thread-safe."""

    def __init__(self, limit: int, size_of: Callable[[V], int]) -> None:
        self.limit, self._size_of = limit, size_of
        self._held: OrderedDict[Hashable, V] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Hashable) -> V | None:
        """The value, now the most recently used one; None when it is not held."""
        value = self._held.get(key)
        if value is None:
            return None
        self._held.move_to_end(key)
        return value

    def put(self, key: Hashable, value: V) -> None:
        """Holds ``value``; drops others to stay within the limit. A value over the limit is not held at all."""
        size = self._size_of(value)
        old = self._held.pop(key, None)
        if old is not None:
            self.bytes -= self._size_of(old)
        if size > self.limit:
            return
        while self._held and self.bytes + size > self.limit:
            _, dropped = self._held.popitem(last=False)
            self.bytes -= self._size_of(dropped)
        self._held[key] = value
        self.bytes += size

    def clear(self) -> None:
        self._held.clear()
        self.bytes = 0
