"""A remote critic that speaks enough of OpenAI's API, and misbehaves as it is told.

It looks at the picture: :mod:`tests.faults.fenv` draws the step into a corner, and from ``DONE_AT`` on the task is
done, as with the sidecar's fixed engine. So a run with it is the same, episode by episode, as one without.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from tests.faults.fenv import step_of

DONE_AT = 12
SURE = -1e-6
HUGE_BYTES, PIECE = 600 << 20, 1 << 20
DRIP_S = 2.0
HANG_S = 600.0


class FakeServer:
    """Serves in threads of this process until closed. ``mode`` may be changed at any time; see :data:`REPLIES`."""

    def __init__(self) -> None:
        self.mode = "ok"
        self.poison: str | None = None  # digest of the picture that is never answered, once one was chosen
        self.refused = 0  # requests that got something else than an answer
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, name="critic", daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def arguments(self) -> list[str]:
        """The configuration of a run that asks here."""
        config = "critic.sidecar.config"
        return [
            f"{config}.engine=openai",
            f"{config}.openai.url={self.url}",
            f"{config}.openai.image_size=0",
            f"{config}.openai.timeout_s=3",
            f"{config}.openai.retries=1",
        ]


def answer(pictures: list[Image.Image], done: bool) -> bytes:
    """A well-formed reply: done by the last picture's step, or 10 percent of progress."""
    text = str(int(step_of(pictures[-1]) >= DONE_AT)) if done else "+10"
    other = {"0": "1", "1": "0"}.get(text, "+11")
    top = [{"token": text, "logprob": SURE}, {"token": other, "logprob": -14.0}]
    return completion(text, [{"token": text, "logprob": SURE, "top_logprobs": top}])


def completion(content: Any, tokens: list[dict[str, Any]] | None = None) -> bytes:
    """A chat completion with this content, whatever it is."""
    return json.dumps({"choices": [{"message": {"content": content}, "logprobs": {"content": tokens or []}}]}).encode()


OVER_ONE = [{"token": "1", "logprob": 1000.0, "top_logprobs": [{"token": "1", "logprob": 1000.0}]}]
REPLIES: dict[str, tuple[int, bytes]] = {  # by mode; "ok", "poison" and those of _Handler beside them
    "401": (401, b"no such key"),
    "500": (500, b"boom"),
    "login": (200, b"<html><form action=/login>please log in</form></html>"),
    "null": (200, b"null"),
    "cut": (200, b'{"choices": [{"mess'),
    "number": (200, completion(1)),
    "list": (200, completion([{"type": "text", "text": "1"}])),
    "probability": (200, completion("1", OVER_ONE)),
    "unreadable": (200, completion("as a language model")),
}


def _handler(server: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        critic = server

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    critic: FakeServer

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._send(200, json.dumps({"data": [{"id": "critic"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        pictures = [part["image_url"]["url"] for part in body["messages"][-1]["content"] if part["type"] == "image_url"]
        mode = self.critic.mode
        with contextlib.suppress(OSError):  # the client may be gone
            if mode == "ok" or (mode == "poison" and not self._poisoned(pictures[-1])):
                images = [_picture(one) for one in pictures]
                self._send(200, answer(images, body.get("top_logprobs") == 20))
                return
            self.critic.refused += 1
            self._misbehave(mode)

    def _poisoned(self, picture: str) -> bool:
        """The first picture of an early step seen in this mode is never answered again, all others are.

        After the done step pictures are asked about ahead: nobody waits for the answers.
        """
        name = hashlib.blake2b(picture.encode(), digest_size=16).hexdigest()
        if self.critic.poison is None and 0 < step_of(_picture(picture)) < DONE_AT:
            self.critic.poison = name
        return self.critic.poison == name

    def _misbehave(self, mode: str) -> None:
        match mode:
            case "poison":
                self._send(500, b"this one never")
            case "hang":
                self.critic.over.wait(HANG_S)
            case "drop":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)  # a reset, not an end
                self.close_connection = True
            case "huge":
                self._head(200, HUGE_BYTES)
                for _ in range(HUGE_BYTES // PIECE):
                    self.wfile.write(b" " * PIECE)
            case "drip":
                self._head(200, 100_000)
                while not self.critic.over.wait(DRIP_S):
                    self.wfile.write(b" ")
                    self.wfile.flush()
            case _:
                self._send(*REPLIES[mode])

    def _send(self, code: int, body: bytes) -> None:
        self._head(code, len(body))
        self.wfile.write(body)

    def _head(self, code: int, size: int) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(size))
        self.end_headers()


def _picture(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def for_a_while(server: FakeServer, mode: str, seconds: float) -> None:
    """Misbehaves for so long, then is well again."""
    server.mode = mode
    time.sleep(seconds)
    server.mode = "ok"
