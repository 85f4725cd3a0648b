"""The status page is a guest: however many connect to it, the sidecar's lanes are served."""

from __future__ import annotations

import contextlib
import io
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from prometheus_client import CollectorRegistry

from sidecar.last_judged import LastJudged
from sidecar.web import BoundedServer, Page
from tests.support.sidecar_process import sidecar, until, verdict

FLOOD = 2000
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Page, tuple[str, int]]]:
    """A page in this process whose connections may take 1 s, and where it listens."""
    monkeypatch.setattr(BoundedServer, "LONGEST_S", 1.0)
    one = Page("127.0.0.1", 0, CollectorRegistry(), lambda: {"run_id": "web", "ready": True}, LastJudged())
    try:
        yield one, ("127.0.0.1", int(one.address.rsplit(":", 1)[1]))
    finally:
        one.close()


def read(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            got += part
    return got


def test_no_more_connections_than_allowed(page: tuple[Page, tuple[str, int]]) -> None:
    """The one over the limit is told so; once the others' time is over there is room again."""
    one, address = page
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection(address, 10)) for _ in range(BoundedServer.MOST)]
        until(lambda: len(one._server._open) == BoundedServer.MOST)
        with socket.create_connection(address, 10) as more:
            assert read(more).startswith(b"HTTP/1.0 503")
        assert all(read(connection) == b"" for connection in held)
    until(lambda: not one._server._open)
    assert httpx.get(f"{one.address}/readyz", trust_env=False).status_code == 200


def test_who_drips_has_no_more_time_than_others(page: tuple[Page, tuple[str, int]]) -> None:
    """A byte now and then keeps no connection: no single read is too slow, all of them together are."""
    _, address = page
    started = time.monotonic()
    with socket.create_connection(address, 10) as connection, contextlib.suppress(OSError):
        connection.sendall(GET)
        while time.monotonic() < started + 20:
            connection.sendall(b"X")
            time.sleep(0.05)
    assert time.monotonic() - started < 10


def test_a_request_has_a_length(page: tuple[Page, tuple[str, int]]) -> None:
    """Headers and request lines without an end are not collected."""
    _, address = page
    for head in (GET + b"X: " + b"a" * 40_000, GET + b"".join(b"H%d: x\r\n" % i for i in range(5000)), b"G" * 40_000):
        with socket.create_connection(address, 10) as connection, contextlib.suppress(OSError):
            connection.sendall(head)
            answer = read(connection)
            assert answer == b"" or answer.startswith((b"HTTP/1.0 431", b"HTTP/1.0 414"))


def test_lanes_are_served_while_the_page_is_flooded(tmp_path: Path) -> None:
    """2000 connections that say half a request: the service keeps its descriptors and serves old and new lanes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with sidecar(tmp_path, "metrics_port=0") as one, ExitStack() as stack:
            # The service's alone: this process may hold more already, from tests before.
            resource.prlimit(one.service_pid(), resource.RLIMIT_NOFILE, (1024, hard))
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, FLOOD + 1000)), hard))
            address = next(line.split()[-1] for line in one.said.splitlines() if "metrics at" in line)
            host, port = address.removesuffix("/metrics").removeprefix("http://").split(":")
            lane, service = one.lane("old"), psutil.Process(one.service_pid())
            most = 0
            for i in range(FLOOD):
                connection = stack.enter_context(socket.create_connection((host, int(port)), 20))
                with contextlib.suppress(OSError):
                    connection.sendall(GET)
                if i % 200 == 0:
                    most = max(most, service.num_fds())
                    assert verdict(lane, i // 200).valid
            assert verdict(one.lane("new"), 0).epoch == 1
            assert most < 100 and service.num_threads() < 40
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_page_shows_the_frame_judged_last_and_figures_in_groups(tmp_path: Path) -> None:
    """Of a real sidecar: the very pixels, their task and verdict, the phase's name, milliseconds."""
    with sidecar(tmp_path, "metrics_port=0", "fixed.done_at_step=3") as one:
        address = next(line.split()[-1] for line in one.said.splitlines() if "metrics at" in line)
        address = address.removesuffix("/metrics")
        assert "none was judged yet" in httpx.get(address, trust_env=False).text
        assert httpx.get(f"{address}/frame/DONE.png", trust_env=False).status_code == 404
        lane = one.lane("env-7")
        assert verdict(lane, 3).done
        until(lambda: "done answered in" in httpx.get(address, trust_env=False).text)
        page = httpx.get(address, trust_env=False).text
        assert "phase ROLLOUT, epoch 1" in page and "lift the red cube" in page
        assert "<td>verdict<td>done<" in page and "<td>lane<td>env-7" in page
        assert re.search(r"<h2>done answered in</h2><table><tr><td>p50<td>[0-9.]+ ms", page)
        picture = httpx.get(f"{address}/frame/DONE.png?1", trust_env=False)
        seen = np.asarray(Image.open(io.BytesIO(picture.content)))
        assert (seen == np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8)).all()
