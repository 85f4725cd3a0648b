"""What is asked in the measurement: done, a pair, a pair with six references; and the straightforward way to answer it.

A pair's answer is a sign, two digits and an end: four tokens, for every engine (random weights never end by themselves,
and a bench must not profit from knowing early that they say no number).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from evo_vlac.engine import Answer, Query, TokenInfo
from evo_vlac.halving import empty_cache, is_out_of_memory
from evo_vlac.model.runner import ModelRunner
from evo_vlac.model_shape import ModelShape
from evo_vlac.queries import critic_query, done_query

TASK = "lift the red cube"
REFERENCES = 6
NUMBER_TOKENS = 4
CASES = ("done", "critic", "critic_6_references")


class Frames:
    """Frames without end, each with a key of its own."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self._size, self._random, self._count = size, np.random.default_rng(seed), 0
        self.references = [self._frame() for _ in range(REFERENCES)]

    def _frame(self) -> npt.NDArray[np.uint8]:
        return self._random.integers(0, 256, (self._size, self._size, 3), np.uint8)

    def queries(self, case: str, count: int) -> list[Query]:
        """``count`` queries of neighbouring frames of one new episode."""
        self._count += 1
        frames = [self._frame() for _ in range(count + 1)]
        keys = [("bench", self._count, i) for i in range(count + 1)]
        if case == "done":
            return [done_query(frame, TASK, keys=[key]) for frame, key in zip(frames[:count], keys)]
        if case == "critic":
            asked = [critic_query(frames[i], frames[i + 1], TASK, keys=keys[i : i + 2]) for i in range(count)]
        else:
            names = [("reference", i) for i in range(REFERENCES)]
            asked = [
                critic_query(
                    frames[i],
                    frames[i + 1],
                    TASK,
                    reference=self.references,
                    first=frames[0],
                    keys=[*names, keys[0], *keys[i : i + 2]],
                )
                for i in range(count)
            ]
        # A kind of its own: the direct engine must not stop early at a token that begins no number.
        return [query.with_(kind="bench", max_new_tokens=NUMBER_TOKENS, top_logprobs=1) for query in asked]


class Straightforward:
    """Each request encoded whole and generated token by token, in a batch: what ``generate`` does, as upstream."""

    name = "straightforward"

    def __init__(self, runner: ModelRunner) -> None:
        self._runner, self._model = runner, runner.backbone.model

    @torch.inference_mode()
    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answers of queries of one length, in halves where they do not fit."""
        try:
            return self._answer(queries)
        except RuntimeError as error:
            if len(queries) == 1 or not is_out_of_memory(error):
                raise
        empty_cache()
        half = len(queries) // 2
        return self.answer(queries[:half]) + self.answer(queries[half:])

    def _answer(self, queries: Sequence[Query]) -> list[Answer]:
        runner = self._runner
        ids = torch.tensor([runner.tokens(query).ids for query in queries], device=runner.backbone.device)
        pixels = runner.pixels([image for query in queries for image in query.images])
        out = self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=pixels,
            do_sample=False,
            max_new_tokens=queries[0].max_new_tokens,
            return_dict_in_generate=True,
            output_logits=True,
        )
        new = out.sequences[:, -len(out.logits) :].tolist()
        chosen = [torch.log_softmax(step.float(), -1).max(-1).values.tolist() for step in out.logits]
        decode = runner.tokens.tokenizer.decode
        return [
            Answer(decode(row), tuple(TokenInfo(decode([t]), chosen[j][i]) for j, t in enumerate(row)))
            for i, row in enumerate(new)
        ]


@dataclass(frozen=True, slots=True)
class Work:
    """Floating point operations of a batch: done the straightforward way, and as the direct engine does it."""

    straightforward: float
    direct: float


def work(shape: ModelShape, case: str, count: int, length: int, images: int, prefix: int, warm: bool) -> Work:
    """``length``: prompt positions; ``prefix``: of them shared; ``warm``: prefix and frames are known already."""
    tokens = 1 if case == "done" else NUMBER_TOKENS
    later = sum(shape.text_flops(1, length + i) for i in range(tokens - 1))
    head = tokens * shape.head_flops()
    whole = images * shape.image_flops() + shape.text_flops(length) + later + head
    own = shape.text_flops(length - prefix, prefix, last_only=True) + later + head
    if case == "done":
        return Work(count * whole, count * (own + (0.0 if warm else shape.image_flops())))
    frames = count + 1 + (REFERENCES if images > 2 else 0)
    once = 0.0 if warm else frames * shape.image_flops() + shape.text_flops(prefix)
    return Work(count * whole, count * own + once)
