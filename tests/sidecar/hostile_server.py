"""A server that answers chat completions with whatever bytes a test gives it, at whatever pace."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Send = Callable[[bytes], None]
Reply = bytes | Callable[[Send, threading.Event], None]
MODELS = {"data": [{"id": "critic"}]}


class Hostile:
    """``reply`` is what a POST gets; ``models`` what the model list is. ``sent`` counts the bytes of replies."""

    def __init__(self) -> None:
        self.reply: Reply = b""
        self.models: Reply = http(MODELS)
        self.sent = 0
        self.over = threading.Event()

    def serve(self, connection: socket.socket) -> None:
        """One request; then the connection is closed."""
        with connection, contextlib.suppress(OSError):
            connection.settimeout(20)
            head = b""
            while b"\r\n\r\n" not in head:
                part = connection.recv(65536)
                if not part:
                    return
                head += part
            self._read_body(connection, head)
            reply = self.models if head.startswith(b"GET") else self.reply

            def send(part: bytes) -> None:
                connection.sendall(part)
                self.sent += len(part)

            if isinstance(reply, bytes):
                send(reply)
            else:
                reply(send, self.over)

    def _read_body(self, connection: socket.socket, head: bytes) -> None:
        fields, _, body = head.partition(b"\r\n\r\n")
        named = dict(field.lower().split(b":", 1) for field in fields.split(b"\r\n")[1:])
        length = int(named.get(b"content-length", 0))
        while len(body) < length:
            body += connection.recv(1 << 20)


def http(body: Any, status: int = 200, **headers: str) -> bytes:
    """A whole response; ``body`` as JSON unless it is bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Content-Type": "application/json", "Content-Length": str(len(content)), "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + content


def completion(content: Any, logprob: Any = -0.01, token: Any = None, **more: Any) -> dict[str, Any]:
    """A chat completion of one token."""
    one = {"token": content if token is None else token, "logprob": logprob}
    return {"choices": [{"message": {"content": content}, "logprobs": {"content": [{**one, **more}]}}]}


def endless(head: bytes, part: bytes, pause_s: float = 0.0, most: int = 1 << 30) -> Reply:
    """``head``, then ``part`` again and again, until the other side or the test has enough."""

    def reply(send: Send, over: threading.Event) -> None:
        send(head)
        for _ in range(most // len(part)):
            send(part)
            if over.wait(pause_s):
                return

    return reply


@contextmanager
def hostile_server() -> Iterator[tuple[Hostile, str]]:
    """The server and its address, ending in /v1."""
    hostile = Hostile()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(0.05)

        def accept() -> None:
            while not hostile.over.is_set():
                with contextlib.suppress(TimeoutError):
                    threading.Thread(target=hostile.serve, args=(listener.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield hostile, f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            hostile.over.set()
            thread.join(5)
