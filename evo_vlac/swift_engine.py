"""The reference engine: VLAC through ms-swift's TransformersEngine.

    queries -> groups of equal settings -> batches -> ms-swift -> answers in the queries' order

Batches shrink, for good, where memory ends; a failure is narrowed down to the query that causes it (halving.py).
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from evo_vlac import checkpoint as checkpoints
from evo_vlac.device import resolve_device, resolve_dtype
from evo_vlac.engine import Answer, Image, Query, TokenInfo
from evo_vlac.errors import CheckpointError, EngineError, EvoVlacError, OptionError, OutOfMemoryError
from evo_vlac.halving import HalvingBatches, empty_cache, first_line, is_out_of_memory
from evo_vlac.images import squash

log = logging.getLogger(__name__)


class SwiftEngine:
    """Answers queries with a VLAC checkpoint on one device.

    model: folder of a checkpoint. device: "cpu", "cuda", "cuda:1", "mps", "auto" (the best there is). dtype:
    "float32", "bfloat16", "float16" or "auto" (bfloat16 on CUDA, else float32). adapter: folder of a peft
    adapter. max_batch_size: queries per forward at most. Raises CheckpointError, EngineError, OptionError.
    """

    name = "swift"

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        max_batch_size: int = 16,
        adapter: str | Path | None = None,
        attn_impl: str | None = None,
    ) -> None:
        if max_batch_size < 1:
            raise OptionError(f"max_batch_size is {max_batch_size}; at least 1 is needed")
        self.checkpoint = checkpoints.inspect(model)
        checkpoints.require_runnable(self.checkpoint)
        adapter_path = checkpoints.check_adapter(adapter) if adapter else None
        self.device = resolve_device(device)
        self.dtype = resolve_dtype(dtype, self.device)
        self.batches = HalvingBatches(self._infer, max_batch_size)
        # The published code knows no sdpa; flash attention is never needed.
        known = "sdpa" if self.checkpoint.kind is checkpoints.Kind.NATIVE else "eager"
        self.engine: Any = self._load(adapter_path, attn_impl or known)
        self._unprinted = _unprinted_tokens(self.engine)

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) every image is squashed to."""
        height, width = self.checkpoint.image_size
        return width, height

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """See :class:`evo_vlac.engine.Engine`."""
        self._check_open()
        answers: list[Answer | None] = [None] * len(queries)
        pictures: dict[int, PILImage.Image] = {}
        groups: dict[tuple[Any, ...], list[int]] = {}
        requests: dict[int, Any] = {}
        for i, query in enumerate(queries):
            try:
                requests[i] = self._request(query, pictures)
            except EvoVlacError as error:
                answers[i] = Answer("", error=str(error))
                continue
            groups.setdefault((query.max_new_tokens, query.temperature, query.alternatives, query.top_k), []).append(i)
        for (max_new_tokens, temperature, top, top_k), members in groups.items():
            # ms-swift reads a top_k of None as 50 when it samples; -1 switches it off.
            config = request_config(max_new_tokens, temperature, top, top_k or -1)
            for i, answer in zip(members, self.batches.answer([(requests[i], config) for i in members])):
                answers[i] = answer
        return [answer if answer is not None else Answer("", error="not answered") for answer in answers]

    def chat(
        self, messages: Sequence[list[dict[str, Any]]], images: Sequence[Sequence[Any]], config: Any
    ) -> list[Answer]:
        """Answers conversations of any length (messages as ms-swift takes them, images as PIL) under one request
        config."""
        from swift.infer_engine import InferRequest

        self._check_open()
        requests = [
            InferRequest(messages=turns, images=[squash(image, self.image_size) for image in pictures])
            for turns, pictures in zip(messages, images)
        ]
        return self.batches.answer([(request, config) for request in requests])

    def close(self) -> None:
        """Frees the model."""
        self.engine = None
        gc.collect()
        empty_cache()

    def _check_open(self) -> None:
        if self.engine is None:
            raise EngineError("the engine is closed")

    def _load(self, adapter: Path | None, attn_impl: str) -> Any:
        import torch
        from safetensors import SafetensorError

        TransformersEngine = _quiet_swift()
        model_type, template_type = self.checkpoint.swift_types
        try:
            engine = _loaded_quietly(
                TransformersEngine,
                str(self.checkpoint.path),
                model_type=model_type,
                template_type=template_type,
                torch_dtype=getattr(torch, self.dtype),
                attn_impl=attn_impl,
                device_map=self.device,
                max_batch_size=0,
                adapters=[str(adapter)] if adapter else None,
                use_hf=True,
            )
        except (OSError, ValueError, RuntimeError, LookupError, TypeError, ImportError, SafetensorError) as error:
            path, story = self.checkpoint.path, first_line(error)
            if is_out_of_memory(error):
                raise OutOfMemoryError(f"{path} does not fit on {self.device}: {story}") from error
            raise CheckpointError(f"{path} cannot be loaded: {story}") from error
        engine.strict = False  # an image that cannot be encoded is that query's error, not the batch's
        image_processor = getattr(engine.processor, "image_processor", None)
        if image_processor is not None and hasattr(image_processor, "max_patches"):
            image_processor.max_patches = 1
        if self.checkpoint.kind is checkpoints.Kind.REMOTE:  # its template assumes 448 px and up to 12 tiles
            engine.template.input_size, engine.template.max_num = self.checkpoint.image_size[0], 1
        return engine

    def _request(self, query: Query, pictures: dict[int, PILImage.Image]) -> Any:
        from swift.infer_engine import InferRequest

        messages = [{"role": "system", "content": query.system}] if query.system else []
        messages.append({"role": "user", "content": query.marked_prompt})
        return InferRequest(messages=messages, images=[self._picture(image, pictures) for image in query.images])

    def _picture(self, image: Image, pictures: dict[int, PILImage.Image]) -> PILImage.Image:
        """Squashes an image once per call, however many queries share it (reference frames are in all of
        them)."""
        if id(image) not in pictures:
            pictures[id(image)] = squash(image, self.image_size)
        return pictures[id(image)]

    def _infer(self, asked: list[tuple[Any, Any]]) -> list[Answer]:
        """Answers requests of one request config, each given with it."""
        responses = self.engine.infer([request for request, _ in asked], asked[0][1], use_tqdm=False)
        return [self._answer(response) for response in responses]

    def _answer(self, response: Any) -> Answer:
        if isinstance(response, Exception):
            return Answer("", error=f"{type(response).__name__}: {first_line(response)}")
        choice = response.choices[0]
        content = (choice.logprobs or {}).get("content") or []
        tokens = [
            TokenInfo(
                text=one["token"],
                logprob=float(one["logprob"]),
                top=tuple((t["token"], float(t["logprob"])) for t in one.get("top_logprobs") or ()),
            )
            for one in content
        ]
        while tokens and tokens[-1].text in self._unprinted:
            tokens.pop()
        return Answer(str(choice.message.content), tuple(tokens))


def request_config(max_new_tokens: int, temperature: float, top_logprobs: int, top_k: int | None) -> Any:
    """ms-swift's RequestConfig; temperature 0 is greedy."""
    from swift.infer_engine import RequestConfig

    return RequestConfig(
        max_tokens=max_new_tokens,
        temperature=temperature,
        top_k=None if temperature == 0 else top_k,
        logprobs=top_logprobs > 0,
        top_logprobs=top_logprobs or None,
    )


def _quiet_swift() -> Any:
    """ms-swift's engine class, with its log messages below errors silenced."""
    levels = [(handler, handler.level) for handler in logging.getLogger().handlers]
    try:
        from swift.infer_engine import TransformersEngine
        from swift.utils import get_logger
    except ImportError as error:
        raise EngineError(f"ms-swift 4.6 is not installed (pip install 'ms-swift>=4.6'): {error}") from error
    finally:
        for handler, level in levels:  # ms-swift and modelscope raise the root's to ERROR: our warnings would be lost
            handler.setLevel(level)
    get_logger().setLevel(logging.ERROR)  # its warnings are about code a native checkpoint does not ship
    return TransformersEngine


def _loaded_quietly(engine: Any, *args: Any, **kwargs: Any) -> Any:
    """An engine, without transformers' bar of weights and its word about an argument that ms-swift gives it."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        return engine(*args, **kwargs)
    finally:
        transformers_logging.set_verbosity(level)


def _unprinted_tokens(engine: Any) -> frozenset[str]:
    tokenizer = engine.tokenizer
    stops = [word for word in engine.template.template_meta.stop_words if isinstance(word, str)]
    return frozenset([*tokenizer.all_special_tokens, *stops, *(word.strip() for word in stops)])
