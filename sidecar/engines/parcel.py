"""A batch on its way to a replica's process: pictures through memory that both map, the rest through a pipe.

    queries --pack--> each picture once into the arena; words and places pickled --pipe--> unpack --> the same queries

A picture is copied once, by numpy and outside of the interpreter's lock; a frame that several queries show is copied
once for all of them. Reference pictures are not sent: both sides have read them.
"""

from __future__ import annotations

import mmap
import os
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np

from evo_vlac.engine import Image, Query

_FIRST_BYTES = 1 << 22
_ALIGN = 64
_Pixels = np.ndarray[Any, np.dtype[np.uint8]]
_Place = int | tuple[int, tuple[int, ...]] | Image  # number of a reference picture; offset, shape; a picture itself


class Arena:
    """Memory without a name, which ends with the last process that maps it. ``descriptor``: of the one to join."""

    def __init__(self, descriptor: int | None = None) -> None:
        self.descriptor = os.memfd_create("vlac-replica") if descriptor is None else descriptor
        self._map: mmap.mmap | None = None
        self.bytes = 0

    def reserve(self, size: int) -> None:
        """Room for ``size`` bytes; what was there may be gone. The sender's call."""
        if size > self.bytes:
            self.bytes = max(size, 2 * self.bytes, _FIRST_BYTES)
            os.ftruncate(self.descriptor, self.bytes)
            self._map = mmap.mmap(self.descriptor, self.bytes)

    def join(self, size: int) -> None:
        """Maps the ``size`` bytes that the sender has reserved. The receiver's call."""
        if size > self.bytes:
            self.bytes = size
            self._map = mmap.mmap(self.descriptor, size)

    def picture(self, offset: int, shape: tuple[int, ...]) -> _Pixels:
        """A view, uint8 of ``shape``."""
        assert self._map is not None  # room was made for it
        return np.ndarray(shape, np.uint8, self._map, offset)

    def close(self) -> None:
        """Views that are still held keep their memory."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor, self._map = -1, None


def pack(queries: Sequence[Query], arena: Arena) -> bytes:
    """The message for :func:`unpack`; the pictures lie in ``arena`` until the next call."""
    places: dict[int, _Place] = {}  # by the picture's identity
    pixels: list[tuple[int, _Pixels]] = []
    size = 0
    for query in queries:
        for i, image in enumerate(query.images):
            if id(image) in places:
                continue
            key = query.image_keys[i] if query.image_keys else None
            if isinstance(key, tuple) and key[0] == "reference":
                places[id(image)] = key[1]
            elif isinstance(image, np.ndarray) and image.dtype == np.uint8:
                places[id(image)] = (size, image.shape)
                pixels.append((size, image))
                size += -(-image.nbytes // _ALIGN) * _ALIGN
            else:
                places[id(image)] = image
    arena.reserve(size)
    for offset, image in pixels:
        np.copyto(arena.picture(offset, image.shape), image)
    numbers = {picture: number for number, picture in enumerate(places)}
    fields = [_fields(query, [numbers[id(image)] for image in query.images]) for query in queries]
    return pickle.dumps((arena.bytes, list(places.values()), fields), protocol=5)


def unpack(message: bytes, arena: Arena, reference: Sequence[Image]) -> list[Query]:
    """The queries; their pictures are views of ``arena``, good until the next batch is packed."""
    size, places, queries = pickle.loads(message)
    arena.join(size)
    pictures = [_picture(place, arena, reference) for place in places]
    return [
        Query(kind, prompt, tuple(pictures[number] for number in numbers), *rest)
        for kind, prompt, numbers, *rest in queries
    ]


def _fields(query: Query, numbers: list[int]) -> tuple[Any, ...]:
    """In the order of Query's, with numbers in the place of the images."""
    return (
        query.kind,
        query.prompt,
        numbers,
        query.system,
        query.max_new_tokens,
        query.temperature,
        query.top_logprobs,
        query.choices,
        query.image_keys,
        query.prefix_images,
    )


def _picture(place: _Place, arena: Arena, reference: Sequence[Image]) -> Image:
    if isinstance(place, int):
        return reference[place]
    if isinstance(place, tuple):
        return arena.picture(*place)
    return place
