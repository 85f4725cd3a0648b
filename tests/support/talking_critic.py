"""A small critic that talks in numbers, for every test that needs a model."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

from tests.support.critic_frames import random_frames


def build_talking_critic(path: Path) -> Path:
    """Writes to the new folder ``path`` a tiny InternVL with random weights whose answers are made of signs and digits.

    Random weights say one and the same token. Here the output layer is untied and listens to the hidden states that
    questions really lead to: 0 and 1 are likely and close where done is asked, signs and digits where a pair is. So
    answers differ from image to image, and comparing engines means something.
    """
    import torch

    from evo_vlac.model.loading import Loaded, build_runner
    from evo_vlac.queries import critic_query, done_query
    from evo_vlac.tiny.model import TinyConfig, build_model, build_processor

    config = TinyConfig(text_layers=2, vision_layers=2, seed=3)
    processor = build_processor(config)
    model = build_model(config, processor)
    tokenizer = processor.tokenizer
    with torch.no_grad():
        model.model.multi_modal_projector.linear_2.weight.mul_(30)  # images weigh as much as words
    model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
    runner, seen = build_runner(Loaded(copy.deepcopy(model), tokenizer)), []  # it packs the weights of its model
    five = torch.zeros(len(tokenizer)).index_fill(0, torch.tensor(tokenizer.convert_tokens_to_ids("5")), 1.0)
    runner.backbone._head = lambda hidden: seen.append(hidden.clone()) or five.expand(len(hidden), -1)
    images = random_frames(8)
    runner.answer([done_query(image, "lift the red cube") for image in images])
    runner.answer([critic_query(a, b, "lift the red cube") for a, b in itertools.pairwise(images)])
    head = torch.zeros_like(model.lm_head.weight)
    generator = torch.Generator().manual_seed(4)
    states = [hidden.mean(0) for hidden in seen[:3]]  # where done is asked, where a pair is, after a first digit
    for i, (words, loudness) in enumerate(((("0", "1"), 0.25), (("+", "-", *"23456789"), 0.2), (("<|im_end|>",), 0.3))):
        ids = tokenizer.convert_tokens_to_ids(list(words))
        others = torch.stack(states[:i] + states[i + 1 :])
        own = states[i] - torch.linalg.lstsq(others.T, states[i][:, None]).solution[:, 0] @ others
        noise = torch.randn(len(ids), head.shape[1], generator=generator) * loudness
        head[ids] = noise + 8 * own / (own @ states[i])
    model.lm_head.weight = torch.nn.Parameter(head)
    path.mkdir()
    model.save_pretrained(path, safe_serialization=True)
    processor.save_pretrained(path)
    return path
