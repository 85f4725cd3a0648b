"""Critics on several other nodes: each batch goes to one server, and what that one does not answer to the next.

    batch --> the server with the least under way --errors--> the next one --errors--> FAILED, as with a single server

A server that answered nothing is asked last for a while, longer each time; one that was not there at the start is taken
in when it comes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from evo_vlac.engine import Answer, Query
from sidecar.config import OpenaiConfig
from sidecar.engines.openai import OpenaiEngine
from sidecar.errors import ConfigError, RemoteEngineError

logger = logging.getLogger(__name__)
_PAUSE_S, _PAUSE_MAX_S = 1.0, 30.0


class _Server:
    """One address. ``under_way``: queries; ``again_at``: until then it is asked last."""

    def __init__(self, config: OpenaiConfig, patience_s: float) -> None:
        self.config, self._patience_s = config, patience_s
        self.under_way, self.again_at, self._pause_s = 0, 0.0, _PAUSE_S
        self._engine: OpenaiEngine | None = None
        self._lock = threading.Lock()

    def connect(self) -> OpenaiEngine:
        """Raises RemoteEngineError, ConfigError as :class:`OpenaiEngine`."""
        with self._lock:
            if self._engine is None:
                self._engine = OpenaiEngine(self.config, patience_s=self._patience_s)
            return self._engine

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        try:
            answers = self.connect().answer(queries)
        except (RemoteEngineError, ConfigError) as error:
            answers = [Answer("", error=str(error))] * len(queries)
        if all(answer.error is not None for answer in answers):
            self.put_off()
        else:
            self._pause_s, self.again_at = _PAUSE_S, 0.0
        return answers

    def put_off(self) -> None:
        self.again_at = time.monotonic() + self._pause_s
        self._pause_s = min(_PAUSE_MAX_S, 2 * self._pause_s)

    def memory_bytes(self) -> Mapping[str, int]:
        return {} if self._engine is None else self._engine.memory_bytes()

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()


class OpenaiServers:
    """A :class:`~sidecar.engines.base.SidecarEngine` over all addresses of ``config.url``.

    ``patience_s``: of a call of :meth:`answer`, shared out among the servers. Raises what the first says when none has
    a usable model, and ConfigError where one of them lists several.
    """

    name = "openai"
    mixes = True
    remote = True

    def __init__(self, config: OpenaiConfig, patience_s: float = 3600.0) -> None:
        urls = config.urls
        self._servers = [_Server(replace(config, url=url), patience_s / len(urls)) for url in urls]
        self.slots = OpenaiEngine.slots * len(urls)
        self._lock = threading.Lock()
        failures = []
        try:
            for server in self._servers:
                try:
                    server.connect()
                except RemoteEngineError as error:
                    failures.append(error)
                    server.put_off()
                    logger.warning("%s", error)
            if len(failures) == len(self._servers):
                raise failures[0]
        except BaseException:
            self.close()
            raise

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """See :class:`sidecar.engines.base.SidecarEngine`."""
        answers = [Answer("", error="not asked")] * len(queries)
        left, tried = list(range(len(queries))), set[int]()
        while left and len(tried) < len(self._servers):
            number = self._take(tried, len(left))
            tried.add(number)
            server = self._servers[number]
            try:
                found = server.answer([queries[i] for i in left])
            finally:
                with self._lock:
                    server.under_way -= len(left)
            for i, answer in zip(left, found):
                answers[i] = answer
            left = [i for i in left if answers[i].error is not None]
        return answers

    def _take(self, tried: set[int], size: int) -> int:
        """The next server to ask: one that is not put off, with the least under way."""
        with self._lock:
            now = time.monotonic()
            open_ones = [i for i in range(len(self._servers)) if i not in tried]
            number = min(open_ones, key=lambda i: (self._servers[i].again_at > now, self._servers[i].under_way, i))
            self._servers[number].under_way += size
            return number

    # -- the rest of an engine ---------------------------------------------------------------------------------------

    def offload(self) -> None:
        """Nothing of ours is on an accelerator."""

    def restore(self) -> None:
        """Nothing to bring back."""

    def memory_bytes(self) -> Mapping[str, int]:
        held: Counter[str] = Counter()
        for server in self._servers:
            held.update(server.memory_bytes())
        return held

    def close(self) -> None:
        for server in self._servers:
            with suppress(RuntimeError):
                server.close()
