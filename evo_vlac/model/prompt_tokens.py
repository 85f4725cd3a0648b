"""Token ids of a query, made once and alike for every engine that takes ids.

ChatML as VLAC's checkpoints were trained (ms-swift's templates ``internvl_hf`` and ``internvl2`` write the same): the
text between two images is tokenized on its own, every image stands as ``<img>``, its context tokens, ``</img>\\n``.
Engines that build the text themselves differ silently (a newline left out, merges across an image): pass these ids.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from evo_vlac.engine import IMAGE_MARK, Query

_KEPT = 512


@dataclass(frozen=True, slots=True)
class Prompt:
    """``ids``: the whole prompt, every image as ``image_tokens`` context tokens. ``images``: where each begins.

    ``ends[i]``: the first position after the context tokens of image i.
    """

    ids: tuple[int, ...]
    images: tuple[int, ...]
    image_tokens: int

    @property
    def ends(self) -> tuple[int, ...]:
        return tuple(start + self.image_tokens for start in self.images)


class PromptTokens:
    """Tokenizes queries for one checkpoint. ``image_tokens``: visual tokens an image becomes."""

    def __init__(self, tokenizer: Any, image_tokens: int, context_token: str = "<IMG_CONTEXT>") -> None:
        self.tokenizer, self.image_tokens = tokenizer, image_tokens
        self.context_id = int(tokenizer.convert_tokens_to_ids(context_token))
        self._kept: OrderedDict[tuple[str, str], Prompt] = OrderedDict()
        one = tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = tokenizer("a")["input_ids"]
        self._bos = tuple(whole[: whole.index(one[0])]) if one and one[0] in whole else ()

    def __call__(self, query: Query) -> Prompt:
        """The query's prompt; the same object again for the same words."""
        key = (query.system, query.marked_prompt)
        prompt = self._kept.get(key)
        if prompt is None:
            prompt = self._kept[key] = self._build(*key)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return prompt

    def text_ids(self, text: str) -> list[int]:
        """Ids of a piece of text, nothing added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _build(self, system: str, prompt: str) -> Prompt:
        opening = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
        text = f"{opening}<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        pieces = text.split(IMAGE_MARK)
        ids, starts = list(self._bos), []
        for i, piece in enumerate(pieces):
            lead = "</img>\n" if i else ""
            tail = "<img>" if i < len(pieces) - 1 else ""
            ids += self.text_ids(lead + piece + tail)
            if tail:
                starts.append(len(ids))
                ids += [self.context_id] * self.image_tokens
        return Prompt(tuple(ids), tuple(starts), self.image_tokens)
