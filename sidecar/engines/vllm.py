"""VLAC through vLLM, in this process: prefix caching, continuous batching, a memory share, sleep.

Prompts go in as ids from :mod:`evo_vlac.model.prompt_tokens`; vLLM expands each image mark itself, so an image's
``<img> context </img>`` is handed over as one context token. Images are squashed to the model's size first, and carry
the bridge's frame keys, so that a frame that was seen is neither hashed nor encoded again.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from evo_vlac import checkpoint
from evo_vlac.device import resolve_dtype
from evo_vlac.engine import CHOICE_ALTERNATIVES, Answer, Query, TokenInfo
from evo_vlac.errors import EvoVlacError
from evo_vlac.images import squash
from evo_vlac.model.prompt_tokens import Prompt, PromptTokens
from sidecar.config import Config
from sidecar.engines.devices import check_vllm_on_a_cpu
from sidecar.errors import CheckpointError, EngineUnavailableError

logger = logging.getLogger(__name__)
_CPU_KV_GIB = "1"
_POSITIONS = 4096  # twelve images and their words
_SLEEP_LEVEL = 1  # weights to host memory, KV cache dropped


class VllmEngine:
    """See the module's head. Raises CheckpointError, EngineUnavailableError."""

    name = "vllm"
    slots = 1
    mixes = True
    remote = False

    def __init__(self, config: Config) -> None:
        assert config.model is not None  # the configuration holds it
        # One process: the supervisor then sees, and ends, all of it.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", _CPU_KV_GIB)
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        try:
            self._checkpoint = checkpoint.inspect(config.model)
        except EvoVlacError as error:
            raise CheckpointError(f"model={config.model}: {error}") from None
        import torch
        from vllm import LLM

        self._cuda = config.device != "cpu" and torch.cuda.is_available()
        if config.device.startswith("cuda") and not self._cuda:
            raise EngineUnavailableError(f"device={config.device}: torch sees no CUDA device here")
        if not self._cuda:
            check_vllm_on_a_cpu()
        self._llm: Any = LLM(**self._arguments(config))
        self._tokens = PromptTokens(self._llm.get_tokenizer(), self._image_tokens())
        height, width = self._checkpoint.image_size
        self._size = (width, height)

    def _arguments(self, config: Config) -> dict[str, Any]:
        options = config.vllm
        arguments: dict[str, Any] = {
            "model": str(self._checkpoint.path),
            "dtype": resolve_dtype(config.dtype, "cuda" if self._cuda else "cpu"),
            "enforce_eager": options.enforce_eager or not self._cuda,
            "enable_prefix_caching": True,
            "limit_mm_per_prompt": {"image": options.images_per_prompt, "video": 0},
            "max_num_seqs": config.batch.max_size,
            "max_logprobs": CHOICE_ALTERNATIVES,
            "trust_remote_code": self._checkpoint.kind is checkpoint.Kind.REMOTE,
            "seed": 0,
        }
        if self._checkpoint.kind is checkpoint.Kind.NATIVE:
            arguments["mm_processor_kwargs"] = {"max_patches": 1}
        else:
            arguments["mm_processor_kwargs"] = {"max_dynamic_patch": 1}
        arguments["max_model_len"] = options.max_model_len or self._enough()
        if self._cuda:
            arguments |= {"enable_sleep_mode": True, "gpu_memory_utilization": self._share(config)}
            if options.kv_cache_gb is not None:  # else it measures, and with its own what others take meanwhile
                arguments["kv_cache_memory_bytes"] = int(options.kv_cache_gb * 1e9)
        else:
            arguments["block_size"] = 32
        return arguments

    def _enough(self) -> int:
        """Positions for the longest question; the model's own limit would reserve far more KV cache."""
        text = self._checkpoint.config.get("text_config") or self._checkpoint.config.get("llm_config") or {}
        return min(_POSITIONS, int(text.get("max_position_embeddings") or _POSITIONS))

    def _share(self, config: Config) -> float:
        """The card's share that vLLM may plan with."""
        if config.vllm.gpu_memory_utilization is not None:
            return config.vllm.gpu_memory_utilization
        if config.memory.budget_gb is None:
            return 0.3
        import torch

        return min(0.95, config.memory.budget_gb * 1e9 / torch.cuda.get_device_properties(0).total_memory)

    def _image_tokens(self) -> int:
        config = self._checkpoint.config
        if self._checkpoint.kind is checkpoint.Kind.NATIVE:
            return int(config["image_seq_length"])
        patch = int(config["vision_config"]["patch_size"])
        ratio = float(config["downsample_ratio"])
        return int((self._checkpoint.image_size[0] // patch) ** 2 * ratio**2)

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """See :class:`sidecar.engines.base.SidecarEngine`."""
        answers: list[Answer | None] = [None] * len(queries)
        prompts, settings, members = [], [], []
        for i, query in enumerate(queries):
            try:
                prompts.append(self._prompt(query))
            except EvoVlacError as error:
                answers[i] = Answer("", error=str(error))
                continue
            settings.append(_settings(query))
            members.append(i)
        outputs = self._llm.generate(prompts, settings, use_tqdm=False) if prompts else []
        for i, output in zip(members, outputs):
            answers[i] = self._read(queries[i], output.outputs[0])
        return [answer or Answer("", error="not answered") for answer in answers]

    def _prompt(self, query: Query) -> dict[str, Any]:
        pictures = [squash(image, self._size) for image in query.images]
        prompt: dict[str, Any] = {
            "prompt_token_ids": collapsed(self._tokens(query)),
            "multi_modal_data": {"image": pictures},
        }
        if query.image_keys:
            prompt["multi_modal_uuids"] = {"image": [_name(key) for key in query.image_keys]}
        return prompt

    def _read(self, query: Query, completion: Any) -> Answer:
        text = completion.text
        if not (query.top_logprobs or query.choices) or completion.logprobs is None:
            return Answer(text)
        special = set(self._tokens.tokenizer.all_special_ids)
        tokens = []
        for token, found in zip(completion.token_ids, completion.logprobs):
            if token in special:
                continue
            top = sorted(((self._text(i, one), one.logprob) for i, one in found.items()), key=lambda entry: -entry[1])
            tokens.append(TokenInfo(self._text(token, found[token]), found[token].logprob, tuple(top)))
        return Answer(text, tuple(tokens))

    def _text(self, token: int, found: Any) -> str:
        text = found.decoded_token
        return text if text is not None else str(self._tokens.tokenizer.decode([token]))

    def forget(self) -> None:
        """Drops what is known of frames and prompts."""
        self._llm.reset_prefix_cache()
        self._llm.llm_engine.reset_mm_cache()
        self._llm.llm_engine.reset_encoder_cache()

    def offload(self) -> None:
        if self._cuda:
            self._llm.sleep(level=_SLEEP_LEVEL)

    def restore(self) -> None:
        if self._cuda:
            self._llm.wake_up()

    def memory_bytes(self) -> Mapping[str, int]:
        if not self._cuda:
            return {"device": 0}
        import torch

        free, total = torch.cuda.mem_get_info()
        return {"device": torch.cuda.memory_reserved(), "device_free": free, "device_total": total}

    def close(self) -> None:
        self._llm = None
        gc.collect()


def collapsed(prompt: Prompt) -> list[int]:
    """The ids with each image's ``<img>``, context tokens, ``</img>`` as one context token."""
    ids: list[int] = []
    at = 0
    for start, end in zip(prompt.images, prompt.ends):
        ids += prompt.ids[at : start - 1]
        ids.append(prompt.ids[start])
        at = end + 1
    return ids + list(prompt.ids[at:])


def _settings(query: Query) -> Any:
    from vllm import SamplingParams

    return SamplingParams(
        temperature=query.temperature,
        max_tokens=query.max_new_tokens,
        logprobs=min(query.alternatives, CHOICE_ALTERNATIVES) or None,
        skip_special_tokens=True,
    )


def _name(key: Hashable) -> str:
    return hashlib.blake2b(repr(key).encode(), digest_size=16).hexdigest()
