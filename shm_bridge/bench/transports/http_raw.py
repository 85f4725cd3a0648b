"""HTTP with the frame's bytes as the body, uvicorn serving; one kept-alive connection a worker."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import logging
import socket
from collections.abc import Callable
from typing import Any

import numpy as np

MAX_WORKERS = 64


def missing() -> str | None:
    return None if importlib.util.find_spec("uvicorn") else "uvicorn is not installed"


class Host:
    """A bare ASGI application: no framework's cost is added."""

    def __init__(self, workers: int, shape: tuple[int, int, int], spin: bool) -> None:
        self.shape = shape
        # with the protocol named: asyncio sets TCP_NODELAY only then, and without it every answer waits 40 ms
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(256)
        self.port = self.socket.getsockname()[1]

    def kit(self, worker: int) -> Any:
        return self.port

    def ends(self, body: bytes) -> int:
        frame = np.frombuffer(body, np.uint8).reshape(self.shape)
        return int(frame[0, 0, 0]) + int(frame[-1, -1, -1])

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        parts = []
        more = True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        answer = b'{"done": true}' if self.ends(b"".join(parts)) > 400 else b'{"done": false}'
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def serve(self, running: Callable[[], bool]) -> None:
        uvicorn: Any = importlib.import_module("uvicorn")
        config = uvicorn.Config(
            self.application, interface="asgi3", log_level=logging.ERROR, access_log=False, lifespan="off"
        )
        server = uvicorn.Server(config)

        async def until_done() -> None:
            task = asyncio.create_task(server.serve(sockets=[self.socket]))
            while running():
                await asyncio.sleep(0.1)
            server.should_exit = True
            server.force_exit = True
            await task

        asyncio.run(until_done())

    def close(self) -> None:
        self.socket.close()


class Client:
    def __init__(self, kit: Any, shape: tuple[int, int, int], spin: bool) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", kit, timeout=30)
        self._connect()

    def _connect(self) -> None:
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def body(self, frame: np.ndarray[Any, Any]) -> bytes:
        return frame.tobytes()

    def round_trip(self, frame: np.ndarray[Any, Any]) -> None:
        self.connection.request("POST", "/", self.body(frame))
        response = self.connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"HTTP status {response.status}")

    def close(self) -> None:
        self.connection.close()
