"""Log-probabilities of a given answer, for training on preferences."""

from __future__ import annotations

import re
from typing import Any

import torch

from evo_vlac.compat.requests import InferRequest
from evo_vlac.errors import OptionError
from evo_vlac.swift_engine import SwiftEngine


def completion_logprobs(
    engine: SwiftEngine, requests: list[InferRequest], temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(log-probabilities, which tokens belong to the answer, which of those are digits or signs), each (B, T).
    The first carries gradients."""
    from swift.infer_engine import InferRequest as SwiftRequest

    if not requests or any(request.messages[-1]["role"] != "assistant" for request in requests):
        raise OptionError("get_logprobs needs conversations that end with the assistant's answer")
    template, model = engine.engine.template, engine.engine.model
    before = template.mode
    template.set_mode("train")
    try:
        encoded = [template.encode(SwiftRequest(messages=list(r.messages), images=list(r.images))) for r in requests]
        inputs = template.data_collator(encoded)
    finally:
        template.set_mode(before)
    inputs = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    labels = inputs.pop("labels")
    keep = int((labels.shape[-1] - (labels != -100).int().argmax(-1)).max())
    logits = _logits(model, template, inputs)[:, -(keep + 1) : -1, :] / max(temperature, 1e-6)
    targets = labels[:, -keep:]
    mask = targets != -100
    chosen = torch.log_softmax(logits.float(), dim=-1).gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    digits = mask & torch.tensor(
        [[bool(re.search(r"[0-9+\-]", _text(engine, token))) for token in row] for row in targets.tolist()],
        device=mask.device,
    )
    return chosen * mask, mask, digits


def _logits(model: Any, template: Any, inputs: dict[str, Any]) -> torch.Tensor:
    _, inputs = template.pre_forward_hook(model, None, inputs)
    logits: torch.Tensor = model(**inputs).logits
    return logits


def _text(engine: SwiftEngine, token: int) -> str:
    return str(engine.engine.tokenizer.decode([token])) if token >= 0 else ""
