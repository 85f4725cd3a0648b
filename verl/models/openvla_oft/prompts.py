"""Instructions to prompt tokens, exactly as OpenVLA's training saw them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from verl.models.checkpoint_parts import Parts
from verl.models.openvla_oft.errors import CheckpointError, InputError
from verl.models.openvla_oft.llama_tokenizer import from_sentencepiece

TEMPLATE = "In: What action should the robot take to {instruction}?\nOut:"
EMPTY_PIECE = "▁"  # LLaMA's token 29871: training put it between the colon and the action tokens
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")


class Prompts:
    """Tokenizes and pads a batch of instructions; each text is tokenized once."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self.tokenizer = load_tokenizer(folder)
        empty = self.tokenizer.convert_tokens_to_ids(EMPTY_PIECE)
        if empty is None or empty == self.tokenizer.unk_token_id:
            raise CheckpointError(
                f"the tokenizer in {folder} has no piece {EMPTY_PIECE!r}: it is not a LLaMA tokenizer"
            )
        if len(self.tokenizer) > vocab_size:
            raise CheckpointError(
                f"the tokenizer in {folder} has {len(self.tokenizer)} tokens, more than vocab_size={vocab_size}"
            )
        self._empty = empty
        self._ids = lru_cache(maxsize=4096)(self._tokenize)

    def __call__(self, instructions: list[str] | tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Instructions to ((B, L) int64 ids padded with 0 at the right, (B,) int64 lengths)."""
        rows = [self._ids(instruction) for instruction in instructions]
        ids = torch.zeros(len(rows), max(len(r) for r in rows), dtype=torch.int64)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        return ids, torch.tensor([len(r) for r in rows])

    def _tokenize(self, instruction: str) -> tuple[int, ...]:
        if not isinstance(instruction, str) or not instruction.strip():
            raise InputError(f"instruction: {instruction!r}, but a text is expected")
        ids = self.tokenizer(TEMPLATE.format(instruction=instruction.lower()))["input_ids"]
        if ids[-1] != self._empty:
            ids.append(self._empty)
        return tuple(ids)


def tokenizer_folder(parts: Parts) -> Path:
    """Where a checkpoint's tokenizer lies."""
    here = any((parts.folder / name).exists() for name in TOKENIZER_FILES)
    return parts.folder if here else parts.base


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer, from its own files only."""
    if not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise CheckpointError(f"{folder} has no tokenizer: one of {', '.join(TOKENIZER_FILES)} is needed")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads and a forked env process do not mix
    make: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast  # whose own signature has no types
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if (folder / "tokenizer.json").exists():
        return make(tokenizer_file=str(folder / "tokenizer.json"), **special)
    return make(tokenizer_object=from_sentencepiece(folder), **special)
