"""Conversations and the model's answers to them, in upstream's form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from evo_vlac.engine import Answer, TokenInfo


@dataclass(slots=True)
class InferRequest:
    """A conversation: messages with role and content, and its images in the order of their marks."""

    messages: list[dict[str, str]]
    images: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Message:
    """What the model said."""

    content: str
    role: str = "assistant"


@dataclass(slots=True)
class Choice:
    """One answer; ``logprobs["content"]`` holds its tokens with their likeliest alternatives."""

    message: Message
    logprobs: dict[str, list[dict[str, Any]]]
    index: int = 0


@dataclass(slots=True)
class Response:
    """The model's answer to one request; ``error`` where it failed."""

    choices: list[Choice]
    error: str | None = None

    @staticmethod
    def of(answer: Answer) -> Response:
        """An engine's answer in upstream's form."""
        content = [
            {
                "token": token.text,
                "logprob": token.logprob,
                "top_logprobs": [{"token": text, "logprob": logprob} for text, logprob in token.top],
            }
            for token in answer.tokens
        ]
        return Response([Choice(Message(answer.text), {"content": content})], answer.error)

    def answer(self) -> Answer:
        """Back to an engine's answer."""
        choice = self.choices[0]
        tokens = tuple(
            TokenInfo(
                one["token"], one["logprob"], tuple((top["token"], top["logprob"]) for top in one["top_logprobs"])
            )
            for one in choice.logprobs.get("content") or ()
        )
        return Answer(choice.message.content, tokens, self.error)
