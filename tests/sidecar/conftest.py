"""A small critic that talks in numbers, for every test that needs a model."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


def random_frames(count: int, seed: int = 0, size: int = 112) -> list[npt.NDArray[Any]]:
    """Frames of random coarse blocks, uint8 (size, size, 3): as different from each other as pictures can be."""
    blocks = np.random.default_rng(seed).integers(0, 256, (count, size // 8, size // 8, 3), np.uint8)
    return list(blocks.repeat(8, 1).repeat(8, 2))


@pytest.fixture(scope="session")
def critic_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny InternVL with random weights whose answers are made of signs and digits.

    Random weights say one and the same token. Here the output layer is untied and listens to the hidden states that
    questions really lead to: 0 and 1 are likely and close where done is asked, signs and digits where a pair is. So
    answers differ from image to image, and comparing engines means something.
    """
    import torch

    from evo_vlac.queries import critic_query, done_query
    from evo_vlac.tiny import TinyConfig, build_model, build_processor
    from sidecar.engines.direct_loader import build_direct

    path = tmp_path_factory.mktemp("critic") / "talking"
    config = TinyConfig(text_layers=2, vision_layers=2, seed=3)
    processor = build_processor(config)
    model = build_model(config, processor)
    tokenizer = processor.tokenizer
    with torch.no_grad():
        model.model.multi_modal_projector.linear_2.weight.mul_(30)  # images weigh as much as words
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
    engine, seen = build_direct(model, tokenizer), []
    engine.backbone._head = lambda hidden: seen.append(hidden.clone()) or torch.zeros(len(hidden), 2000)
    images = random_frames(8)
    engine.answer([done_query(image, "lift the red cube") for image in images])
    engine.answer([critic_query(a, b, "lift the red cube") for a, b in itertools.pairwise(images)])
    generator = torch.Generator().manual_seed(7)
    head = torch.zeros_like(model.lm_head.weight)
    for hidden, words, loudness in ((seen[0], ("0", "1"), 0.25), (seen[1], ("+", "-", *"23456789"), 0.2)):
        mean = hidden.mean(0)
        ids = tokenizer.convert_tokens_to_ids(list(words))
        noise = torch.randn(len(ids), head.shape[1], generator=generator) * loudness
        head[ids] = noise + 8 * mean / mean.square().sum()
    head[tokenizer.eos_token_id] = torch.randn(head.shape[1], generator=generator) * 0.4
    model.lm_head.weight = torch.nn.Parameter(head)
    path.mkdir()
    model.save_pretrained(path, safe_serialization=True)
    processor.save_pretrained(path)
    return path
