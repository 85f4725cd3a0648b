"""Critics on several other nodes: one may be down, slow, or come later."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from test_openai import FRAME, Remote, serving

from evo_vlac.queries import done_query
from sidecar.config import OpenaiConfig
from sidecar.config_file import load
from sidecar.engines import openai_servers
from sidecar.engines.openai_servers import OpenaiServers
from sidecar.errors import ConfigError, RemoteEngineError
from tests.support.sidecar_process import until

NOBODY = "http://127.0.0.1:9/v1"


@pytest.fixture
def pair() -> Iterator[tuple[list[Remote], list[str]]]:
    remotes = [Remote(), Remote()]
    with ExitStack() as stack:
        yield remotes, [stack.enter_context(serving(remote)) for remote in remotes]
        for remote in remotes:
            remote.release.set()


def over(*urls: str, **more: Any) -> OpenaiServers:
    options = {"retries": 0, "backoff_s": 0.01, "image_size": 0, **more}
    return OpenaiServers(OpenaiConfig(url=", ".join(urls), **options))


def asked(engine: OpenaiServers, count: int = 3) -> list[str | None]:
    return [answer.error for answer in engine.answer([done_query(FRAME, f"task {i}") for i in range(count)])]


def test_what_one_server_refuses_the_other_answers(pair: tuple[list[Remote], list[str]]) -> None:
    """Query for query: only what failed is asked again."""
    (first, second), urls = pair
    first.plan = [500]
    with closing(over(*urls)) as engine:
        assert asked(engine) == [None] * 3
    assert len(first.bodies) == 3 and len(second.bodies) == 1


def test_a_server_that_answers_nothing_is_asked_last(pair: tuple[list[Remote], list[str]]) -> None:
    """The next batches go to the other at once; when its pause is over it is asked again."""
    (first, second), urls = pair
    first.plan = [503] * 3
    with closing(over(*urls)) as engine:
        assert asked(engine) == [None] * 3
        seen = len(first.bodies)
        assert asked(engine) == [None] * 3
        assert len(first.bodies) == seen and len(second.bodies) == 6
        engine._servers[0].again_at = 0.0
        assert asked(engine) == [None] * 3
        assert len(first.bodies) == seen + 3


def test_batches_at_the_same_time_go_to_different_servers(pair: tuple[list[Remote], list[str]]) -> None:
    (first, second), urls = pair
    first.plan = ["hang"]
    with closing(over(*urls)) as engine:
        waiting = threading.Thread(target=asked, args=(engine, 1))
        waiting.start()
        until(lambda: bool(first.bodies))
        assert asked(engine, 1) == [None]
        assert len(second.bodies) == 1
        first.release.set()
        waiting.join(20)


def test_one_that_is_not_there_at_the_start_is_taken_in_when_it_comes(
    pair: tuple[list[Remote], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start does not need all of them."""
    monkeypatch.setattr(openai_servers, "_PAUSE_S", 0.0)
    (first, second), urls = pair
    port = int(urls[0].split(":")[2].split("/")[0])
    late = f"http://127.0.0.2:{port}/v1"  # nobody listens at this address
    with closing(over(late, urls[1])) as engine:
        assert asked(engine) == [None] * 3 and len(second.bodies) == 3
        engine._servers[0].config = OpenaiConfig(url=urls[0], retries=0, image_size=0)
        engine._servers[0].again_at = 0.0
        assert asked(engine) == [None] * 3 and len(first.bodies) == 3


def test_all_down_is_an_error_with_an_address() -> None:
    with pytest.raises(RemoteEngineError, match=r"openai\.url=http://127\.0\.0\.1:9/v1: no model list"):
        over(NOBODY, NOBODY)


def test_each_address_is_looked_at() -> None:
    with pytest.raises(ConfigError, match=r"openai\.url='http://a/v1,ftp://b': allowed: http"):
        load(None, ["run_id=x", "engine=openai", "openai.url=http://a/v1,ftp://b"])
