"""A local page: ``/metrics`` for Prometheus, ``/healthz`` and ``/readyz`` for probes, ``/`` for a person."""

from __future__ import annotations

import html
import json
import logging
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from sidecar.errors import PortInUseError

logger = logging.getLogger(__name__)
State = Callable[[], Mapping[str, Any]]
_PAGE = """<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=2><title>sidecar {run}</title>
<style>body{{font:15px/1.5 system-ui;margin:2rem auto;max-width:40rem}}td{{padding:.1rem 1rem .1rem 0}}
td+td{{text-align:right;font-variant-numeric:tabular-nums}}</style><h1>sidecar {run}</h1><table>{rows}</table>
<p><a href=/metrics>metrics</a> <a href=/status.json>status.json</a>"""


class Page:
    """Serves until :meth:`close`. ``state`` gives the numbers, with ``run_id`` and ``ready`` among them."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, state: State) -> None:
        handler = _handler(registry, state)
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except (OSError, OverflowError) as error:
            raise PortInUseError(f"metrics_port={port}: {host}:{port} cannot be used ({error})") from None
        self._server.daemon_threads = True
        self.address = f"http://{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="web", daemon=True)
        self._thread.start()
        logger.info("metrics at %s/metrics", self.address)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2)


def _handler(registry: CollectorRegistry, state: State) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
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
                rows = "".join(f"<tr><td>{html.escape(k)}<td>{html.escape(_short(v))}" for k, v in now.items())
                page = _PAGE.format(run=html.escape(str(now.get("run_id"))), rows=rows)
                self._send(200, "text/html; charset=utf-8", page.encode())
            else:
                self._send(404, "text/plain", b"there are: / /metrics /status.json /healthz /readyz\n")

        def _send(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            logger.debug(format, *args)

    return Handler


def _short(value: Any) -> str:
    return f"{value:,.3f}" if isinstance(value, float) else str(value)
