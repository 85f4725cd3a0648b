"""LLaMA's ``tokenizer.model`` as a tokenizer of the ``tokenizers`` library.

What transformers 5 makes of that file alone leaves out the blank in front of a text and the ``<s>``. Here it is the BPE
that sentencepiece runs: a blank is ``▁``, one is put in front, what no piece covers falls back to bytes, and pairs are
merged in the order of the merged piece's score. A few texts are compared with sentencepiece itself.
"""

from __future__ import annotations

import json
from pathlib import Path

from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from verl.models.openvla_oft.errors import CheckpointError

BLANK = "▁"
_COMPARED = (
    "In: What action should the robot take to put both moka pots on the stove?\nOut:",
    "In: What action should the robot take to pick up the  café's “mug” №7 \t(left)?\nOut:",
)


def from_sentencepiece(folder: Path) -> Tokenizer:
    """The tokenizer in ``folder/tokenizer.model``, with the tokens that the files beside it add (``<PAD>``)."""
    path = folder / "tokenizer.model"
    try:
        pieces = SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    vocabulary = {pieces.id_to_piece(i): i for i in range(len(pieces))}
    unknown = pieces.id_to_piece(pieces.unk_id())
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=_merges(pieces), unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    start = pieces.id_to_piece(pieces.bos_id())
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, pieces.bos_id())]
    )
    control = [pieces.id_to_piece(i) for i in range(len(pieces)) if pieces.is_control(i)]
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in (unknown, *control, *_added(folder))]
    )
    for text in _COMPARED:
        if tokenizer.encode(text).ids != [pieces.bos_id(), *pieces.encode(text)]:
            raise CheckpointError(f"{path} is no LLaMA tokenizer: its pieces of {text!r} are not sentencepiece's own")
    return tokenizer


def _merges(pieces: SentencePieceProcessor) -> list[tuple[str, str]]:
    """All pairs of pieces that make a piece, in the order in which sentencepiece merges them."""
    normal = {
        pieces.id_to_piece(i): pieces.get_score(i)
        for i in range(len(pieces))
        if not (pieces.is_control(i) or pieces.is_unknown(i) or pieces.is_byte(i) or pieces.is_unused(i))
    }
    found = [
        (-score, piece[:cut], piece[cut:])
        for piece, score in normal.items()
        for cut in range(1, len(piece))
        if piece[:cut] in normal and piece[cut:] in normal
    ]
    return [(left, right) for _, left, right in sorted(found, key=lambda merge: merge[0])]


def _added(folder: Path) -> list[str]:
    """Tokens beyond the model's own, in the order of their ids: OpenVLA's ``<PAD>``."""
    by_id: dict[int, str] = {}
    if (path := folder / "tokenizer_config.json").exists():
        decoder = json.loads(path.read_text()).get("added_tokens_decoder", {})
        by_id.update({int(i): token["content"] for i, token in decoder.items()})
    if (path := folder / "added_tokens.json").exists():
        by_id.update({int(i): token for token, i in json.loads(path.read_text()).items()})
    return [by_id[i] for i in sorted(by_id)]
