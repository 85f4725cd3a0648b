"""HTTP requests that end in bounded time and memory, whatever the server does.

    calling thread --exchange--> event loop's thread: connect, send, read, all under ONE deadline
                   <--- status, body of at most so many bytes ---

httpx's time-outs are per read: a server that sends a byte every two seconds never meets one. So the whole exchange
runs under ``asyncio.timeout``, which ends it in whatever state it is: name look-up, TLS, headers that drip, a body
without an end. Replies are asked for uncompressed and refused otherwise, since a few kilobytes of gzip are gigabytes
when decoded. Redirects are not followed, cookies not kept.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from sidecar.errors import ConfigError, RemoteEngineError, RemoteTransportError

logger = logging.getLogger(__name__)
_REFUSAL_BYTES = 2048  # of the body of anything but a 200: enough to say why
_MARGIN_S = 5.0  # should the event loop itself be stuck
_END_S = 2.0


@dataclass(frozen=True, slots=True)
class Reply:
    """``body`` is whole where ``status`` is 200, else its beginning."""

    status: int
    body: bytes

    def excerpt(self) -> str:
        """The beginning of the body for a person, whatever bytes it holds."""
        return self.body[:200].decode(errors="replace")


class BoundedClient:
    """Requests to paths under ``url``, at most ``connections`` at once. Thread-safe.

    Raises ConfigError for an address or headers that cannot be sent.
    """

    def __init__(self, url: str, headers: Mapping[str, str], connections: int, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        try:
            self._client = httpx.AsyncClient(
                base_url=url,
                timeout=None,
                limits=limits,
                trust_env=False,
                headers={**headers, "Accept-Encoding": "identity"},
            )
        except (httpx.InvalidURL, ValueError) as error:  # of which UnicodeEncodeError is one; names no key
            reason = "a header that cannot be sent" if isinstance(error, UnicodeError) else str(error)
            raise ConfigError(f"openai.url={url!r}: {reason}; allowed: an http(s) address") from None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="openai-http", daemon=True)
        self._thread.start()

    def exchange(self, method: str, path: str, timeout_s: float, json: bytes | None = None) -> Reply:
        """The reply to one request within ``timeout_s`` seconds, from the name look-up to the last byte.

        ``json``: the body, encoded.

        Raises:
            RemoteTransportError: no reply, or a part of one.
            RemoteEngineError: a reply that is too long or compressed.
        """
        try:
            task = asyncio.run_coroutine_threadsafe(self._exchange(method, path, timeout_s, json), self._loop)
        except RuntimeError:
            raise RemoteTransportError("the engine is closed") from None
        try:
            return task.result(timeout_s + _MARGIN_S)
        except concurrent.futures.CancelledError:
            raise RemoteTransportError("the engine is closed") from None
        except TimeoutError:
            task.cancel()
            raise RemoteTransportError(f"no answer within {timeout_s:g} s") from None

    async def _exchange(self, method: str, path: str, timeout_s: float, json: bytes | None) -> Reply:
        headers = {} if json is None else {"Content-Type": "application/json"}
        try:
            async with asyncio.timeout(timeout_s):
                async with self._client.stream(method, path, content=json, headers=headers) as reply:
                    return await self._read(reply)
        except (TimeoutError, httpx.TimeoutException):
            raise RemoteTransportError(f"no answer within {timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as error:
            raise RemoteTransportError(f"{type(error).__name__}: {error}") from None
        finally:
            self._client.cookies.clear()  # a server that sets new ones each time would make every request longer

    async def _read(self, reply: httpx.Response) -> Reply:
        encoding = reply.headers.get("Content-Encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):
            raise RemoteEngineError(f"the reply is encoded as {encoding[:40]!r}; only uncompressed ones are read")
        whole = reply.status_code == 200
        limit = self.max_bytes if whole else _REFUSAL_BYTES
        body = bytearray()
        async for part in reply.aiter_raw():
            body += part
            if len(body) > limit:
                if whole:
                    raise RemoteEngineError(f"the reply is over openai.max_reply_bytes={limit}")
                break
        return Reply(reply.status_code, bytes(body[:limit]))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def close(self) -> None:
        """Ends what is on its way. Calling it twice is allowed."""
        if not self._thread.is_alive():
            return
        ending = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        try:
            ending.result(_END_S)
        except (TimeoutError, concurrent.futures.CancelledError):
            logger.debug("connections were still open")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_END_S)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()
