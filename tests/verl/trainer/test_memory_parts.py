"""The plan's formulas beside what torch does: what autograd keeps, what a model of that shape has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evo_vlac.model_shape import VLAC_2B
from verl.models.openvla_oft.tiny import TinySize, make_policy, unit_stats
from verl.trainer import memory_parts as parts
from verl.trainer.memory_shapes import policy_shape

SIZE = TinySize(
    image=112, patch=14, vision_dim=192, vision_heads=3, depth=5, hidden=384, layers=6, heads=6, mlp=1024
)  # large enough that small things do not count
ROWS = 4


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """The policy, and its shape by its config.json."""
    folder = tmp_path_factory.mktemp("policy")
    made = make_policy(folder, SIZE, {"tiny": unit_stats(7, 8)}, proprio_dim=8)
    return made.train(), policy_shape(folder)


def kept(policy) -> int:
    """Bytes that autograd keeps of a forward pass, parameters apart."""
    own = {tensor.untyped_storage().data_ptr() for tensor in policy.parameters()}
    held: dict[int, tuple[int, torch.Tensor]] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    images = np.zeros((ROWS, 1, SIZE.image, SIZE.image, 3), np.uint8)
    tokens = torch.full((ROWS, 56), policy.action_tokens.first)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy.evaluate(images, ["lift the red cube"] * ROWS, np.zeros((ROWS, 8), np.float32), tokens)
    return sum(size for size, _ in held.values())


def test_activations_are_what_autograd_keeps(policy, monkeypatch):
    """And a tenth on top for the way back, which nobody counts here. With checkpointing: the blocks' inputs, and more
    for the one that is computed again."""
    model, shape = policy
    monkeypatch.setattr(parts, "PROMPT_TOKENS", model.prompts(("lift the red cube",))[0].shape[1])
    assert 0.85 < kept(model) / parts.activations(shape, ROWS, 4, checkpointing=False) < 1
    model.gradient_checkpointing_enable()
    with_inputs = parts.activations(shape, ROWS, 4, checkpointing=True)
    assert kept(model) < with_inputs < 0.4 * parts.activations(shape, ROWS, 4, checkpointing=False)


def test_a_block_gathered_and_its_gradient_count_only_where_all_is_trained(policy):
    _, shape = policy
    assert parts.gathered(shape, 8, 2) < parts.gathered(shape, 0, 2)
    assert parts.trained(shape, 8) < shape.trained and parts.trained(shape, 0) == shape.trained


def test_what_ranks_share_adds_up_to_the_whole(policy):
    _, shape = policy
    for lora in (0, 8):
        whole = parts.learner_weights(shape, 1, lora, 2)
        assert 8 * parts.learner_weights(shape, 8, lora, 2) == pytest.approx(whole)


def test_a_critics_batch_is_bounded_on_a_card_and_its_caches_by_their_limits():
    """As the engine bounds a pass and the keys and values that are held."""
    small, large = (parts.critic_batch(VLAC_2B, batch, 2, on_card=True) for batch in (4, 4096))
    pictures = 4096 * 448**2 * 3 * 6
    assert small < large <= 4 * parts.CARD_PASS + parts.CARD_KEPT + pictures
    assert parts.critic_caches(VLAC_2B, 2, 1e9, 1e9, (1e6, 2e6)) == 3e6
    assert parts.critic_caches(VLAC_2B, 2, 0, 0, (1e6, 2e6)) == 0
