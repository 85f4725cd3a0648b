"""A frame of the running episode, as its worker holds it."""

from __future__ import annotations

from shm_bridge.spec import UInt8Array


class FrameSlot:
    """One reserved or published frame: ``slot["camera"]`` is its image as stored, ``(H, W, C)`` uint8.

    Attributes:
        index: its place in the lane, for :class:`~shm_bridge.reader.LaneReader`.
        seq: sequence number, modulo 2**64; never the same for two frames of a lane.
        order: how many frames the episode had before.
        step: as published; -1 before.
        episode: as begun.
    """

    __slots__ = ("_images", "episode", "index", "order", "seq", "step")

    def __init__(self, index: int, seq: int, order: int, episode: int, images: dict[str, UInt8Array]) -> None:
        self.index, self.seq, self.order, self.episode = index, seq, order, episode
        self.step = -1
        self._images = images

    def __getitem__(self, camera: str) -> UInt8Array:
        return self._images[camera]

    def __repr__(self) -> str:
        return f"FrameSlot(index={self.index}, episode={self.episode}, step={self.step})"
