"""A remote VLAC behind an OpenAI-compatible server (``vllm serve``, ``swift deploy``): the critic on another node.

    queries --threads--> POST /chat/completions (images as data URIs) --> text and log-probabilities

Each query is a request of its own; the server batches. A request that fails in a way that may pass (no connection, a
time-out, 429, 5xx) is tried again after a growing pause; one that is refused is not. A query that gets no answer is an
error of its own and no more.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from evo_vlac.engine import IMAGE_MARK, Answer, Image, Query, TokenInfo
from evo_vlac.errors import EvoVlacError
from evo_vlac.images import load_image, squash
from sidecar.config import OpenaiConfig
from sidecar.engines.caches import ByteCache
from sidecar.errors import ConfigError, RemoteEngineError

logger = logging.getLogger(__name__)
_CHOICE_TOP = 20
_BACKOFF_MAX_S = 5.0
_ENCODED_BYTES = 64 << 20
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_REMEMBERED = 1024  # images that the server is thought to hold


class OpenaiEngine:
    """See the module's head. Raises RemoteEngineError when the server lists no usable model."""

    name = "openai"
    slots = 4  # the server batches, so several of ours may be on their way
    mixes = True

    def __init__(self, config: OpenaiConfig, sleep: Callable[[float], None] = time.sleep) -> None:
        assert config.url is not None  # the configuration holds it
        self.config, self._sleep = config, sleep
        limits = httpx.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency)
        self._client = httpx.Client(
            base_url=config.url, timeout=config.timeout_s, limits=limits, headers=_headers(config), trust_env=False
        )
        self._pool = ThreadPoolExecutor(config.concurrency, thread_name_prefix="openai")
        self._encoded: ByteCache[str] = ByteCache(_ENCODED_BYTES, len)
        self._sent: ByteCache[bool] = ByteCache(_REMEMBERED, lambda _: 1)
        self._lock = threading.Lock()
        self.retried = 0
        self.model = config.model or self._only_model()

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """See :class:`sidecar.engines.base.SidecarEngine`."""
        return list(self._pool.map(self._one, queries))

    def _one(self, query: Query) -> Answer:
        try:
            return self._ask(query)
        except (RemoteEngineError, EvoVlacError) as error:
            return Answer("", error=str(error))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            reason = f"{self.config.url} sent something that is no chat completion: {type(error).__name__}: {error}"
            return Answer("", error=reason)

    def _ask(self, query: Query) -> Answer:
        named = self._names(query) if self.config.image_ids else ()
        known = tuple(name for name in named if self._is_sent(name))
        if known:
            try:
                return self._read(self._post(self._request(query, named, frozenset(known)), tries=1))
            except RemoteEngineError as error:  # it may have forgotten them
                logger.debug("sending the images again: %s", error)
        answer = self._read(self._post(self._request(query, named, frozenset()), tries=self.config.retries + 1))
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
        top = max(query.top_logprobs, _CHOICE_TOP) if query.choices else query.top_logprobs
        if top:
            body |= {"logprobs": True, "top_logprobs": min(top, _CHOICE_TOP)}
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

    def _post(self, body: Mapping[str, Any], tries: int) -> dict[str, Any]:
        reason = ""
        for attempt in range(tries):
            if attempt:
                with self._lock:
                    self.retried += 1
                pause = min(_BACKOFF_MAX_S, self.config.backoff_s * 2 ** (attempt - 1))
                self._sleep(pause * random.uniform(0.5, 1.0))
            try:
                reply = self._client.post("chat/completions", json=body)
            except httpx.TimeoutException:
                reason = f"no answer within {self.config.timeout_s:g} s"
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if reply.status_code == 200:
                    parsed: dict[str, Any] = reply.json()
                    return parsed
                reason = f"HTTP {reply.status_code}: {reply.text[:200]}"
                if reply.status_code not in _AGAIN:
                    break
        raise RemoteEngineError(f"{self.config.url}: {reason}" + (f" ({tries} tries)" if tries > 1 else ""))

    def _read(self, reply: Mapping[str, Any]) -> Answer:
        choice = reply["choices"][0]
        content = (choice.get("logprobs") or {}).get("content") or []
        tokens = tuple(
            TokenInfo(
                one["token"],
                float(one["logprob"]),
                tuple((t["token"], float(t["logprob"])) for t in one.get("top_logprobs") or ()),
            )
            for one in content
            if not one["token"].startswith("<|")
        )
        return Answer(choice["message"]["content"] or "", tokens)

    def _only_model(self) -> str:
        try:
            reply = self._client.get("models")
            reply.raise_for_status()
            names = [str(entry["id"]) for entry in reply.json()["data"]]
        except (httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            raise RemoteEngineError(f"openai.url={self.config.url}: no model list there ({error})") from None
        if len(names) != 1:
            found = ", ".join(names) or "none"
            raise ConfigError(f"openai.model=None: name one; the server has: {found}")
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
