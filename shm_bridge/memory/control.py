"""The control segment: the sidecar's state, the trainer's requests, and which lanes there are."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from shm_bridge.errors import ConfigError, SegmentError
from shm_bridge.memory import header, layout, segment
from shm_bridge.memory.header import Header
from shm_bridge.memory.layout import ControlLayout, ServerWord, TrainerWord
from shm_bridge.names import SHM, control_name
from shm_bridge.sync.ordering import MASK, fence


class ControlRole(Enum):
    """Who maps the control segment, and so may write which part of it."""

    SIDECAR = "sidecar"  # server words and metrics; a dead lane's row, holding that lane's lock
    WORKER = "worker"  # its own lane's row
    TRAINER = "trainer"  # the request
    READER = "reader"


class Control:
    """The control segment, mapped in three parts by who writes them.

    Attributes:
        server: uint64 words by :class:`ServerWord`.
        trainer: uint64 words by :class:`TrainerWord`.
        bells, generations, last_generations: uint64, one a lane.
        inode: of the segment's file; another one under the same name means a new control segment.
    """

    def __init__(self, fd: int, found: Header, plan: ControlLayout, role: ControlRole) -> None:
        self.header, self.layout = found, plan
        self.inode = os.fstat(fd).st_ino
        sidecar = role is ControlRole.SIDECAR
        server_map = segment.map_part(fd, 0, layout.SERVER_END, write=sidecar)
        trainer_map = segment.map_part(fd, layout.TRAINER_OFFSET, layout.PAGE, write=role is ControlRole.TRAINER)
        size = plan.total - layout.TABLES_OFFSET
        tables_map = segment.map_part(
            fd, layout.TABLES_OFFSET, size, write=role in (ControlRole.SIDECAR, ControlRole.WORKER)
        )
        self._maps = (server_map, trainer_map, tables_map)
        self.server_part = memoryview(server_map)
        self.server = self.server_part[layout.SERVER_OFFSET : layout.METRICS_OFFSET].cast("Q")
        self.trainer = memoryview(trainer_map).cast("Q")
        tables = memoryview(tables_map)
        rows, stride = plan.lanes * 8, plan.table_bytes
        self.bells = tables[:rows].cast("Q")
        self.generations = tables[stride : stride + rows].cast("Q")
        self.last_generations = tables[2 * stride : 2 * stride + rows].cast("Q")
        self._tables = tables

    @property
    def lanes(self) -> int:
        return self.layout.lanes

    def bells_array(self) -> npt.NDArray[np.uint64]:
        """All bells in one array, for one comparison of them all."""
        return np.frombuffer(self.bells, np.uint64)

    @property
    def epoch(self) -> int:
        return self.server[ServerWord.EPOCH]

    @property
    def ready(self) -> bool:
        """Whether the sidecar of this epoch has answered its probe."""
        return self.server[ServerWord.READY] == self.server[ServerWord.EPOCH] != 0

    @property
    def acknowledged(self) -> tuple[int, int]:
        """(request number, phase) the sidecar acknowledged last."""
        return self.server[ServerWord.ACK_SEQ], self.server[ServerWord.ACK_PHASE]

    @property
    def requested(self) -> tuple[int, int]:
        """(request number, phase) the trainer asked for last."""
        return self.trainer[TrainerWord.REQUEST_SEQ], self.trainer[TrainerWord.REQUEST_PHASE]

    def metrics(self, attempts: int = 64) -> dict[str, Any]:
        """What the sidecar published last; empty when nothing, or when it is being written."""
        for _ in range(attempts):
            seq, size = self.server[ServerWord.METRICS_SEQ], self.server[ServerWord.METRICS_BYTES]
            if seq & 1 or not 0 < size <= layout.METRICS_MAX:
                continue
            block = bytes(self.server_part[layout.METRICS_OFFSET : layout.METRICS_OFFSET + size])
            if self.server[ServerWord.METRICS_SEQ] == seq:
                with contextlib.suppress(ValueError):
                    found = json.loads(block)
                    return found if isinstance(found, dict) else {}
        return {}

    def publish_metrics(self, metrics: Mapping[str, Any]) -> None:
        """For the sidecar. Raises ``ConfigError`` when they do not fit."""
        block = json.dumps(metrics).encode()
        if len(block) > layout.METRICS_MAX:
            raise ConfigError(f"metrics of {len(block)} bytes; at most {layout.METRICS_MAX}")
        seq = self.server[ServerWord.METRICS_SEQ] | 1
        self.server[ServerWord.METRICS_SEQ] = seq
        fence()
        self.server_part[layout.METRICS_OFFSET : layout.METRICS_OFFSET + len(block)] = block
        self.server[ServerWord.METRICS_BYTES] = len(block)
        fence()
        self.server[ServerWord.METRICS_SEQ] = (seq + 1) & MASK

    def close(self) -> None:
        for view in (
            self.server,
            self.server_part,
            self.trainer,
            self.bells,
            self.generations,
            self.last_generations,
            self._tables,
        ):
            with contextlib.suppress(BufferError):
                view.release()
        for part in self._maps:
            segment.close_map(part)


def create_control(run_id: str, lanes: int, epoch: int) -> Control:
    """Makes a control segment beside the old one and puts it in its place in one step (rename).

    Nobody can ever find a half-made one. The caller holds the sidecar's lock.
    """
    name = control_name(run_id)
    temporary = f"{name}.new"
    segment.unlink(temporary)
    plan = ControlLayout(lanes)
    fd = segment.create(temporary, plan.total, f"the control segment of run {run_id!r} ({lanes} lanes)")
    try:
        instance = int.from_bytes(os.urandom(7), "little")
        block = header.pack_control(run_id, lanes, epoch, instance)
        os.pwrite(fd, block, 0)
        found, _ = header.unpack_control(block, run_id, plan.total, name)
        control = Control(fd, found, plan, ControlRole.SIDECAR)
        os.rename(SHM / temporary[1:], SHM / name[1:])
        return control
    except BaseException:
        segment.unlink(temporary)
        raise
    finally:
        os.close(fd)


def open_control(run_id: str, role: ControlRole) -> Control:
    """Opens and checks the control segment.

    Raises:
        FileNotFoundError: there is none.
        SegmentError: it must not be trusted.
    """
    name = control_name(run_id)
    fd, (found, plan) = segment.open_checked(
        name,
        lambda block, size: header.unpack_control(block, run_id, size, f"segment {name}"),
        write=role is not ControlRole.READER,
    )
    try:
        if os.fstat(fd).st_size != plan.total:
            raise SegmentError(f"segment {name} changes its size")
        return Control(fd, found, plan, role)
    finally:
        os.close(fd)
