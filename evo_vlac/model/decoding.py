"""From embedded prompts to answers: one pass for all of a group, then token by token for those that need more.

Prompts of a group are padded after their ends; since attention only looks back, the first pass needs no mask for
that, and the answer's first token is read at each prompt's own last position. Later tokens carry their own position
ids and a mask over the padding.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from evo_vlac.engine import Answer, Query, TokenInfo
from evo_vlac.model.backbone import NativeBackbone, Step
from evo_vlac.model.kv import Layers
from evo_vlac.model.number_reading import NumberTokens, Reading, read
from evo_vlac.model.prompt_tokens import Prompt
from evo_vlac.model.shared_prefix import Shared

_NUMBER_KINDS = ("critic", "critic_with_reference", "action_score")
_NUMBER_TOKENS = 16  # a longer answer is text (a think answer), not a number


@dataclass(slots=True)
class Row:
    """A query on its way. ``start``: how many positions of its prompt stand in ``layers`` already."""

    index: int
    query: Query
    prompt: Prompt
    keys: tuple[Hashable, ...]
    prefix: int
    start: int
    layers: Layers | None = None
    features: list[torch.Tensor] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    tokens: list[TokenInfo] = field(default_factory=list)
    text: str = ""
    open: bool = True


class Decoder:
    """``end_ids``: tokens that end an answer. ``force_number``: see :mod:`evo_vlac.model.number_reading`.
    ``positions``: prompt positions of a pass at most, rows are split by it. ``kept``: positions of KV that are held at
    once at most. None: no bound."""

    def __init__(
        self,
        backbone: NativeBackbone,
        tokenizer: Any,
        end_ids: Sequence[int],
        force_number: bool = False,
        positions: int | None = None,
        kept: int | None = None,
    ) -> None:
        self.backbone, self.tokenizer, self.ends = backbone, tokenizer, frozenset(end_ids)
        self.force_number, self.positions, self.kept = force_number, positions, kept
        self._texts: dict[int, str] = {}
        self._ids: dict[str, int] = {}
        self._numbers: NumberTokens | None = None

    def settings(self, query: Query) -> tuple[Hashable, ...]:
        """Queries with equal settings may share a pass."""
        return (query.max_new_tokens == 1, query.temperature)

    def run(self, rows: Sequence[Row]) -> list[Answer]:
        """Answers of rows with equal ``start`` and settings, in order."""
        lengths = [len(row.prompt.ids) - row.start for row in rows]
        if any(row.query.max_new_tokens > 1 for row in rows):
            parts = _split(rows, max(lengths), self.kept)
            if len(parts) > 1:
                return [answer for part in parts for answer in self.run(part)]
        cache, hidden = self._first_passes(rows, max(lengths))
        shared = _shared(rows, self.backbone.device)
        count = 0
        while True:
            chosen = self._take(rows, self.backbone.logits(hidden))
            count += 1
            if not any(row.open for row in rows):
                break
            cache, hidden = self._next_pass(rows, chosen, cache, lengths, count, shared)
        return [Answer(row.text, tuple(row.tokens)) for row in rows]

    # -- passes ------------------------------------------------------------------------------------------------------

    def _first_passes(self, rows: Sequence[Row], longest: int) -> tuple[Any, torch.Tensor]:
        """The KV cache of all rows (None where no second token is wanted) and the hidden states of their last
        positions (b, width)."""
        keep = any(row.query.max_new_tokens > 1 for row in rows)
        later = max(row.query.max_new_tokens for row in rows) if keep else 0
        groups = _split(rows, longest, self.positions)
        room = longest + (later if len(groups) == 1 else 0)
        parts = [self._first_pass(group, longest, keep, room) for group in groups]
        hidden = torch.cat([part.hidden[:, 0] for part in parts])
        if not keep:
            return None, hidden
        return parts[0].cache if len(parts) == 1 else self.backbone.join([p.cache for p in parts], later), hidden

    def _first_pass(self, rows: Sequence[Row], longest: int, keep: bool, room: int) -> Step:
        device, start = self.backbone.device, rows[0].start
        lengths = [len(row.prompt.ids) - start for row in rows]
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        places: list[torch.Tensor] = []
        for i, row in enumerate(rows):
            ids[i, : lengths[i]] = torch.tensor(row.prompt.ids[start:])
            for begin in row.prompt.images[row.prefix :]:
                at = i * longest + begin - start
                places.append(torch.arange(at, at + row.prompt.image_tokens))
        embeds = self.backbone.embed(ids.to(device))
        if places:
            features = torch.cat([feature for row in rows for feature in row.features])
            flat = embeds.view(-1, embeds.shape[-1])
            flat.index_copy_(0, torch.cat(places).to(device), features.to(embeds.dtype))
        positions = torch.arange(start, start + longest, device=device)[None].expand(len(rows), -1)
        shared = _shared(rows, device)
        before = None if shared else _batch_layers(rows)
        cache = self.backbone.cache(before, room=room) if before or keep else None
        last = torch.tensor(lengths, device=device) - 1
        step = self.backbone.decode(embeds, positions, cache, shared=shared, last=last)
        return step if keep else Step(step.hidden, None)

    def _next_pass(
        self,
        rows: Sequence[Row],
        chosen: torch.Tensor,
        cache: Any,
        lengths: Sequence[int],
        count: int,
        shared: list[Shared] | None,
    ) -> tuple[Any, torch.Tensor]:
        device, start, longest = chosen.device, rows[0].start, max(lengths)
        held = 0 if shared else start  # positions of the prefix that stand in the cache
        ends = torch.tensor(lengths, device=device)
        positions = (start + ends + count - 1)[:, None]
        mask = None
        if min(lengths) != longest:
            columns = torch.arange(held + longest + count, device=device)[None]
            mask = ((columns < held + ends[:, None]) | (columns >= held + longest)).long()
        step = self.backbone.decode(self.backbone.embed(chosen[:, None]), positions, cache, mask, shared)
        return step.cache, step.hidden[:, -1]

    # -- tokens ------------------------------------------------------------------------------------------------------

    def _take(self, rows: Sequence[Row], logits: torch.Tensor) -> torch.Tensor:
        """Chooses each open row's next token; the ids chosen (those of closed rows mean nothing)."""
        logprobs = torch.log_softmax(logits, -1)
        chosen = self._choose(rows, logits)
        wanted = max((row.query.alternatives for row in rows), default=0)
        values, ids = logprobs.topk(min(wanted, logits.shape[-1]), -1) if wanted else (logprobs[:, :0], chosen[:, None])
        taken, own = chosen.tolist(), logprobs.gather(1, chosen[:, None])[:, 0].tolist()
        top_values, top_ids = values.tolist(), ids.tolist()
        choices = sorted({choice for row in rows for choice in self._choice_ids(row.query)})
        of_choices = logprobs[:, choices].tolist() if choices else []
        for i, row in enumerate(rows):
            if row.open:
                count = row.query.alternatives
                pairs = dict(zip(top_ids[i][:count], top_values[i][:count]))
                if row.query.choices:
                    pairs |= dict(zip(choices, of_choices[i]))
                self._extend(row, taken[i], own[i], pairs)
        return chosen

    def _choose(self, rows: Sequence[Row], logits: torch.Tensor) -> torch.Tensor:
        if self.force_number and any(_is_number(row.query) for row in rows):
            logits = self._only_numbers(rows, logits)
        temperature = rows[0].query.temperature
        if temperature == 0:
            return logits.argmax(-1)
        return torch.multinomial(torch.softmax(logits / temperature, -1), 1)[:, 0]

    def _only_numbers(self, rows: Sequence[Row], logits: torch.Tensor) -> torch.Tensor:
        if self._numbers is None:
            texts = {i: self._text(i) for i in range(min(logits.shape[-1], len(self.tokenizer)))}
            self._numbers = NumberTokens(texts, sorted(self.ends))
        masked = torch.full_like(logits, float("-inf"))
        for i, row in enumerate(rows):
            allowed = list(self._numbers.allowed(row.text)) if _is_number(row.query) else slice(None)
            masked[i, allowed] = logits[i, allowed]
        return masked

    def _extend(self, row: Row, token: int, logprob: float, top: Mapping[int, float]) -> None:
        if token in self.ends:
            row.open = False
            return
        row.ids.append(token)
        if row.query.top_logprobs or row.query.choices:
            shown = tuple((self._text(i), value) for i, value in top.items())
            row.tokens.append(TokenInfo(self._text(token), logprob, shown))
        row.text = self.tokenizer.decode(row.ids, skip_special_tokens=True) if len(row.ids) > 1 else self._text(token)
        if len(row.ids) >= row.query.max_new_tokens:
            row.open = False
        elif _is_number(row.query) and read(row.text) is Reading.NOT:
            row.open = False  # no continuation can make it a number any more

    def _choice_ids(self, query: Query) -> list[int]:
        for choice in query.choices:
            if choice not in self._ids:
                self._ids[choice] = int(self.tokenizer.convert_tokens_to_ids(choice))
        return [self._ids[choice] for choice in query.choices]

    def _text(self, token: int) -> str:
        text = self._texts.get(token)
        if text is None:
            text = self._texts[token] = str(self.tokenizer.decode([token]))
        return text


def _split(rows: Sequence[Row], longest: int, positions: int | None) -> list[Sequence[Row]]:
    """Rows of ``longest`` positions in parts of about one size, each of at most ``positions`` but a row at least."""
    if positions is None or len(rows) * longest <= positions:
        return [rows]
    parts = -(-len(rows) // max(1, positions // longest))
    size = -(-len(rows) // parts)
    return [rows[at : at + size] for at in range(0, len(rows), size)]


def _is_number(query: Query) -> bool:
    return query.kind in _NUMBER_KINDS and query.max_new_tokens <= _NUMBER_TOKENS


def _shared(rows: Sequence[Row], device: torch.device) -> list[Shared] | None:
    """Prefixes long enough (with images in them) to be shared in place, each with its rows; None: copied instead."""
    if not rows[0].prefix:
        return None
    groups: dict[int, tuple[Layers, list[int]]] = {}
    for i, row in enumerate(rows):
        assert row.layers is not None  # looked up before
        groups.setdefault(id(row.layers), (row.layers, []))[1].append(i)
    if len(groups) == 1:
        return [Shared(None, layers) for layers, _ in groups.values()]
    return [Shared(torch.tensor(members, device=device), layers) for layers, members in groups.values()]


def _batch_layers(rows: Sequence[Row]) -> Layers | None:
    """The rows' prefixes as one batch: expanded without a copy where it is the same one."""
    first = rows[0].layers
    if first is None:
        return None
    if all(row.layers is first for row in rows):
        return tuple((k.expand(len(rows), -1, -1, -1), v.expand(len(rows), -1, -1, -1)) for k, v in first)
    whole = [row.layers for row in rows if row.layers is not None]
    return tuple(
        (torch.cat([layers[i][0] for layers in whole]), torch.cat([layers[i][1] for layers in whole]))
        for i in range(len(first))
    )
