"""InternLM2's sentencepiece tokenizer as a fast one: the same pieces, the same ids.

The slow tokenizer cuts a text at its added tokens and gives every stretch to sentencepiece on its own, without a dummy
prefix, wherever the stretch begins. The fast one does the same: BPE with byte fallback, blanks as U+2581, no prefix.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evo_vlac.errors import CheckpointError

_SPACE = "\u2581"
_NORMAL, _USER_DEFINED = 1, 4
_LONGEST = 8192  # tokens, as the published configurations say
_IMAGE = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
_SAMPLES = (
    "user\nCompare two images",
    " mid-string, with a blank in front",
    "1",
    "+12",
    "-7%",
    " 100",
    "0.5\n",
    "把红色方块拿起来",
    "Подними куб",
    "naïve – “quotes”",
    "a  b   c\t\n\n",
    "{x: -18mm, open: 0}",
    "🤖 ok",
    "",
)


def build_tokenizer(source: Path) -> Any:
    """A transformers fast tokenizer from ``tokenizer.model`` and the added tokens of the published checkpoint, with the
    image tokens named as transformers' InternVL processor wants them. Checked against sentencepiece before it returns.
    """
    model = _load_model(source / "tokenizer.model")
    added = _added_tokens(source)
    fast = _fast(model, added)
    _check(fast, source / "tokenizer.model")
    return fast


def _load_model(path: Path) -> Any:
    try:
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise CheckpointError("converting the tokenizer needs sentencepiece and protobuf") from error
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise CheckpointError(f"{path} is missing")
    proto: Any = sentencepiece_model_pb2
    model = proto.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise CheckpointError(f"{path} is not a sentencepiece model: {error}") from error
    if model.trainer_spec.model_type != 2 or not model.trainer_spec.byte_fallback:
        raise CheckpointError(f"{path} is not a BPE model with byte fallback, as InternLM2's is")
    return model


def _fast(model: Any, added: dict[int, dict[str, Any]]) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [piece.piece for piece in model.pieces]
    merges = _merges(model)
    for index, token in added.items():  # an added token takes over the id of an unused piece
        if index < len(pieces):
            pieces[index] = token["content"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    vocab.update({token["content"]: index for index, token in added.items()})
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=pieces[0], fuse_unk=True, byte_fallback=True))
    steps: list[Any] = [normalizers.Replace(" ", _SPACE)]
    if model.normalizer_spec.remove_extra_whitespaces:
        steps.insert(0, normalizers.Replace(Regex(" {2,}"), " "))
    if model.normalizer_spec.add_dummy_prefix:
        steps.insert(0, normalizers.Prepend(_SPACE))
    tokenizer.normalizer = normalizers.Sequence(steps)
    decoding: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.normalizer_spec.add_dummy_prefix:
        decoding.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(decoding)
    defined = [p.piece for i, p in enumerate(model.pieces) if p.type == _USER_DEFINED and i not in added]
    tokenizer.add_tokens([AddedToken(piece.replace(_SPACE, " "), normalized=False) for piece in defined])
    special = [AddedToken(t["content"], normalized=False, special=True) for _, t in sorted(added.items())]
    tokenizer.add_special_tokens(special)
    bos = pieces[model.trainer_spec.bos_id]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, vocab[bos])]
    )
    eos = pieces[model.trainer_spec.eos_id]
    build: Any = PreTrainedTokenizerFast
    return build(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        unk_token=pieces[0],
        pad_token=eos,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=_LONGEST,
        extra_special_tokens={**_image_tokens(vocab), "video_token": _spare(vocab)},
    )


def _merges(model: Any) -> list[tuple[str, str]]:
    """Every way to make a piece of two others, best piece first."""
    scores = {p.piece: p.score for p in model.pieces if p.type == _NORMAL}
    rank = {p.piece: i for i, p in enumerate(model.pieces)}
    found: list[tuple[float, int, int, str, str]] = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                found.append((-score, rank[left], rank[right], left, right))
    return [(left, right) for *_, left, right in sorted(found)]


def _added_tokens(source: Path) -> dict[int, dict[str, Any]]:
    config: dict[str, Any] = {}
    path = source / "tokenizer_config.json"
    if path.is_file():
        config = json.loads(path.read_text(encoding="utf-8"))
    added = {int(index): dict(token) for index, token in config.get("added_tokens_decoder", {}).items()}
    extra = source / "added_tokens.json"
    if not added and extra.is_file():
        added = {int(i): {"content": text} for text, i in json.loads(extra.read_text(encoding="utf-8")).items()}
    missing = [text for text in _IMAGE.values() if text not in {token["content"] for token in added.values()}]
    if missing:
        raise CheckpointError(f"{source}: the tokenizer has no {', '.join(missing)}; is it an InternVL checkpoint?")
    return added


def _image_tokens(vocab: dict[str, int]) -> dict[str, str]:
    return {name: text for name, text in _IMAGE.items() if text in vocab}


def _spare(vocab: dict[str, int]) -> str:
    """transformers' processor wants a video token. The published model has none, and no room for one in its
    embedding: a token that no prompt uses stands in."""
    for text in ("</quad>", "</box>", "</ref>", "<|plugin|>"):
        if text in vocab:
            return text
    raise CheckpointError("the tokenizer has no spare special token for transformers' video token")


def _check(fast: Any, model_path: Path, samples: Sequence[str] = _SAMPLES) -> None:
    """Every sample must become the ids that sentencepiece gives, and every prompt too."""
    from sentencepiece import SentencePieceProcessor

    from evo_vlac import prompts

    slow = SentencePieceProcessor(model_file=str(model_path))
    texts = [*samples, prompts.system_prompt()]
    for entry in prompts.table()["prompts"].values():
        texts.extend(entry["text"].split("<image>"))
    for text in texts:
        wanted = slow.encode(text)
        got = fast.encode(text, add_special_tokens=False)
        if wanted != got:
            raise CheckpointError(f"the converted tokenizer differs on {text!r}: {got} for {wanted}; nothing written")
