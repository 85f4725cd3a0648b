"""Whatever a server sends is an INVALID or FAILED verdict, in bounded memory and time; the next question is answered.

INVALID only where a whole completion came whose text cannot be read; everything else is an outage.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_server import Hostile, Reply, completion, endless, hostile_server, http

from evo_vlac.parsing import parse_done
from evo_vlac.queries import done_query
from shm_bridge import Status
from sidecar.config import OpenaiConfig
from sidecar.engines.guard import GuardedEngine
from sidecar.engines.openai import OpenaiEngine
from sidecar.errors import ConfigError, RemoteEngineError
from tests.support.sidecar_process import sidecar, verdict

FRAME = np.zeros((16, 16, 3), np.uint8)
TRY_S = 0.6
OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 629145600\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GOOD = http(completion("1"))

NO_COMPLETION: dict[str, Any] = {
    "login page": b"<html>login</html>",
    "null": None,
    "number": 1,
    "text": "1",
    "list": [],
    "empty": b"",
    "cut": b'{"choices": [{"mess',
    "no choices": {"choices": []},
    "choices null": {"choices": None},
    "choices text": {"choices": "1"},
    "choice null": {"choices": [None]},
    "no message": {"choices": [{}]},
    "message text": {"choices": [{"message": "1"}]},
    "content null": completion(None, token="1"),
    "content refused": {"choices": [{"message": {"content": None, "refusal": "I will not"}}]},
    "content filtered": {"choices": [{"message": {"content": "1"}, "finish_reason": "content_filter"}]},
    "content number": completion(1),
    "content list": completion([{"type": "text", "text": "1"}], token="1"),
    "logprobs list": {"choices": [{"message": {"content": "1"}, "logprobs": [1]}]},
    "tokens text": {"choices": [{"message": {"content": "1"}, "logprobs": {"content": "1"}}]},
    "token null": {"choices": [{"message": {"content": "1"}, "logprobs": {"content": [None]}}]},
    "token number": completion("1", token=1),
    "logprob text": completion("1", "-0.1"),
    "logprob true": completion("1", True),
    "logprob null": completion("1", None),
    "logprob NaN": completion("1", float("nan")),
    "logprob infinite": completion("1", float("inf")),
    "logprob over 709": completion("1", 1000.0),
    "logprob over 0": completion("1", 50.0),
    "logprob too long": completion("1", 10**400),
    "alternative over 709": completion("1", top_logprobs=[{"token": "1", "logprob": 1000.0}]),
    "alternatives text": completion("1", top_logprobs="1"),
    "alternative number": completion("1", top_logprobs=[{"token": 1, "logprob": -1.0}]),
    "deep": b'{"choices":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep as content": b'{"choices":[{"message":{"content":' + b"[" * 900 + b"]" * 900 + b"}}]}",
    "no UTF-8": b'{"choices": [{"message": {"content": "\xff\xfe"}}]}',
    "digits": b'{"choices": ' + b"9" * 100_000 + b"}",
    "many alternatives": completion("1", top_logprobs=[{"token": "1", "logprob": -1.0}] * 40_000),
}
TRANSPORT: dict[str, tuple[Reply, str]] = {
    "401": (http({"error": "no"}, 401), "HTTP 401"),
    "500": (http({"error": "boom"}, 500), "HTTP 500"),
    "500 without an end": (endless(b"HTTP/1.1 500 X\r\nContent-Length: 629145600\r\n\r\n", b"x" * 65536), "HTTP 500"),
    "redirect": (http(b"", 302, Location="/v1/chat/completions"), "HTTP 302"),
    "switching": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "RemoteProtocolError"),
    "cut": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}", "RemoteProtocolError"),
    "closed": (b"", "RemoteProtocolError"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "RemoteProtocolError"),
    "gzip": (http(gzip.compress(b" " * (1 << 24)), Content_Encoding="gzip"), "encoded as 'gzip'"),
    "600 MB": (endless(OK_HEAD, b"x" * 65536), "max_reply_bytes"),
    "600 MB of chunks": (endless(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"), "max_reply_bytes"),
    "headers without an end": (endless(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"b" * 4096 + b"\r\n"), "RemoteProtocol"),
    "a header without an end": (endless(b"HTTP/1.1 200 OK\r\nX: ", b"b" * 4096), "RemoteProtocolError"),
    "endless continues": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001), "no answer within"),
    "a byte now and then": (endless(OK_HEAD, b" ", 0.05), "no answer within"),
    "a header's byte now and then": (endless(b"HTTP/1.1 200 OK\r\nX: ", b"b", 0.05), "no answer within"),
    "empty chunks' extensions": (endless(CHUNKED + b"1;", b"x=y;", 0.05), "no answer within"),
    "nothing": (endless(b"", b"x", 30.0, 1), "no answer within"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Hostile, str]]:
    with hostile_server() as both:
        yield both


def answer_of(url: str, **options: Any) -> Any:
    config = OpenaiConfig(url=url, image_size=16, **{"timeout_s": 10.0, "retries": 0, "model": "critic", **options})
    with closing(OpenaiEngine(config)) as engine:
        return GuardedEngine(engine, 4).answer([done_query(FRAME, "x")])[0]


@pytest.mark.parametrize("case", NO_COMPLETION)
def test_what_is_no_completion_is_an_error(server: tuple[Hostile, str], case: str) -> None:
    """Status 200, but nobody knows what the model said: an error with a reason of bounded length, never a text."""
    hostile, url = server
    hostile.reply = http(NO_COMPLETION[case])
    answer = answer_of(url)
    assert answer.error is not None and answer.text == "" and 0 < len(answer.error) < 500
    assert not parse_done(answer).valid


@pytest.mark.parametrize("case", TRANSPORT)
def test_what_the_transport_does_is_an_error_in_time(server: tuple[Hostile, str], case: str) -> None:
    """Slow, endless, cut, compressed or no HTTP: the reason is named, in time, and little of it is read."""
    hostile, url = server
    hostile.reply, reason = TRANSPORT[case]
    hostile.sent, started = 0, time.monotonic()
    limit = TRY_S if reason == "no answer within" else 10.0
    answer = answer_of(url, timeout_s=limit)
    assert answer.error is not None and reason in answer.error
    assert time.monotonic() - started < limit + 5  # of which most is a busy machine's
    assert hostile.sent < 64 << 20  # what the sockets hold, and a little more


@pytest.mark.parametrize("text", ["", "gar-bage", "\ud800", "１", "2"])
def test_an_unreadable_text_is_no_error(server: tuple[Hostile, str], text: str) -> None:
    """A whole completion came: its text is kept, and that it cannot be read is found where it is parsed."""
    hostile, url = server
    hostile.reply = http(completion(text))
    answer = answer_of(url)
    assert (answer.error, answer.text) == (None, text) and not parse_done(answer).valid


def test_a_probability_of_nothing_is_one(server: tuple[Hostile, str]) -> None:
    """Minus infinity is a log-probability (vLLM's, of what was masked); a tiny positive one is rounding."""
    hostile, url = server
    tops = [{"token": "1", "logprob": 1e-4}, {"token": "0", "logprob": float("-inf")}]
    hostile.reply = http(completion("1", 1e-4, top_logprobs=tops))
    result = parse_done(answer_of(url))
    assert result.valid and result.probability == 1.0


def test_cookies_are_not_kept(server: tuple[Hostile, str]) -> None:
    """A server that sets a new one with each reply does not make requests longer and longer."""
    hostile, url = server
    hostile.reply = http(completion("1"), Set_Cookie="a=b")
    with closing(OpenaiEngine(OpenaiConfig(url=url, model="critic", image_size=16))) as engine:
        assert engine.answer([done_query(FRAME, "x")])[0].error is None
        assert not engine._client._client.cookies


def test_a_server_that_hangs_costs_no_more_than_the_patience(server: tuple[Hostile, str]) -> None:
    """Retries and queries that wait for a connection included: the engine is back before it counts as wedged."""
    hostile, url = server
    hostile.reply = endless(OK_HEAD, b" ", 0.05)
    config = OpenaiConfig(url=url, model="critic", image_size=16, timeout_s=0.5, retries=20, concurrency=2)
    started = time.monotonic()
    with closing(OpenaiEngine(config, patience_s=1.5)) as engine:
        answers = engine.answer([done_query(FRAME, "x") for _ in range(8)])
    assert time.monotonic() - started < 1.5 + 5
    assert all("no answer within" in str(a.error) or "too slow" in str(a.error) for a in answers)


@pytest.mark.parametrize(
    "reply",
    [
        http(None),
        http([]),
        http({"data": None}),
        http({"data": [1]}),
        http({"data": [{"id": 1}]}),
        http({}),
        http(b"<html>login</html>"),
        http(NO_COMPLETION["deep"]),
        http({}, 401),
        b"",
        endless(OK_HEAD, b"x" * 65536),
        endless(OK_HEAD, b" ", 0.05),
    ],
)
def test_a_model_list_that_is_none(server: tuple[Hostile, str], reply: Reply) -> None:
    """At the start, too: a typed error that names the address, in time."""
    hostile, url = server
    hostile.models = reply
    with pytest.raises(RemoteEngineError, match=f"openai.url={url}: no model list there"):
        OpenaiEngine(OpenaiConfig(url=url, timeout_s=TRY_S))


@pytest.mark.parametrize("url", ["http://[::1", "http://host:port/v1", "http://a\x00b/v1"])
def test_an_address_that_is_none(url: str) -> None:
    """A matter of the configuration, named with its key."""
    with pytest.raises(ConfigError, match=r"openai\.url="):
        OpenaiEngine(OpenaiConfig(url=url))


def test_no_reply_ends_the_sidecar(tmp_path: Path) -> None:
    """Through a real one: each is FAILED or INVALID by its kind, the service is the one that was started."""
    cases = ("content list", "content number", "logprob over 709", "null", "login page", "deep", "content null")
    with hostile_server() as (hostile, url):
        hostile.reply = GOOD
        options = (f"openai.url={url}", "openai.retries=0", "openai.timeout_s=2", "openai.image_size=16")
        with sidecar(tmp_path, *options, engine="openai") as one:
            lane, step = one.lane(), 0
            for case in cases:
                hostile.reply = http(NO_COMPLETION[case])
                bad, step = verdict(lane, step), step + 1
                assert (case, bad.status, bad.valid, bad.done) == (case, Status.FAILED, False, False)
            hostile.reply = http(completion("gar-bage"))
            unread = verdict(lane, step)
            assert (unread.status, unread.valid) == (Status.INVALID, False)
            hostile.reply = GOOD
            good = verdict(lane, step + 1)
            assert good.valid and good.done and good.epoch == 1


def test_a_server_that_is_away_while_idle_does_not_end_the_sidecar(tmp_path: Path) -> None:
    """A probe without an answer means that our engine is broken only where the model is ours."""
    with hostile_server() as (hostile, url):
        hostile.reply = GOOD
        options = (f"openai.url={url}", "openai.retries=0", "openai.image_size=16", "health.probe_every_s=0.2")
        with sidecar(tmp_path, *options, engine="openai") as one:
            lane = one.lane()
            assert verdict(lane, 0).done
            hostile.reply = http({}, 503)
            deadline = time.monotonic() + 20
            while "a probe was not answered" not in one.said:
                assert time.monotonic() < deadline and one.process.poll() is None
                time.sleep(0.05)
            hostile.reply = GOOD
            again = verdict(lane, 1)
            assert again.done and again.epoch == 1
