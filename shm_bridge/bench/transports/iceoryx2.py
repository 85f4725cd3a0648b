"""iceoryx2's Python binding: request and response through its shared memory, an event service a side to sleep on.

It leaves a file of its own behind in /dev/shm; so each row has a prefix and a folder of its own, removed at its end.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MAX_WORKERS = 8


class Answer(ctypes.Structure):
    """What comes back."""

    _fields_ = [("done", ctypes.c_uint8), ("probability", ctypes.c_double)]


def missing() -> str | None:
    return None if importlib.util.find_spec("iceoryx2") else "iceoryx2 is not installed"


def _node(iox: Any, name: str, folder: str) -> Any:
    iox.set_log_level(iox.LogLevel.Error)
    config = iox.config.default()
    config.global_cfg.prefix = iox.FileName.new(f"{name}_")
    config.global_cfg.root_path = iox.Path.new(folder)
    return iox.NodeBuilder.new().config(config).create(iox.ServiceType.Ipc)


def _event(iox: Any, node: Any, name: str) -> Any:
    return node.service_builder(iox.ServiceName.new(name)).event().open_or_create()


def _requests(iox: Any, node: Any, name: str, workers: int) -> Any:
    builder = node.service_builder(iox.ServiceName.new(name)).request_response(iox.Slice[ctypes.c_uint8], Answer)
    return builder.max_clients(workers + 1).open_or_create()


class Host:
    def __init__(self, workers: int, shape: tuple[int, int, int], spin: bool) -> None:
        self.iox: Any = importlib.import_module("iceoryx2")
        self.name, self.workers = f"bench-{os.getpid()}", workers
        self.folder = tempfile.TemporaryDirectory()
        self.node = _node(self.iox, self.name, self.folder.name)
        self.service = _requests(self.iox, self.node, self.name, workers)
        self.server = self.service.server_builder().create()
        self.bell = _event(self.iox, self.node, f"{self.name}-bell").listener_builder().create()
        self.replies = [
            _event(self.iox, self.node, f"{self.name}-{worker}").notifier_builder().create()
            for worker in range(workers)
        ]

    def kit(self, worker: int) -> Any:
        return self.name, self.folder.name, self.workers, worker

    def serve(self, running: Callable[[], bool]) -> None:
        while running():
            self.bell.timed_wait(self.iox.Duration.from_millis(100))
            while (request := self.server.receive()) is not None:
                payload = request.payload()
                size = payload.len()
                frame = np.ctypeslib.as_array(ctypes.cast(payload.as_ptr(), ctypes.POINTER(ctypes.c_uint8)), (size,))
                worker = int(frame[size - 4])
                request.send_copy(Answer(int(frame[0]) + int(frame[-1]) > 400, 0.5))
                del frame, payload, request
                self.replies[worker].notify()

    def close(self) -> None:
        del self.replies, self.bell, self.server, self.service, self.node
        self.folder.cleanup()
        for file in Path("/dev/shm").glob(f"{self.name}_*"):
            file.unlink(missing_ok=True)


class Client:
    def __init__(self, kit: Any, shape: tuple[int, int, int], spin: bool) -> None:
        self.iox: Any = importlib.import_module("iceoryx2")
        name, folder, workers, self.worker = kit
        self.size = shape[0] * shape[1] * shape[2] + 4
        self.node = _node(self.iox, name, folder)
        self.service = _requests(self.iox, self.node, name, workers)
        self.client = self.service.client_builder().initial_max_slice_len(self.size).create()
        self.bell = _event(self.iox, self.node, f"{name}-bell").notifier_builder().create()
        self.reply = _event(self.iox, self.node, f"{name}-{self.worker}").listener_builder().create()
        self.patience = self.iox.Duration.from_millis(1000)

    def round_trip(self, frame: np.ndarray[Any, Any]) -> None:
        request = self.client.loan_slice_uninit(self.size)
        pointer = request.payload().as_ptr()
        ctypes.memmove(pointer, frame.ctypes.data, frame.nbytes)
        ctypes.memset(pointer + frame.nbytes, self.worker, 4)
        pending = request.assume_init().send()
        self.bell.notify()
        for _ in range(30):
            if pending.receive() is not None:
                return
            self.reply.timed_wait(self.patience)
        raise TimeoutError("no answer within 30 s")

    def close(self) -> None:
        pass
