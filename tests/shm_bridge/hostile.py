"""A lane whose worker writes whatever it likes, and a sidecar that must neither crash nor believe it.

Also a coverage-guided fuzzer over the header and record parsers, where atheris is installed:

    python -m tests.shm_bridge.hostile [-runs=200000]
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import zlib

import numpy as np

from shm_bridge import Kind, Lane, Reply, SegmentError, Server
from shm_bridge.liveness.cleaning import clean_run
from shm_bridge.memory import header, layout
from shm_bridge.server.served_lane import ServedLane
from tests.shm_bridge import echo
from tests.shm_bridge.conftest import SPEC

WORDS = layout.WORKER_OFFSET // 8
RECORDS = layout.QUESTIONS_OFFSET // 8


class HostileLane:
    """A server and a lane in one process, the lane's words open to be scribbled on."""

    def __init__(self, run_id: str) -> None:
        self.server = Server.create(run_id)
        self._attach()

    def _attach(self) -> None:
        self.lane = Lane.attach(self.server.run_id, SPEC)
        self.lane.begin_episode(1, "t")
        echo.frame(self.lane, 1, 0)
        self.lane.ask(Kind.DONE, 0)
        echo.answer(self.server, self.server.poll()[0])
        self.lane.poll()

    def scribble(self, word: int, value: int) -> None:
        self.lane._memory.words[word] = value

    def serve(self) -> int:
        """What a sidecar does with it: takes, looks at every pixel, answers. How many questions it believed."""
        self.lane._attachment.bell.ring()
        questions = self.server.poll()
        for question in questions:
            assert question.kind in Kind and 1 <= len(question.places) <= SPEC.frames
            assert len(question.steps) == len(question.places) == len(question.frame_keys)
            for image in question.images():
                int(np.asarray(image, np.int64).sum())
            values = np.zeros(len(question.places)) if question.kind is Kind.VALUE else None
            self.server.answer(question, Reply(values=values))
        return len(questions)

    def renew(self) -> None:
        """Another lane: one that was once found damaged is looked at by nobody any more."""
        self.lane.close()
        self.server.poll()
        self._attach()

    def close(self) -> None:
        self.lane.close()
        self.server.close()


def parse_anything(block: bytes) -> None:
    """Headers of both kinds; anything but a typed error or a full success is a bug."""
    size = int.from_bytes(block[:4].ljust(4, b"\0"), "little")
    for unpack in (header.unpack_lane, header.unpack_control):
        with contextlib.suppress(SegmentError):
            unpack(block, "fuzz", size, "fuzz")


def sealed(block: bytes, run_id: str = "fuzz") -> bytes:
    """The bytes as a header whose magic, version, hash and checksum are right: only so the fields are reached."""
    size = int.from_bytes(block[:8].ljust(8, b"\0"), "little")
    head = layout.HEADER.pack(
        layout.MAGIC,
        layout.ABI,
        layout.HEADER_BYTES,
        layout.LAYOUT_HASH,
        layout.LANE,
        0,
        0,
        0,
        size,
        1,
        0,
        0,
        0,
        run_id.encode(),
    )
    whole = (head.ljust(layout.BODY_OFFSET, b"\0") + block[8:]).ljust(layout.CRC_OFFSET, b"\0")[: layout.CRC_OFFSET]
    return whole + layout.CRC.pack(zlib.crc32(whole))


def parse_sealed(block: bytes) -> None:
    whole = sealed(block)
    size = int.from_bytes(block[:8].ljust(8, b"\0"), "little")
    with contextlib.suppress(SegmentError):
        _, identity = header.unpack_lane(whole, "fuzz", size, "fuzz")
        assert layout.LaneLayout(identity.spec).total == size


def main() -> int:
    """The fuzzer leaves its process without a farewell: it gets one of its own, and what it leaves is removed."""
    child = os.fork()
    if child == 0:
        fuzz()
    _, status = os.waitpid(child, 0)
    clean_run(f"fuzz-{child}")
    return os.waitstatus_to_exitcode(status)


def fuzz() -> None:
    atheris = importlib.import_module("atheris")
    for unpack in ("unpack_lane", "unpack_control", "_unpack", "_unpack_camera"):
        setattr(header, unpack, atheris.instrument_func(getattr(header, unpack)))
    for parse in ("take", "_parse", "_read_task"):
        setattr(ServedLane, parse, atheris.instrument_func(getattr(ServedLane, parse)))
    run_id = f"fuzz-{os.getpid()}"
    hostile = HostileLane(run_id)
    span = hostile.lane._memory.layout.frames // 8 - WORDS

    def one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        parse_anything(data)
        parse_sealed(data)
        for _ in range(provider.ConsumeIntInRange(0, 8)):
            hostile.scribble(WORDS + provider.ConsumeIntInRange(0, span - 1), provider.ConsumeInt(8) & (1 << 64) - 1)
        hostile.serve()
        hostile.renew()  # so an input does the same whatever came before it

    try:
        atheris.Setup(sys.argv, one)
        atheris.Fuzz()
    finally:
        hostile.close()


if __name__ == "__main__":
    sys.exit(main())
