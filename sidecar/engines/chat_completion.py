"""From the body of a chat completion to an Answer: every type is checked, since the server may send anything.

A body that is no chat completion raises RemoteEngineError: what the model said is unknown, so the query has failed. A
whole completion becomes an Answer, whatever its text is; whether that text can be read is decided where it is parsed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evo_vlac.engine import Answer, TokenInfo
from sidecar.errors import RemoteEngineError

_WHOLE = (None, "stop", "length")  # why a model's answer may end; anything else cut it off
_SHOWN = 80
_SPECIAL = "<|"


def read_completion(body: bytes) -> Answer:
    """The first choice's text and tokens. Raises RemoteEngineError."""
    tree = _mapping(read_json(body), "the reply")
    choices = tree.get("choices")
    if not isinstance(choices, list) or not choices:
        raise _not("the reply's choices", choices if "choices" in tree else tree, "a list with an entry")
    choice = _mapping(choices[0], "the first choice")
    message = _mapping(choice.get("message"), "its message")
    text = message.get("content")
    if not isinstance(text, str):
        shown = message.get("refusal") if text is None and message.get("refusal") else text
        raise _not("its content", shown, "a text")
    reason = choice.get("finish_reason")
    if reason not in _WHOLE:
        raise _not("its finish_reason", reason, "stop or length")
    return Answer(text, _tokens(choice.get("logprobs")))


def read_models(body: bytes) -> list[str]:
    """The names in a model list. Raises RemoteEngineError."""
    data = _mapping(read_json(body), "the model list").get("data")
    if not isinstance(data, list):
        raise _not("the model list's data", data, "a list")
    names = [_mapping(entry, "an entry of the model list").get("id") for entry in data]
    for name in names:
        if not isinstance(name, str):
            raise _not("the id of a model", name, "a text")
    return [str(name) for name in names]


def read_json(body: bytes) -> Any:
    """Raises RemoteEngineError for what is none, nested too deeply, or not in UTF-8."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        shown = body[:_SHOWN].decode(errors="replace")
        raise RemoteEngineError(f"no chat completion: no JSON ({error}): {shown!r}") from None


def _tokens(logprobs: Any) -> tuple[TokenInfo, ...]:
    content = None if logprobs is None else _mapping(logprobs, "its logprobs").get("content")
    if content is None:
        return ()
    if not isinstance(content, list):
        raise _not("its logprobs' content", content, "a list")
    tokens = (_token(_mapping(one, "a token")) for one in content)
    return tuple(token for token in tokens if not token.text.startswith(_SPECIAL))


def _token(one: Mapping[str, Any]) -> TokenInfo:
    top = one.get("top_logprobs")
    if top is not None and not isinstance(top, list):
        raise _not("a token's top_logprobs", top, "a list")
    return TokenInfo(*_pair(one), tuple(_pair(_mapping(t, "an alternative")) for t in top or ()))


def _pair(one: Mapping[str, Any]) -> tuple[str, float]:
    token, logprob = one.get("token"), one.get("logprob")
    if not isinstance(token, str):
        raise _not("a token", token, "a text")
    if isinstance(logprob, bool) or not isinstance(logprob, (int, float)):
        raise _not("a log-probability", logprob, "a number")
    try:
        return token, float(logprob)
    except OverflowError:
        raise _not("a log-probability", logprob, "a number that a float can hold") from None


def _mapping(found: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise _not(what, found, "an object")
    return found


def _not(what: str, found: Any, allowed: str) -> RemoteEngineError:
    try:
        shown = repr(found)
    except (RecursionError, ValueError):  # nested nearly too deeply; a whole number of thousands of digits
        shown = type(found).__name__
    return RemoteEngineError(f"no chat completion: {what} is {shown[:_SHOWN]}, not {allowed}")
