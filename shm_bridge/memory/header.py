"""The constant head of a segment: written before anybody can find it, checked whole before anything else is read."""

from __future__ import annotations

import os
import time
import zlib
from dataclasses import dataclass

from shm_bridge.errors import BadMagic, ConfigError, CorruptSegment, LayoutMismatch, VersionMismatch, WrongRun
from shm_bridge.memory import layout
from shm_bridge.memory.layout import ControlLayout, LaneLayout
from shm_bridge.spec import MAX_CAMERAS, CameraSpec, LaneSpec, Orientation

MAX_LANES = 65536


@dataclass(frozen=True)
class Header:
    """What a segment says of itself.

    Attributes:
        total: bytes of the whole segment.
        epoch: the sidecar's epoch when the segment was made.
        start: clock ticks since boot at which the creator started; with the pid it names one process.
        instance: random; tells a segment from its predecessor of the same name.
    """

    run_id: str
    total: int
    epoch: int
    uid: int
    pid: int
    start: int
    made_ns: int
    instance: int


@dataclass(frozen=True)
class LaneIdentity:
    """Which lane a segment is, and what it holds."""

    index: int
    generation: int
    name: str
    spec: LaneSpec


def process_start() -> int:
    """Clock ticks since boot at which this process started."""
    with open("/proc/self/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def _pack(kind: int, run_id: str, total: int, epoch: int, instance: int, body: bytes) -> bytes:
    head = layout.HEADER.pack(
        layout.MAGIC,
        layout.ABI,
        layout.HEADER_BYTES,
        layout.LAYOUT_HASH,
        kind,
        os.geteuid(),
        os.getpid(),
        0,
        total,
        epoch,
        process_start(),
        time.monotonic_ns(),
        instance,
        run_id.encode(),
    )
    block = head.ljust(layout.BODY_OFFSET, b"\0") + body
    block = block.ljust(layout.CRC_OFFSET, b"\0")
    return block + layout.CRC.pack(zlib.crc32(block))


def pack_control(run_id: str, lanes: int, epoch: int, instance: int) -> bytes:
    body = layout.CONTROL_BODY.pack(lanes)
    return _pack(layout.CONTROL, run_id, ControlLayout(lanes).total, epoch, instance, body)


def pack_lane(run_id: str, identity: LaneIdentity, epoch: int, instance: int) -> bytes:
    spec = identity.spec
    body = layout.LANE_BODY.pack(
        identity.index,
        spec.frames,
        spec.question_slots,
        len(spec.cameras),
        spec.retain,
        identity.generation,
        identity.name.encode(),
    ).ljust(layout.CAMERAS_OFFSET - layout.BODY_OFFSET, b"\0")
    for camera in spec.cameras:
        body += layout.CAMERA.pack(
            camera.name.encode(), camera.height, camera.width, camera.channels, camera.orientation
        )
    return _pack(layout.LANE, run_id, LaneLayout(spec).total, epoch, instance, body)


def _unpack(block: bytes, kind: int, run_id: str, size: int, what: str) -> Header:
    """The checks in the order in which a wrong segment is best named."""
    if len(block) < layout.HEADER_BYTES:
        raise CorruptSegment(f"{what}: {size} bytes; a header alone has {layout.HEADER_BYTES}")
    head = layout.HEADER.unpack_from(block)
    magic, abi, header_bytes, layout_hash, found_kind, uid, pid, _, total, epoch, start, made, instance, run = head
    if magic != layout.MAGIC:
        raise BadMagic(f"{what}: magic {magic!r}; must be {layout.MAGIC!r}")
    if abi != layout.ABI:
        raise VersionMismatch(f"{what}: protocol version {abi}; this side speaks {layout.ABI}")
    if header_bytes != layout.HEADER_BYTES or layout_hash != layout.LAYOUT_HASH:
        raise LayoutMismatch(
            f"{what}: layout {layout_hash:016x}, header of {header_bytes} bytes; "
            f"must be {layout.LAYOUT_HASH:016x} and {layout.HEADER_BYTES}: the two sides' versions of shm_bridge differ"
        )
    (crc,) = layout.CRC.unpack_from(block, layout.CRC_OFFSET)
    if crc != zlib.crc32(block[: layout.CRC_OFFSET]):
        raise CorruptSegment(f"{what}: the header's checksum does not fit")
    if found_kind != kind:
        raise WrongRun(f"{what}: segment of kind {found_kind}; must be {kind}")
    if run.rstrip(b"\0") != run_id.encode():
        raise WrongRun(f"{what}: belongs to run {run!r}; must belong to {run_id!r}")
    if total != size:
        raise CorruptSegment(f"{what}: {size} bytes; its header says {total}")
    return Header(run_id, total, epoch, uid, pid, start, made, instance)


def unpack_control(block: bytes, run_id: str, size: int, what: str) -> tuple[Header, ControlLayout]:
    header = _unpack(block, layout.CONTROL, run_id, size, what)
    (lanes,) = layout.CONTROL_BODY.unpack_from(block, layout.BODY_OFFSET)
    if not 1 <= lanes <= MAX_LANES or ControlLayout(lanes).total != size:
        raise CorruptSegment(f"{what}: {lanes} lanes do not fit into {size} bytes")
    return header, ControlLayout(lanes)


def unpack_lane(block: bytes, run_id: str, size: int, what: str) -> tuple[Header, LaneIdentity]:
    """Also proves that a segment of ``size`` bytes holds all that the header promises."""
    header = _unpack(block, layout.LANE, run_id, size, what)
    index, frames, questions, cameras, retain, generation, name = layout.LANE_BODY.unpack_from(
        block, layout.BODY_OFFSET
    )
    if not 1 <= cameras <= MAX_CAMERAS:
        raise CorruptSegment(f"{what}: {cameras} cameras; must be 1 to {MAX_CAMERAS}")
    try:
        specs = tuple(_unpack_camera(block, number) for number in range(cameras))
        spec = LaneSpec(specs, frames, questions, bool(retain))
        text = name.rstrip(b"\0").decode("ascii")
    except (ConfigError, ValueError) as error:
        raise CorruptSegment(f"{what}: {error}") from None
    if spec.question_slots != questions or LaneLayout(spec).total != size:
        raise CorruptSegment(f"{what}: {size} bytes do not fit {frames} frames and {questions} questions")
    return header, LaneIdentity(index, generation, text, spec)


def _unpack_camera(block: bytes, number: int) -> CameraSpec:
    at = layout.CAMERAS_OFFSET + number * layout.CAMERA.size
    name, height, width, channels, orientation = layout.CAMERA.unpack_from(block, at)
    return CameraSpec(name.rstrip(b"\0").decode("ascii"), height, width, channels, Orientation(orientation))
