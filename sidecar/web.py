"""A local page: ``/metrics`` for Prometheus, ``/healthz`` and ``/readyz`` for probes, ``/`` for a person."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from sidecar.errors import PortInUseError
from sidecar.last_judged import LastJudged
from sidecar.status_page import status_page

logger = logging.getLogger(__name__)
_SILENCE_S = 3.0
_FULL = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
State = Callable[[], Mapping[str, Any]]


class Page:
    """Serves until :meth:`close`. ``state`` gives the numbers, ``run_id`` and ``ready`` among them, ``judged`` the
    pictures."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, state: State, judged: LastJudged) -> None:
        handler = _handler(registry, state, judged)
        try:
            self._server = BoundedServer((host, port), handler)
        except (OSError, OverflowError) as error:
            raise PortInUseError(f"metrics_port={port}: {host}:{port} cannot be used ({error})") from None
        self.address = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)
        self._thread.start()
        logger.info("metrics at %s/metrics", self.address)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2)


class BoundedServer(ThreadingHTTPServer):
    """At most ``MOST`` connections, each for at most ``LONGEST_S`` seconds: the process needs its
    descriptors and threads for lanes. When all are taken a new connection gets a 503 and is closed."""

    MOST = 16
    LONGEST_S = 10.0
    daemon_threads = True
    request_queue_size = 128  # the kernel's; a short one makes connecting slow

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: dict[socket.socket, float] = {}  # and when each has to be over
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._open) >= self.MOST
            if not full:
                self._open[request] = time.monotonic() + self.LONGEST_S
        if full:
            self._refuse(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._lock:
            self._open.pop(request, None)

    def service_actions(self) -> None:
        """Twice a second: ends connections that have been open too long, also those that still send a little."""
        now = time.monotonic()
        with self._lock:
            late = [request for request, end in self._open.items() if now > end]
        for request in late:
            with contextlib.suppress(OSError):  # it has just ended by itself
                request.shutdown(socket.SHUT_RDWR)  # its thread's read or write returns, and closes it

    def _refuse(self, request: socket.socket) -> None:
        with contextlib.suppress(OSError):
            request.settimeout(0)
            request.sendall(_FULL)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went away is normal: logged at debug level only."""
        logger.debug("a request of %s ended", client_address, exc_info=True)


class _Head(BufferedReader):
    """Reads lines until they are too many bytes in all: 16 KiB are enough for any request line and its headers."""

    left = 16 << 10

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise LineTooLong("request")
        return line


def _handler(registry: CollectorRegistry, state: State, judged: LastJudged) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SILENCE_S

        def setup(self) -> None:
            super().setup()
            self.rfile = _Head(self.connection.makefile("rb", 0))

        def do_GET(self) -> None:
            now = state()
            if self.path == "/metrics":
                self._send(200, CONTENT_TYPE_LATEST, generate_latest(registry))
            elif self.path == "/healthz":
                self._send(200, "text/plain", b"alive\n")
            elif self.path == "/readyz":
                ready = bool(now.get("ready"))
                self._send(200 if ready else 503, "text/plain", b"ready\n" if ready else b"not ready\n")
            elif self.path == "/status.json":
                self._send(200, "application/json", json.dumps(now).encode())
            elif self.path == "/":
                self._send(200, "text/html; charset=utf-8", status_page(now, judged).encode())
            elif (frame := self._frame()) is not None:
                self._send(200, "image/png", frame)
            else:
                self._send(404, "text/plain", b"there are: / /frame/DONE.png /metrics /status.json /healthz /readyz\n")

        def _frame(self) -> bytes | None:
            """The picture at ``/frame/DONE.png``; what follows a question mark keeps browsers from an old one."""
            by_name = {f"/frame/{kind.name}.png": one for kind, one in judged.newest().items()}
            found = by_name.get(self.path.partition("?")[0])
            return None if found is None else found.png()

        def _send(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            logger.debug(format, *args)

    return Handler
