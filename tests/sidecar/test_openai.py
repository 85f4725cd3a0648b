"""The remote engine against a server of its own kind of trouble: slow, failing, refusing, forgetting, dead.

That it agrees with the other engines on a real server is in test_engines_agree.py; here faults must be timed, so the
server is a small one that misbehaves on request.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from evo_vlac.parsing import parse_done
from evo_vlac.queries import done_query
from sidecar.config import OpenaiConfig
from sidecar.engines.openai import OpenaiEngine
from sidecar.errors import ConfigError, RemoteEngineError

FRAME = np.zeros((16, 16, 3), np.uint8)


class Remote:
    """What the server shall do next, and what it was sent. ``plan``: a status per request, or "hang"; then 200."""

    def __init__(self) -> None:
        self.plan: list[int | str] = []
        self.bodies: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.release = threading.Event()
        self.together: threading.Barrier | None = None

    def reply(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            self.bodies.append(body)
            step = self.plan.pop(0) if self.plan else 200
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        if self.together is not None:
            self.together.wait(20)
        if step == "hang":
            self.release.wait(20)
        with self.lock:
            self.at_once -= 1
        if step == "nonsense":
            return 200, {"choices": []}
        if isinstance(step, int) and step != 200:
            return step, {"error": "as asked"}
        top = [{"token": "1", "logprob": -0.01}, {"token": "0", "logprob": -5.0}]
        content = [{"token": "1", "logprob": -0.01, "top_logprobs": top}]
        return 200, {"choices": [{"message": {"content": "1"}, "logprobs": {"content": content}}]}


@contextmanager
def serving(remote: Remote, port: int = 0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(200, {"data": [{"id": "critic"}]})

        def do_POST(self) -> None:
            self.answer(*remote.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def answer(self, status: int, tree: dict[str, Any]) -> None:
            body = json.dumps(tree).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        remote.release.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def remote() -> Iterator[tuple[Remote, str]]:
    one = Remote()
    with serving(one) as url:
        yield one, url


def engine(url: str, pauses: list[float] | None = None, **options: Any) -> OpenaiEngine:
    config = OpenaiConfig(url=url, image_size=16, **{"timeout_s": 5.0, **options})
    return OpenaiEngine(config, (pauses if pauses is not None else []).append)


def test_a_passing_failure_is_tried_again_with_growing_pauses(remote: tuple[Remote, str]) -> None:
    """503 and 429, then an answer: valid, after two pauses, the second longer on average."""
    server, url = remote
    server.plan = [503, 429]
    pauses: list[float] = []
    with closing(engine(url, pauses, backoff_s=0.2)) as client:
        (answer,) = client.answer([done_query(FRAME, "x")])
    assert parse_done(answer).done and client.retried == 2
    assert 0.1 <= pauses[0] <= 0.2 <= pauses[1] <= 0.4


def test_what_is_refused_is_not_tried_again(remote: tuple[Remote, str]) -> None:
    """400: an error of that query at once, with the server's words."""
    server, url = remote
    server.plan = [400]
    with closing(engine(url)) as client:
        (answer,) = client.answer([done_query(FRAME, "x")])
    assert answer.error is not None and "HTTP 400" in answer.error and url in answer.error
    assert len(server.bodies) == 1 and not parse_done(answer).valid


def test_a_server_that_hangs_is_given_up(remote: tuple[Remote, str]) -> None:
    """The time-out holds, is tried again, and ends as an error that says how long."""
    server, url = remote
    server.plan = ["hang", "hang"]
    with closing(engine(url, timeout_s=0.3, retries=1)) as client:
        (answer,) = client.answer([done_query(FRAME, "x")])
    assert answer.error == f"{url}: no answer within 0.3 s (2 tries)"


def test_one_failure_leaves_the_others(remote: tuple[Remote, str]) -> None:
    """Errors and nonsense belong to their queries."""
    server, url = remote
    server.plan = [400, 200, "nonsense", 200]
    with closing(engine(url, concurrency=1)) as client:
        answers = client.answer([done_query(FRAME, "x") for _ in range(4)])
    assert [parse_done(answer).valid for answer in answers] == [False, True, False, True]
    assert answers[2].error is not None and "no chat completion" in answers[2].error


def test_requests_travel_side_by_side(remote: tuple[Remote, str]) -> None:
    """All four are on their way at once (the server answers none before it has all), and no more than allowed."""
    server, url = remote
    server.together = threading.Barrier(4)
    with closing(engine(url, concurrency=4, timeout_s=30)) as client:
        answers = client.answer([done_query(FRAME, "x") for _ in range(8)])
    assert all(parse_done(answer).done for answer in answers) and server.most_at_once == 4


def test_a_dead_server_is_an_error_each_and_comes_back(remote: tuple[Remote, str]) -> None:
    """While nobody listens every query fails with the address; when somebody does again, queries are answered."""
    _, url = remote
    with closing(engine(url, retries=0)) as client:
        alive = str(client._client._client.base_url)
        client._client._client.base_url = "http://127.0.0.1:9/v1"
        (answer,) = client.answer([done_query(FRAME, "x")])
        assert answer.error is not None and "ConnectError" in answer.error
        client._client._client.base_url = alive
        (answer,) = client.answer([done_query(FRAME, "x")])
        assert parse_done(answer).done


def test_images_are_sent_once_where_the_server_keeps_them(remote: tuple[Remote, str]) -> None:
    """The second time an image goes by its name only; a server that has forgotten it gets it again."""
    server, url = remote
    query = done_query(FRAME, "x", keys=[("frame", 1)])
    with closing(engine(url, image_ids=True)) as client:
        client.answer([query])
        client.answer([query])
        server.plan = [400]
        (answer,) = client.answer([query])
    sent = [body["messages"][-1]["content"][0] for body in server.bodies]
    assert [part["image_url"] is not None for part in sent] == [True, False, False, True]
    assert len({part["uuid"] for part in sent}) == 1 and parse_done(answer).done


def test_nobody_there_is_said_at_start() -> None:
    """The address is named, and that there is no model list."""
    with pytest.raises(RemoteEngineError, match=r"openai.url=http://127.0.0.1:9/v1: no model list there"):
        engine("http://127.0.0.1:9/v1")


def test_a_key_that_is_not_set(monkeypatch: pytest.MonkeyPatch, remote: tuple[Remote, str]) -> None:
    """The variable is named, not its value."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"openai\.api_key_env=NO_SUCH_KEY"):
        engine(remote[1], api_key_env="NO_SUCH_KEY")
