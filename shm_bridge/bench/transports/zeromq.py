"""ZeroMQ over a Unix socket: the frame's bytes as one message, copied neither by pyzmq on sending nor on receiving."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

MAX_WORKERS = 64


def missing() -> str | None:
    return None if importlib.util.find_spec("zmq") else "pyzmq is not installed"


class Host:
    def __init__(self, workers: int, shape: tuple[int, int, int], spin: bool) -> None:
        self.zmq: Any = importlib.import_module("zmq")
        self.folder = tempfile.TemporaryDirectory()
        self.address = f"ipc://{os.path.join(self.folder.name, 'bench')}"
        self.context = self.zmq.Context()
        self.socket = self.context.socket(self.zmq.REP)
        self.socket.bind(self.address)

    def kit(self, worker: int) -> Any:
        return self.address

    def serve(self, running: Callable[[], bool]) -> None:
        while running():
            if self.socket.poll(100):
                message = self.socket.recv(copy=False)
                frame = np.frombuffer(message.buffer, np.uint8)
                self.socket.send(b"1" if int(frame[0]) + int(frame[-1]) > 400 else b"0")

    def close(self) -> None:
        self.socket.close(linger=0)
        self.context.term()
        self.folder.cleanup()


class Client:
    def __init__(self, kit: Any, shape: tuple[int, int, int], spin: bool) -> None:
        zmq: Any = importlib.import_module("zmq")
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.REQ)
        self.socket.connect(kit)

    def round_trip(self, frame: np.ndarray[Any, Any]) -> None:
        self.socket.send(frame, copy=False)
        self.socket.recv()

    def close(self) -> None:
        self.socket.close(linger=0)
        self.context.term()
