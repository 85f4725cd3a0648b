"""The tiny critic's tokenizer: byte-level BPE, whole words for manipulation English, one token per fixed prompt phrase.

Every digit is a token (verdicts are read from digit tokens). The fixed sentences of VLAC's prompts are single tokens,
which makes a done query about 40 tokens long in place of about 95: on a CPU that is most of its cost. Any other text is
split into pieces, in the end into bytes: no text is unknown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from evo_vlac.prompts import CHAT_TEMPLATE, table
from evo_vlac.tiny.words import SENTENCES, WORDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
    "<video>",
)

_SLOTS = re.compile(r"\{\}|<image>")


def prompt_phrases(prompts: dict[str, Any]) -> list[str]:
    """Fixed stretches of text between the slots and image marks of ``prompts.json``; longest first.

    A stretch keeps its leading space (it follows a slot), loses line breaks at its ends and the space before a slot
    (which belongs to the slot's first word).
    """
    texts = [prompts["system_prompt"], *(entry["text"] for entry in prompts["prompts"].values())]
    phrases: dict[str, None] = {}
    for text in texts:
        for piece in _SLOTS.split(text):
            phrase = piece.strip("\n").rstrip(" ")
            if len(phrase.split()) > 1 and not phrase.strip().startswith("Image-"):
                phrases[phrase] = None
    return sorted(phrases, key=lambda phrase: (-len(phrase), phrase))


def _corpus(prompts: dict[str, Any]) -> list[str]:
    """Training text of the BPE: each word with and without a space and capital, often enough to become one token."""
    lines = [f" {word}" for word in WORDS] * 16  # most frequent first: a word inside a sentence is what tasks hold
    lines += [f"{word}\n{word.capitalize()}" for word in WORDS] * 2
    lines += list(SENTENCES) * 8
    lines += [entry["text"] for entry in prompts["prompts"].values()] * 8
    return lines


def build_tokenizer(vocab_size: int = 1280) -> PreTrainedTokenizerFast:
    """Train the tokenizer; deterministic. At most ``vocab_size`` learnt tokens, phrases and specials on top."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    prompts = table()
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_corpus(prompts), trainer)
    phrases = [AddedToken(phrase, normalized=False, special=False) for phrase in prompt_phrases(prompts)]
    tokenizer.add_tokens(phrases)
    fast: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
