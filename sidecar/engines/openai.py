"""A remote VLAC behind an OpenAI-compatible server (``vllm serve``, ``swift deploy``): the critic on another node.

    queries --threads--> POST /chat/completions (images as data URIs) --> text and log-probabilities

Each query is a request of its own; the server batches. A request that fails in a way that may pass (no connection, a
time-out, 429, 5xx) is tried again after a growing pause; one that is refused is not. A query that gets no answer is an
error of its own and no more: whatever the server sends, it comes back in bounded time and memory
(:mod:`sidecar.engines.bounded_http`), read without trust (:mod:`sidecar.engines.chat_completion`).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from evo_vlac.engine import CHOICE_ALTERNATIVES, IMAGE_MARK, Answer, Image, Query
from evo_vlac.errors import EvoVlacError
from evo_vlac.images import load_image, squash
from evo_vlac.model.byte_cache import ByteCache
from sidecar.config import OpenaiConfig
from sidecar.engines.bounded_http import BoundedClient
from sidecar.engines.chat_completion import read_completion, read_models
from sidecar.errors import ConfigError, RemoteEngineError, RemoteTransportError

logger = logging.getLogger(__name__)
_BACKOFF_MAX_S = 5.0
_ENCODED_BYTES = 64 << 20
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_REMEMBERED = 1024  # images that the server is thought to hold
_MODELS_SHOWN = 20


class OpenaiEngine:
    """See the module's head. ``patience_s``: a call of :meth:`answer` comes back within so many seconds, with errors
    for the queries that have no answer by then, so that a server that hangs is not taken for a wedged engine.

    Raises RemoteEngineError when the server lists no usable model, ConfigError for an address that is none.
    """

    name = "openai"
    slots = 4  # the server batches, so several of ours may be on their way
    mixes = True
    remote = True

    def __init__(
        self, config: OpenaiConfig, sleep: Callable[[float], None] = time.sleep, patience_s: float = 3600.0
    ) -> None:
        assert config.url is not None  # the configuration holds it
        self.config, self._sleep, self._patience_s = config, sleep, patience_s
        self._client = BoundedClient(config.url, _headers(config), config.concurrency, config.max_reply_bytes)
        self._pool = ThreadPoolExecutor(config.concurrency, thread_name_prefix="openai")
        self._encoded: ByteCache[str] = ByteCache(_ENCODED_BYTES, len)
        self._sent: ByteCache[bool] = ByteCache(_REMEMBERED, lambda _: 1)
        self._lock = threading.Lock()
        self.retried = 0
        try:
            self.model = config.model or self._only_model()
        except BaseException:
            self.close()
            raise

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """See :class:`sidecar.engines.base.SidecarEngine`."""
        until = time.monotonic() + self._patience_s
        return list(self._pool.map(lambda query: self._one(query, until), queries))

    def _one(self, query: Query, until: float) -> Answer:
        try:
            return self._ask(query, until)
        except (RemoteEngineError, EvoVlacError) as error:
            return Answer("", error=f"{self.config.url}: {error}")
        except Exception as error:  # whatever a reply brings out of a library belongs to its query
            logger.debug("a %s query failed", query.kind, exc_info=True)
            return Answer("", error=f"{self.config.url}: {type(error).__name__}: {error}")

    def _ask(self, query: Query, until: float) -> Answer:
        named = self._names(query) if self.config.image_ids else ()
        known = tuple(name for name in named if self._is_sent(name))
        if known:
            try:
                return read_completion(self._post(self._request(query, named, frozenset(known)), 1, until))
            except RemoteEngineError as error:  # it may have forgotten them
                logger.debug("sending the images again: %s", error)
        body = self._request(query, named, frozenset())
        answer = read_completion(self._post(body, self.config.retries + 1, until))
        with self._lock:
            for name in named:
                self._sent.put(name, True)
        return answer

    # -- the request -------------------------------------------------------------------------------------------------

    def _request(self, query: Query, named: Sequence[str], known: frozenset[str]) -> dict[str, Any]:
        messages: list[dict[str, Any]] = [{"role": "system", "content": query.system}] if query.system else []
        messages.append({"role": "user", "content": self._content(query, named, known)})
        body = {
            "model": self.model,
            "messages": messages,
            "max_tokens": query.max_new_tokens,
            "temperature": query.temperature,
        }
        if query.alternatives:
            body |= {"logprobs": True, "top_logprobs": min(query.alternatives, CHOICE_ALTERNATIVES)}
        return body

    def _content(self, query: Query, named: Sequence[str], known: frozenset[str]) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        for i, text in enumerate(query.marked_prompt.split(IMAGE_MARK)):
            if i:
                part: dict[str, Any] = {"type": "image_url"}
                name = named[i - 1] if named else None
                if name is not None:
                    part["uuid"] = name
                part["image_url"] = None if name in known else {"url": self._encode(query, i - 1)}
                parts.append(part)
            if text:
                parts.append({"type": "text", "text": text})
        return parts

    def _encode(self, query: Query, index: int) -> str:
        """The image as a data URI; kept for as long as it has a key and others need the room less."""
        key = query.image_keys[index] if query.image_keys else None
        with self._lock:
            held = self._encoded.get(key) if key is not None else None
        if held is not None:
            return held
        encoded = data_uri(query.images[index], self.config.image_size, self.config.image_format)
        if key is not None:
            with self._lock:
                self._encoded.put(key, encoded)
        return encoded

    def _names(self, query: Query) -> tuple[str, ...]:
        return tuple(_digest(key) for key in query.image_keys)

    def _is_sent(self, name: str) -> bool:
        with self._lock:
            return bool(self._sent.get(name))

    # -- the wire ----------------------------------------------------------------------------------------------------

    def _post(self, body: Mapping[str, Any], tries: int, until: float) -> bytes:
        """The body of a reply with status 200. Raises RemoteEngineError with the last try's reason."""
        encoded = json.dumps(body).encode()
        reason, tried = "", 0
        for attempt in range(tries):
            if attempt and not self._pause(attempt, until):
                break
            left = min(self.config.timeout_s, until - time.monotonic())
            if left <= 0:
                reason = reason or "the server was too slow with the queries before"
                break
            tried += 1
            try:
                reply = self._client.exchange("POST", "chat/completions", left, encoded)
            except RemoteTransportError as error:
                reason = str(error)
                continue
            if reply.status == 200:
                return reply.body
            reason = f"HTTP {reply.status}: {reply.excerpt()}"
            if reply.status not in _AGAIN:
                break
        raise RemoteEngineError(reason + (f" ({tried} tries)" if tried > 1 else ""))

    def _pause(self, attempt: int, until: float) -> bool:
        """Sleeps before another try; False where there is no time for one."""
        pause = min(_BACKOFF_MAX_S, self.config.backoff_s * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        if time.monotonic() + pause >= until:
            return False
        with self._lock:
            self.retried += 1
        self._sleep(pause)
        return True

    def _only_model(self) -> str:
        try:
            reply = self._client.exchange("GET", "models", self.config.timeout_s)
            if reply.status != 200:
                raise RemoteEngineError(f"HTTP {reply.status}: {reply.excerpt()}")
            names = read_models(reply.body)
        except RemoteEngineError as error:
            raise RemoteEngineError(f"openai.url={self.config.url}: no model list there ({error})") from None
        if len(names) != 1:
            found = ", ".join(name[:80] for name in names[:_MODELS_SHOWN]) or "none"
            more = f" and {len(names) - _MODELS_SHOWN} more" if len(names) > _MODELS_SHOWN else ""
            raise ConfigError(f"openai.model=None: name one; the server has: {found}{more}")
        return names[0]

    # -- the rest of an engine ---------------------------------------------------------------------------------------

    def offload(self) -> None:
        """Nothing of ours is on an accelerator."""

    def restore(self) -> None:
        """Nothing to bring back."""

    def memory_bytes(self) -> Mapping[str, int]:
        return {"device": 0, "encoded_images": self._encoded.bytes}

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()


def data_uri(image: Image, size: int, form: str) -> str:
    """``data:image/...;base64,...`` of the image, squashed to ``size`` x ``size`` first (0: not)."""
    picture = squash(image, (size, size)) if size else load_image(image)
    buffer = io.BytesIO()
    if form == "png":
        picture.save(buffer, "PNG", compress_level=1)
    else:
        picture.save(buffer, "JPEG", quality=95)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _digest(key: Hashable) -> str:
    return hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()


def _headers(config: OpenaiConfig) -> dict[str, str]:
    if config.api_key_env is None:
        return {}
    key = os.environ.get(config.api_key_env)
    if not key:
        raise ConfigError(f"openai.api_key_env={config.api_key_env}: that variable is not set")
    return {"Authorization": f"Bearer {key}"}
