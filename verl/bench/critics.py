"""The critics that the ways ask: the sidecar, and the same engine behind HTTP."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from verl.errors import SidecarLostError
from verl.workers.sidecar_host import SidecarHost

READY_S = 300.0
JPEG_QUALITY = 95


class Sidecar:
    """``python -m sidecar`` with the configuration in ``file``."""

    def __init__(self, run_id: str, file: Path, log: Path) -> None:
        self.host = SidecarHost(run_id, str(file), str(log), None, 0)
        self.host.start()

    def wait_ready(self) -> None:
        self.host.wait_ready(READY_S)

    def processes(self) -> list[int]:
        assert self.host.process is not None
        supervisor = psutil.Process(self.host.process.pid)
        return [supervisor.pid, *(child.pid for child in supervisor.children(recursive=True))]

    def close(self) -> None:
        self.host.stop()


class HttpServer:
    """``python -m sidecar.bench.http_server`` with the same configuration, and the engine named."""

    def __init__(self, file: Path, engine: str, batch: int, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "sidecar.bench.http_server", "--config", str(file), "--batch", str(batch)]
        with open(log, "ab") as errors:
            self.process = subprocess.Popen(
                [*command, f"engine={engine}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            )
        self.port = 0

    def wait_ready(self) -> None:
        """Until it serves. Raises SidecarLostError with the end of its log."""
        assert self.process.stdout is not None
        output, said, found = self.process.stdout.fileno(), b"", None
        deadline = time.monotonic() + READY_S
        while found is None:
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise SidecarLostError(f"the HTTP critic was not ready within {READY_S:g} s; its log: {self.log}")
            more = os.read(output, 4096)
            if not more:
                raise SidecarLostError(f"the HTTP critic ended: {self.log.read_text(errors='replace')[-500:]}")
            said += more
            found = re.search(rb"^serving (\d+)\n", said, re.MULTILINE)
        self.port = int(found[1])

    def processes(self) -> list[int]:
        return [self.process.pid]

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


class HttpCritic:
    """A worker's client: one kept-alive connection, JSON, images as JPEG or raw bytes in base64."""

    def __init__(self, port: int, encoding: str, timeout_s: float = 120.0) -> None:
        self.encoding = encoding
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def done(self, frame: np.ndarray, task: str, step: int) -> bool:
        """Whether VLAC says done of an upright frame (H, W, 3) uint8; an unreadable answer is no."""
        answer = self._ask("done", [frame], task, step)
        return bool(answer["valid"] and answer["done"])

    def value(self, frames: Sequence[np.ndarray], task: str) -> float:
        """The last value over ``frames``, 0 to 1; 0 where the answer could not be read."""
        answer = self._ask("value", frames, task, 0)
        return min(1.0, max(0.0, answer["value"] / 100)) if answer["valid"] else 0.0

    def _ask(self, kind: str, frames: Sequence[np.ndarray], task: str, step: int) -> Any:
        images = [base64.b64encode(self._encoded(frame)).decode() for frame in frames]
        shape = frames[0].shape if self.encoding == "raw" else None
        body = json.dumps({"kind": kind, "task": task, "images": images, "shape": shape, "step": step})
        self._connection.request("POST", "/", body)
        response = self._connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise SidecarLostError(f"the HTTP critic answers with status {response.status}")
        return json.loads(text)

    def _encoded(self, frame: np.ndarray) -> bytes:
        if self.encoding == "raw":
            return frame.tobytes()
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(frame)).save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()

    def close(self) -> None:
        self._connection.close()
