"""The one interface between questions and models.

    queries.py --Query--> Engine.answer --Answer--> parsing.py

A :class:`Query` is a finished question: text, images, how many tokens may come back. An engine turns a list
of them into as many answers. Engines know neither VLAC's wording nor how numbers are read, so they (ms-swift here,
vLLM or a remote server elsewhere) can be exchanged without changing a verdict.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from evo_vlac.errors import OptionError, PromptError

Image: TypeAlias = npt.NDArray[np.uint8] | PILImage.Image
"""An RGB picture: uint8 array (H, W, 3), of any strides, or a PIL image."""

IMAGE_MARK = "<image>"
CHOICE_ALTERNATIVES = 20
"""Alternatives looked at per token where only a few answers count, so that the rarer one is seen, too."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question to the critic.

    ``kind`` is the key in prompts.json; ``prompt`` is filled and has at most one ``<image>`` mark per image
    (images without a mark are put in front, as the checkpoints were trained). ``choices`` names the
    single-token answers where only those are wanted (``("0", "1")`` for done): one forward pass is enough
    then. ``image_keys`` gives every image an identity for engines that keep embeddings; the first
    ``prefix_images`` images are shared by the queries of one episode (reference trajectory and first frame)
    and come first in the prompt. ``top_k``: a temperature samples among so many of the likeliest tokens; 0 means all.
    Only :class:`~evo_vlac.swift_engine.SwiftEngine` heeds it: everything but ``GAC_model`` asks without it.
    """

    kind: str
    prompt: str
    images: tuple[Image, ...]
    system: str
    max_new_tokens: int
    temperature: float = 0.0
    top_logprobs: int = 0
    choices: tuple[str, ...] = ()
    image_keys: tuple[Hashable, ...] = ()
    prefix_images: int = 0
    top_k: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise OptionError(f"max_new_tokens is {self.max_new_tokens}; at least 1 is needed")
        if self.temperature < 0:
            raise OptionError(f"temperature is {self.temperature}; 0 (greedy) or more is allowed")
        if self.top_logprobs < 0:
            raise OptionError(f"top_logprobs is {self.top_logprobs}; 0 or more is allowed")
        if self.top_k < 0:
            raise OptionError(f"top_k is {self.top_k}; 0 (all tokens) or more is allowed")
        marks = self.prompt.count(IMAGE_MARK)
        if marks > len(self.images):
            raise PromptError(f"{self.kind}: the prompt has {marks} {IMAGE_MARK} marks for {len(self.images)} images")
        if self.image_keys and len(self.image_keys) != len(self.images):
            raise PromptError(f"{self.kind}: {len(self.image_keys)} image_keys for {len(self.images)} images")
        if not 0 <= self.prefix_images <= len(self.images):
            raise PromptError(f"{self.kind}: prefix_images is {self.prefix_images} of {len(self.images)} images")

    @property
    def marked_prompt(self) -> str:
        """The prompt with exactly one mark per image, the missing ones in front."""
        missing = len(self.images) - self.prompt.count(IMAGE_MARK)
        return IMAGE_MARK * missing + self.prompt

    @property
    def alternatives(self) -> int:
        """How many of the likeliest tokens an engine looks at for each token of the answer."""
        return max(self.top_logprobs, CHOICE_ALTERNATIVES) if self.choices else self.top_logprobs

    def with_(self, **changes: Any) -> Query:
        """This query with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """One answer token: its text, its natural log-probability (raw logits, whole vocabulary), and the
    likeliest alternatives, best first, itself among them where it belongs."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said. ``tokens`` has no end-of-text token; it is empty where no log-probabilities were
    asked.

    ``error`` is set, and ``text`` empty, where this one query failed.
    """

    text: str
    tokens: tuple[TokenInfo, ...] = ()
    error: str | None = None


@runtime_checkable
class Engine(Protocol):
    """Something that answers queries."""

    name: str

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """As many answers as queries, in their order. A query that fails gets ``Answer.error``;
        nothing is raised for it."""

    def close(self) -> None:
        """Frees the model. Calling it twice is allowed."""
