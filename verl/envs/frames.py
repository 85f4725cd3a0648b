"""Frame buffers without a sidecar: anonymous memory that an environment's process draws into and the pool reads.

A memory file without a name (``memfd_create``): pages are taken when first drawn into, and nothing is left behind when
both sides are gone. Slot i holds the frames of all cameras after step i, one camera after the other.
"""

from __future__ import annotations

import mmap
import os

import numpy as np

from verl.envs.base import Camera


def create_memory(cameras: tuple[Camera, ...], slots: int) -> int:
    """A file descriptor of memory for ``slots`` frames of every camera. The caller closes it."""
    descriptor = os.memfd_create("verl-frames")
    os.ftruncate(descriptor, _slot_bytes(cameras) * slots)
    return descriptor


def _slot_bytes(cameras: tuple[Camera, ...]) -> int:
    return sum(int(np.prod(camera.shape)) for camera in cameras)


class PlainFrames:
    """The buffer, mapped. One side writes, the other reads; the messages between them say when."""

    def __init__(self, descriptor: int, cameras: tuple[Camera, ...], slots: int, *, writable: bool) -> None:
        self.cameras = {camera.name: camera for camera in cameras}
        self._offsets: dict[str, int] = {}
        offset = 0
        for camera in cameras:
            self._offsets[camera.name] = offset
            offset += int(np.prod(camera.shape))
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._memory = mmap.mmap(descriptor, offset * slots, access=access)
        self._slots = np.frombuffer(self._memory, np.uint8).reshape(slots, offset)

    def raw(self, slot: int, camera: str) -> np.ndarray:
        """(H, W, 3) uint8 as the renderer stores it, C-contiguous."""
        spec, start = self.cameras[camera], self._offsets[camera]
        flat = self._slots[slot, start : start + int(np.prod(spec.shape))]
        return flat.reshape(spec.shape)

    def view(self, slot: int, camera: str) -> np.ndarray:
        """(H, W, 3) uint8, upright, read-only. No copy."""
        upright = self.cameras[camera].upright(self.raw(slot, camera))
        upright.flags.writeable = False
        return upright
