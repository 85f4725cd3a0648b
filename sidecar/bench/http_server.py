"""The critic behind HTTP, as reward servers are written: what ``python -m verl.bench`` measures the bridge against.

    worker --POST JSON {kind, task, images in base64, step}--> uvicorn --queue--> engine thread --> {done, value, ...}

Same engines, same weights, same questions, same reading of the answers as in the sidecar; only the way there differs.
``--batch 1`` answers one request at a time, as such servers mostly do; with more, what has collected goes together.

    python -m sidecar.bench.http_server --config FILE [key=value ...] [--batch 1]

It says ``serving PORT`` once a probe question was answered, and ends with its parent. For measurements only.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib
import io
import itertools
import json
import logging
import os
import queue
import socket
import sys
import threading
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Picture

from evo_vlac import queries, values
from evo_vlac.engine import Answer, Image, Query
from evo_vlac.parsing import parse_critic, parse_done
from sidecar.config import Config
from sidecar.config_file import load
from sidecar.engines import registry
from sidecar.engines.base import SidecarEngine
from sidecar.errors import SidecarError
from sidecar.lifeline import die_with
from sidecar.probe import probe_query, read_probe
from sidecar.reply_builder import VALUE_MODES
from sidecar.resources import limit_resources

_HEADERS = [(b"content-type", b"application/json")]


@dataclass(frozen=True, slots=True)
class Request:
    """A question as it came: the queries it needs, and where its answer goes."""

    kind: str
    asked: list[Query]
    loop: asyncio.AbstractEventLoop
    reply: asyncio.Future[dict[str, Any]]


class CriticServer:
    """An ASGI application around an engine."""

    def __init__(self, config: Config, engine: SidecarEngine, batch: int) -> None:
        self.config, self.engine, self.batch = config, engine, batch
        self._waiting: queue.SimpleQueue[Request] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="engine", daemon=True).start()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One POST, one question."""
        if scope["type"] != "http":
            return
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = json.loads(b"".join(parts))
        loop = asyncio.get_running_loop()
        request = Request(body["kind"], self._queries(body), loop, loop.create_future())
        self._waiting.put(request)
        answer = json.dumps(await request.reply).encode()
        length = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS + length})
        await send({"type": "http.response.body", "body": answer})

    def _queries(self, body: dict[str, Any]) -> list[Query]:
        frames = [_decoded(text, body["shape"]) for text in body["images"]]
        if body["kind"] == "done":
            # a server knows nothing of who asks: the step is for the stand-in engine, which answers by it
            keys: Sequence[Hashable] = ((body["step"],),) if self.config.engine == "fixed" else ()
            return [queries.done_query(frames[-1], body["task"], keys=keys)]
        return [queries.critic_query(a, b, body["task"]) for a, b in itertools.pairwise(frames)]

    def _work(self) -> None:
        while True:
            taken = [self._waiting.get()]
            while sum(len(one.asked) for one in taken) < self.batch and not self._waiting.empty():
                taken.append(self._waiting.get())
            answers = iter(self._answers([query for one in taken for query in one.asked]))
            for one in taken:
                reply = self._read(one.kind, [next(answers) for _ in one.asked])
                one.loop.call_soon_threadsafe(one.reply.set_result, reply)

    def _answers(self, asked: list[Query]) -> list[Answer]:
        """Questions of one kind go to the engine together, as in the sidecar."""
        out: dict[int, Answer] = {}
        for kind in dict.fromkeys(query.kind for query in asked):
            indices = [i for i, query in enumerate(asked) if query.kind == kind]
            out.update(zip(indices, self.engine.answer([asked[i] for i in indices])))
        return [out[i] for i in range(len(asked))]

    def _read(self, kind: str, answers: list[Answer]) -> dict[str, Any]:
        if kind == "done":
            result = parse_done(answers[0], self.config.threshold)
            return {"done": result.done, "probability": result.probability, "valid": result.valid}
        critics = [parse_critic(answer, rich=self.config.values.rich) for answer in answers]
        numbers = [critic.value if critic.valid else float("nan") for critic in critics]
        listed = values.critic_to_values(numbers, VALUE_MODES[self.config.values.mode])
        return {"value": listed[-1], "valid": all(critic.valid for critic in critics)}


def _decoded(text: str, shape: Sequence[int] | None) -> Image:
    """An image of the request: raw bytes of ``shape``, or without one a JPEG or PNG file."""
    data = base64.b64decode(text)
    if shape is not None:
        return np.frombuffer(data, np.uint8).reshape(shape)
    with Picture.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until its parent ends or SIGTERM comes."""
    parser = argparse.ArgumentParser(prog="python -m sidecar.bench.http_server")
    parser.add_argument("--config", metavar="FILE", help="the sidecar's YAML")
    parser.add_argument("--batch", type=int, default=1, help="questions answered together")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args(arguments)
    die_with(os.getppid())
    try:
        config = load(given.config, given.overrides)
        limit_resources(config)
        registry.check(config)
        engine = registry.load(config)
        failure = read_probe(engine.answer([probe_query()])[0])
    except SidecarError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    if failure is not None:
        sys.stderr.write(f"error: the engine does not answer a probe question: {failure}\n")
        return 1
    # with the protocol named: asyncio sets TCP_NODELAY only then, and without it every answer waits 40 ms
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(256)
        sys.stdout.write(f"serving {listening.getsockname()[1]}\n")
        sys.stdout.flush()
        os.dup2(2, 1)  # libraries must not fill a pipe that is no longer read
        uvicorn: Any = importlib.import_module("uvicorn")
        application = CriticServer(config, engine, given.batch)
        settings = uvicorn.Config(
            application,
            interface="asgi3",
            log_level=logging.ERROR,
            access_log=False,
            lifespan="off",
            timeout_keep_alive=3600,
        )
        uvicorn.Server(settings).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
