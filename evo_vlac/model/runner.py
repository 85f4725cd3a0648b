"""Runs a model of the InternVL family on queries: nothing is computed twice, and one token costs one pass.

    images --keys--> feature cache --misses--> tower              a frame is encoded once, however many pairs use it
    reference trajectory, first frame --> prefix cache (KV)       computed once an episode, shared over the batch
    the rest of the prompt --> one pass --> done: read from the logits of the last position
                                        --> a number: a few more tokens, ended as soon as it is one or cannot be

Prompts come as ids from :mod:`evo_vlac.model.prompt_tokens`, so that every engine reads the same.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evo_vlac.engine import Answer, Query
from evo_vlac.errors import EvoVlacError
from evo_vlac.images import rgb_array
from evo_vlac.model.backbone import NativeBackbone
from evo_vlac.model.byte_cache import ByteCache
from evo_vlac.model.decoding import Decoder, Row
from evo_vlac.model.kv import Layers
from evo_vlac.model.pixels import Pixels
from evo_vlac.model.prompt_tokens import PromptTokens


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of the caches, images through the tower at once."""

    feature_bytes: int = 512 << 20
    prefix_bytes: int = 1 << 30
    chunk_images: int = 32


class ModelRunner:
    """An :class:`evo_vlac.engine.Engine`; see the module's head. ``backbone``: the model; ``tokens``: its tokenizer;
    ``pixels``: its preprocessing."""

    name = "direct"

    def __init__(
        self, backbone: NativeBackbone, tokens: PromptTokens, pixels: Pixels, decoder: Decoder, limits: Limits
    ) -> None:
        self.backbone, self.tokens, self.pixels, self.decoder = backbone, tokens, pixels, decoder
        self.limits = limits
        self.features: ByteCache[torch.Tensor] = ByteCache(limits.feature_bytes, lambda t: t.nbytes)
        self.prefixes: ByteCache[Layers] = ByteCache(limits.prefix_bytes, _layers_bytes)

    @torch.inference_mode()
    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """See :class:`evo_vlac.engine.Engine`. Raises torch's out-of-memory error."""
        answers: list[Answer | None] = [None] * len(queries)
        rows: list[Row] = []
        for i, query in enumerate(queries):
            try:
                rows.append(self._row(i, query))
            except EvoVlacError as error:
                answers[i] = Answer("", error=str(error))
        self._look_up(rows)
        groups: dict[Hashable, list[Row]] = {}
        for row in rows:
            groups.setdefault((row.start, *self.decoder.settings(row.query)), []).append(row)
        for members in groups.values():
            for row, answer in zip(members, self.decoder.run(members)):
                answers[row.index] = answer
        return [answer or Answer("", error="not answered") for answer in answers]

    # -- what is known of a query's images ---------------------------------------------------------------------------

    def _row(self, index: int, query: Query) -> Row:
        for image in query.images:
            if not hasattr(image, "mode"):
                rgb_array(image)  # raises ImageError for what is no image
        prompt = self.tokens(query)
        keys = query.image_keys or tuple(("object", id(image)) for image in query.images)
        prefix = query.prefix_images if query.image_keys else 0
        start = prompt.ends[prefix - 1] if prefix else min(prompt.images, default=0)
        return Row(index, query, prompt, keys, prefix, start)

    def _look_up(self, rows: Sequence[Row]) -> None:
        """Finds or makes the prefixes' KV and the features of the images after them, for all rows."""
        missing: dict[Hashable, tuple[Row, int]] = {}
        for row in rows:
            if row.start:
                row.layers = self.prefixes.get(_prefix_key(row, row.prefix))
                if row.layers is None:
                    missing.setdefault(_prefix_key(row, row.prefix), (row, row.prefix))
        wanted: dict[Hashable, Any] = {}
        for row, _ in missing.values():
            wanted |= dict(zip(row.keys[: row.prefix], row.query.images))
        for row in rows:
            wanted |= dict(zip(row.keys[row.prefix :], row.query.images[row.prefix :]))
        found = self._encode(wanted)
        made = {key: self._prefix(row, count, found) for key, (row, count) in missing.items()}
        for row in rows:
            if row.start and row.layers is None:
                row.layers = made[_prefix_key(row, row.prefix)]
            row.features = [found[key] for key in row.keys[row.prefix :]]

    def _encode(self, wanted: Mapping[Hashable, Any]) -> dict[Hashable, torch.Tensor]:
        """Features (tokens, width) of the images by key, from the cache or the tower."""
        found: dict[Hashable, torch.Tensor] = {}
        missing = []
        for key in wanted:
            held = self.features.get(key)
            if held is None:
                missing.append(key)
            else:
                found[key] = held
        for at in range(0, len(missing), self.limits.chunk_images):
            keys = missing[at : at + self.limits.chunk_images]
            features = self.backbone.features(self.pixels([wanted[key] for key in keys]))
            for i, key in enumerate(keys):
                found[key] = features[i]
                if not (isinstance(key, tuple) and key[0] == "object"):  # an object's address means nothing tomorrow
                    self.features.put(key, features[i].clone() if len(keys) > 1 else features[i])
        return found

    def _prefix(self, row: Row, count: int, found: Mapping[Hashable, torch.Tensor]) -> Layers:
        """KV of the prompt up to and with image ``count``.

        The last prefix image (an episode's first frame) is computed on top of the KV of those before it (the reference
        trajectory), which all episodes share.
        """
        key = _prefix_key(row, count)
        held = self.prefixes.get(key)
        if held is not None:
            return held
        if count == 0:
            return self._text_prefix(row, key)
        shared = count - 1 if count == row.prefix else 0
        before = self._prefix(row, shared, found) if shared else None
        begin, end = row.prompt.ends[shared - 1] if shared else 0, row.prompt.ends[count - 1]
        ids = torch.tensor([row.prompt.ids[begin:end]], device=self.backbone.device)
        embeds = self.backbone.embed(ids)
        for i in range(shared, count):
            first = row.prompt.images[i] - begin
            embeds[0, first : first + row.prompt.image_tokens] = found[row.keys[i]].to(embeds.dtype)
        positions = torch.arange(begin, end, device=embeds.device)[None]
        step = self.backbone.decode(embeds, positions, self.backbone.cache(before, room=end - begin))
        layers = self.backbone.layers(step.cache)
        self.prefixes.put(key, layers)
        return layers

    def _text_prefix(self, row: Row, key: Hashable) -> Layers:
        """KV of the words in front of the first image (the system prompt), which nearly all queries share."""
        embeds = self.backbone.embed(torch.tensor([row.prompt.ids[: row.start]], device=self.backbone.device))
        positions = torch.arange(row.start, device=embeds.device)[None]
        step = self.backbone.decode(embeds, positions, self.backbone.cache(room=row.start))
        layers = self.backbone.layers(step.cache)
        self.prefixes.put(key, layers)
        return layers

    # -- the caches --------------------------------------------------------------------------------------------------

    def cache_bytes(self) -> dict[str, int]:
        """What the caches hold, by name: ``feature_cache``, ``prefix_cache``."""
        return {"feature_cache": self.features.bytes, "prefix_cache": self.prefixes.bytes}

    def forget(self) -> None:
        """Drops what is known of frames and prompts."""
        self.features.clear()
        self.prefixes.clear()

    def close(self) -> None:
        """Drops the caches; the model goes with the runner."""
        self.forget()


def _prefix_key(row: Row, count: int) -> Hashable:
    if count == 0:
        return row.prompt.ids[: row.start]
    return (row.query.system, row.query.prompt, row.keys[:count])


def _layers_bytes(layers: Layers) -> int:
    return sum(k.nbytes + v.nbytes for k, v in layers)
