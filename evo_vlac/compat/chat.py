"""Loading a model and talking to it, the way ``GAC_model`` does: requests, responses, answers."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image as PILImage

from evo_vlac import parsing, prompts
from evo_vlac.compat.device_map import device_of
from evo_vlac.compat.logprobs import completion_logprobs
from evo_vlac.compat.prompt_methods import PromptMethods
from evo_vlac.compat.requests import InferRequest, Response
from evo_vlac.critic import Critic
from evo_vlac.engine import Answer, Image, Query
from evo_vlac.errors import EngineError, OptionError
from evo_vlac.images import load_image, squash
from evo_vlac.progress import bar
from evo_vlac.swift_engine import SwiftEngine, request_config

log = logging.getLogger(__name__)

MODEL_TYPES = ("internvl2", "internvl", "internvl_chat", "internvl_hf")
DEFAULT_SYSTEM = (
    "\u4f60\u662f\u7531\u4e0a\u6d77\u4eba\u5de5\u667a\u80fd\u5b9e\u9a8c\u5ba4\u8054\u5408\u5546\u6c64\u79d1"
    "\u6280\u5f00\u53d1\u7684\u4e66\u751f\u591a\u6a21\u6001\u5927\u6a21\u578b\uff0c\u82f1\u6587\u540d\u53ebIntern"
    "VL, \u662f\u4e00\u4e2a\u6709\u7528\u65e0\u5bb3\u7684\u4eba\u5de5\u667a\u80fd\u52a9\u624b\u3002"
)
"""The system prompt that ms-swift's template ``internvl2`` puts in front where none is given, so upstream asks with it
until :meth:`ChatMethods.set_system_prompt` is called."""
_SIZE = (448, 448)
_TOP_K = 50  # what ms-swift samples among where top_k is None


class ChatMethods(PromptMethods):
    """Settings are attributes (temperature, max_tokens, do_sample, top_k, logprobs, top_logprobs), set before
    :meth:`set_config`, as upstream's users know them. They hold for trajectories as for :meth:`chat`."""

    def __init__(self, tag: str = "critic") -> None:
        super().__init__()
        self.tag = tag
        self.temperature = 1.0
        self.max_tokens = 10240
        self.do_sample = True
        self.top_logprobs = 10
        self.logprobs = True
        self.top_k: int | None = None
        self.system_prompt: str | None = None
        self.engine: SwiftEngine | None = None
        self.model: Any = None
        self.template: Any = None
        self.request_config: Any = None
        self.action_data: dict[str, Any] = {}
        self.critic_data: dict[str, Any] = {}
        self.sft_dataset: Any = None

    def init_model(
        self,
        model_path: str,
        model_type: str = "internvl2",
        device_map: Any = "auto",
        torch_dtype: Any = torch.bfloat16,
        adapter: str | None = None,
    ) -> None:
        """Loads a checkpoint, and an adapter onto it. Its kind is read from the checkpoint; ``model_type`` is only
        checked. ``device_map``: a name, a number, a ``torch.device``, None (the best one), or a map onto one device. A
        CUDA device that is not there becomes the best one that is, with a warning."""
        if model_type not in MODEL_TYPES:
            raise OptionError(f"model_type is {model_type!r}; allowed: {', '.join(MODEL_TYPES)}")
        device = device_of(device_map)
        if device.startswith("cuda") and not torch.cuda.is_available():
            log.warning("device_map is %r, but torch sees no CUDA device; going on with 'auto'", device)
            device = "auto"
        dtype = str(torch_dtype).removeprefix("torch.") if torch_dtype is not None else "auto"
        self.engine = SwiftEngine(model_path, device=device, dtype=dtype, adapter=adapter)
        self.model = self.engine.engine.model
        self.template = self.engine.engine.template
        log.info("model %s loaded on %s", model_path, self.engine.device)

    def set_config(self) -> None:
        """Takes the settings over into the requests that follow."""
        if self.max_tokens < 1:
            raise OptionError(f"max_tokens is {self.max_tokens}; at least 1 is needed")
        top = self.top_logprobs if self.logprobs else 0
        self.request_config = request_config(self.max_tokens, self._temperature, top, self.top_k)

    def set_system_prompt(self, system_prompt: str | None = None) -> None:
        """The system prompt of the requests that follow: the given one, or (None) the checkpoints' own. Until it is
        called, and with "", :data:`DEFAULT_SYSTEM` is sent, as upstream does."""
        self.system_prompt = prompts.system_prompt() if system_prompt is None else system_prompt

    def get_infer_requests(self, prompt: str | list[str], images: Any = None) -> list[InferRequest]:
        """Requests of prompts and images (paths, URLs, data URIs, base64, PIL, arrays): one prompt with its images, or
        a list of prompts with a list of image lists. Images are squashed to the checkpoint's size."""
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        groups = [images] if isinstance(prompt, str) else list(images if images is not None else [None] * len(texts))
        if len(texts) != len(groups):
            raise OptionError(f"{len(texts)} prompts for {len(groups)} lists of images; as many are needed")
        requests = []
        for text, group in zip(texts, groups):
            messages = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
            messages.append({"role": "user", "content": text})
            chosen = group if isinstance(group, (list, tuple)) else [group]
            pictures = [self._process_image_to_pil(image) for image in chosen if image is not None]
            requests.append(InferRequest(messages, pictures))
        return requests

    def chat(self, infer_requests: list[InferRequest]) -> tuple[list[Response], float]:
        """The responses, in the requests' order, and the seconds they took. A failed one carries ``error``."""
        engine = self._engine()
        if self.request_config is None:
            self.set_config()
        start = time.monotonic()
        answers = engine.chat(
            [self._with_system(request.messages) for request in infer_requests],
            [request.images for request in infer_requests],
            self.request_config,
        )
        for answer in answers:
            if answer.error is not None:
                log.warning("a request failed: %s", answer.error)
        return [Response.of(answer) for answer in answers], time.monotonic() - start

    def results_format(
        self, response_list: list[Response], infer_requests: list[InferRequest], rich: bool = False
    ) -> tuple[list[str], list[InferRequest]]:
        """The answers' texts (``rich``: with decimals from the probabilities), and the conversations with them
        added."""
        continued = copy.deepcopy(infer_requests)
        answers = []
        for response, request in zip(response_list, continued):
            answer = response.answer()
            answers.append(parsing.rich_text(answer) if rich else answer.text)
            request.messages.append({"role": "assistant", "content": answer.text})
        return answers, continued

    def fast_results_format(
        self,
        response_list: list[Response],
        infer_requests: list[InferRequest],
        tokenizer: Any,
        time_horizon: int = 10,
        action_dim: int = 7,
    ) -> tuple[Any, list[InferRequest]]:
        """The action chunk of the last response, decoded by ``tokenizer.fasttokenizer`` (FAST action tokens count down
        from id 92537), and the conversations continued."""
        answers, continued = self.results_format(response_list, infer_requests)
        if not answers:
            raise OptionError("fast_results_format: no responses given")
        ids: list[int] = []
        for token in response_list[-1].answer().tokens:
            encoded = tokenizer.encode(token.text, add_special_tokens=False)
            if encoded and 0 <= 92537 - encoded[0] <= 2048:
                ids.extend(encoded)
        chunk = tokenizer.fasttokenizer.decode(
            [[92537 - one for one in ids]], time_horizon=time_horizon, action_dim=action_dim
        )
        return chunk, continued

    def get_logprobs(self, infer_requests: list[InferRequest], return_mask: bool = False, digit: bool = False) -> Any:
        """Log-probabilities of the last assistant turn's tokens, (requests, tokens) float, at ``self.temperature``;
        with ``return_mask`` also which tokens count, with ``digit`` also which of them are digits or signs. They carry
        gradients, for a loss; call it under ``torch.no_grad()`` where only the numbers are wanted."""
        asked = [InferRequest(self._with_system(one.messages), list(one.images)) for one in infer_requests]
        logps, mask, digits = completion_logprobs(self._engine(), asked, self.temperature)
        if not return_mask:
            return logps
        return (logps, mask, digits) if digit else (logps, mask)

    @property
    def _temperature(self) -> float:
        return 0.0 if not self.do_sample or self.top_k == 1 else float(self.temperature)

    def _engine(self) -> SwiftEngine:
        if self.engine is None:
            raise EngineError("no model is loaded; call init_model(model_path=...) first")
        return self.engine

    def _with_system(self, messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
        """The conversation with its system prompt: its own, or else the default one in front."""
        spoken = any(message["role"] == "system" for message in messages)
        return [*([] if spoken else [{"role": "system", "content": DEFAULT_SYSTEM}]), *messages]

    def _query(
        self, kind: str, prompt: str, images: Sequence[Image], limit: int | None = None, choices: tuple[str, ...] = ()
    ) -> Query:
        """A question under this class's settings. ``limit``: the most tokens that an answer of its kind has (else
        ``max_tokens`` alone decides)."""
        return Query(
            kind=kind,
            prompt=prompt,
            images=tuple(images),
            system=self.system_prompt or DEFAULT_SYSTEM,
            max_new_tokens=self.max_tokens if limit is None else min(limit, self.max_tokens),
            temperature=self._temperature,
            top_k=_TOP_K if self.top_k is None else max(0, self.top_k),
            top_logprobs=self.top_logprobs if self.logprobs else 0,
            choices=choices,
        )

    def _answers(self, title: str, batch_num: int, asked: Sequence[Query]) -> list[Answer]:
        """The answers, ``batch_num`` questions at once, with a progress bar."""
        with bar(title) as progress:
            return Critic(self._engine(), batch_size=batch_num, progress=progress).answers(asked)

    def _process_image_to_pil(self, image_input: Any) -> PILImage.Image:
        size = self.engine.image_size if self.engine is not None else _SIZE
        return squash(load_image(image_input), size)
