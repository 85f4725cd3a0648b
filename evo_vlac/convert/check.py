"""Compares a converted checkpoint with the published code, run in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac import prompts
from evo_vlac.errors import CheckpointError, EngineError

_SCRIPT = Path(__file__).with_name("reference_logits.py")
_TIMEOUT_S = 3600.0
_TEXTS = ("user\n", " mid-string", "+12", "-7%", "把红色方块拿起来", "a  b\n\n", "1")


@dataclass(frozen=True, slots=True)
class Comparison:
    """``difference``: largest difference of two logits; ``tokens``: how many positions were compared."""

    difference: float
    tokens: int


def compare(source: str | Path, target: str | Path, python: str, tolerance: float = 1e-3) -> Comparison:
    """Runs both on one pair question over random pictures, in float32. CheckpointError where they differ: in a token of
    a text, in the likeliest token of a position, or by more than ``tolerance`` in a logit."""
    request = _request(Path(target))
    with tempfile.TemporaryDirectory() as folder:
        asked, reply = Path(folder) / "asked.npz", Path(folder) / "reply.npz"
        np.savez(asked, **request)
        _run_reference(python, Path(source), asked, reply)
        with np.load(reply) as answer:
            theirs, tokens = answer["logits"], json.loads(str(answer["tokens"]))
    ours = _logits(Path(target), request)
    _same_tokens(Path(target), tokens)
    difference = float(np.abs(ours - theirs).max())
    if difference > tolerance or (ours.argmax(-1) != theirs.argmax(-1)).any():
        raise CheckpointError(
            f"{target} differs from {source}: logits by up to {difference:.3g} (allowed: {tolerance:g}); do not use it"
        )
    return Comparison(difference, len(ours))


def _request(target: Path) -> dict[str, Any]:
    processor = _processor(target)
    marks = "<img>" + "<IMG_CONTEXT>" * processor.image_seq_length + "</img>"
    text = prompts.critic("lift the red cube").replace("<image>", marks)
    turn = f"<|im_start|>system\n{prompts.system_prompt()}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n"
    ids = processor.tokenizer.encode(turn + "<|im_start|>assistant\n+1")
    size = processor.image_processor.size
    shape = (2, 3, size["height"], size["width"])
    pixels = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return {"texts": json.dumps(list(_TEXTS)), "ids": np.asarray(ids, dtype=np.int64), "pixels": pixels}


def _run_reference(python: str, source: Path, asked: Path, reply: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [python, str(_SCRIPT), str(source), str(asked), str(reply)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"the reference environment {python} cannot be run: {error}") from error
    if done.returncode:
        raise EngineError(f"the reference environment failed:\n{done.stderr.strip()[-2000:]}")


def _logits(target: Path, request: dict[str, Any]) -> npt.NDArray[np.float32]:
    import torch
    from transformers import InternVLForConditionalGeneration

    model: Any = InternVLForConditionalGeneration.from_pretrained(target, dtype=torch.float32)
    model.eval()
    with torch.inference_mode():
        output = model(
            input_ids=torch.from_numpy(request["ids"])[None], pixel_values=torch.from_numpy(request["pixels"])
        )
    logits: npt.NDArray[np.float32] = output.logits[0].numpy()
    return logits


def _same_tokens(target: Path, theirs: list[list[int]]) -> None:
    tokenizer = _processor(target).tokenizer
    for text, wanted in zip(_TEXTS, theirs):
        got = tokenizer.encode(text, add_special_tokens=False)
        if got != wanted:
            raise CheckpointError(f"{target}: the tokenizer differs on {text!r}: {got} for {wanted}; do not use it")


def _processor(target: Path) -> Any:
    from transformers import InternVLProcessor

    return InternVLProcessor.from_pretrained(target)
