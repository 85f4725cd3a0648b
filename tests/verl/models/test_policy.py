"""The policy's behaviour: probabilities, batches, attention, gradients, adapters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from verl.models.openvla_oft import InputError, OpenVLAOFTPolicy, lora

Observations = tuple[np.ndarray, list[str], np.ndarray]


@pytest.fixture
def policy(checkpoint: Path) -> OpenVLAOFTPolicy:
    return OpenVLAOFTPolicy.from_pretrained(checkpoint)


def test_rollout_and_learner_agree_on_log_probabilities(policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """``evaluate`` of sampled tokens gives the log-probabilities that ``predict`` reported, at the same temperature."""
    sampled = policy.predict(*observations, temperature=1.6, generator=torch.Generator().manual_seed(0))
    evaluated = policy.evaluate(*observations, sampled.tokens, temperature=1.6)
    assert torch.allclose(sampled.log_probs, evaluated.log_probs, atol=1e-5)
    assert sampled.actions.shape == (3, 8, 7) and sampled.actions.dtype == np.float32
    assert sampled.tokens.shape == (3, 56) and sampled.tokens.dtype == torch.int64


def test_only_action_tokens_are_sampled(policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """All ids lie in the last 256 of the vocabulary, their probabilities sum to 1 there."""
    tokens = policy.predict(*observations, temperature=5.0).tokens
    assert tokens.min() >= policy.action_tokens.first and tokens.max() < policy.action_tokens.vocab_size
    logits, _ = policy(*observations)
    assert logits.shape == (3, 56, 256)


def test_same_generator_same_actions(policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """Sampling depends on the generator alone."""
    first, second = (policy.predict(*observations, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.tokens, second.tokens)


def test_temperature_zero_is_greedy(policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """It takes the most probable token of each position."""
    logits, _ = policy(*observations)
    expected = logits.argmax(-1) + policy.action_tokens.first
    assert torch.equal(policy.predict(*observations, temperature=0).tokens, expected)


def test_a_batch_is_its_rows(policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """Padding to the longest prompt changes nothing: each row alone gives the same logits."""
    images, texts, proprio = observations
    whole, _ = policy(images, texts, proprio)
    for i in range(3):
        alone, _ = policy(images[i : i + 1], texts[i : i + 1], proprio[i : i + 1])
        assert torch.allclose(whole[i], alone[0], atol=1e-5)


def test_every_input_reaches_every_action(policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """Image, instruction and proprioception each move the logits of the first and of the last action token."""
    images, texts, proprio = observations
    base, _ = policy(images, texts, proprio)
    for changed in (
        policy(255 - images, texts, proprio)[0],
        policy(images, ["open the red door"] * 3, proprio)[0],
        policy(images, texts, proprio + 0.3)[0],
    ):
        moved = (changed - base).abs().amax(-1)
        assert (moved[:, 0] > 1e-4).all() and (moved[:, -1] > 1e-4).all()


def test_attention_is_bidirectional(policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """The first action token sees what stands behind it: the stop token's embedding moves its logits."""
    base, _ = policy(*observations)
    with torch.no_grad():
        policy.language_model.model.embed_tokens.weight[2] += 1.0
    moved, _ = policy(*observations)
    assert (moved[:, 0] - base[:, 0]).abs().max() > 1e-4


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_implementations_agree(checkpoint: Path, observations: Observations, attention: str) -> None:
    """Eager attention and SDPA give the same logits."""
    reference = OpenVLAOFTPolicy.from_pretrained(checkpoint)(*observations)[0]
    other = OpenVLAOFTPolicy.from_pretrained(checkpoint, attention=attention)(*observations)[0]
    assert torch.allclose(reference, other, atol=1e-5)


def test_gradients_reach_all_that_takes_part_and_nothing_else(
    policy: OpenVLAOFTPolicy, observations: Observations
) -> None:
    """Every trainable parameter gets a gradient; what lies behind the second-to-last vision layer is frozen."""
    policy.train()
    tokens = policy.predict(*observations).tokens
    policy.evaluate(*observations, tokens).log_probs.sum().backward()
    without = [n for n, p in policy.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    frozen = {n.split(".")[2] for n, p in policy.named_parameters() if not p.requires_grad}
    assert frozen == {"blocks", "norm", "attn_pool"}


def test_checkpointing_changes_no_gradient(checkpoint: Path, observations: Observations) -> None:
    """Recomputing activations gives the same gradients."""
    grads = []
    for recompute in (False, True):
        policy = OpenVLAOFTPolicy.from_pretrained(checkpoint)
        if recompute:
            policy.gradient_checkpointing_enable()
        policy.train()
        tokens = torch.full((3, 56), policy.action_tokens.first + 3)
        policy.evaluate(*observations, tokens).log_probs.sum().backward()
        grads.append([p.grad for p in policy.parameters() if p.grad is not None])
    assert all(torch.allclose(a, b, atol=1e-4, rtol=1e-3) for a, b in zip(*grads))


def test_entropy_is_that_of_the_distribution(policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """A high temperature comes near log 256; the entropy is never negative."""
    tokens = policy.predict(*observations).tokens
    hot = policy.evaluate(*observations, tokens, temperature=1e4).entropy
    assert torch.allclose(hot, torch.full_like(hot, np.log(256)), atol=1e-3)
    assert (policy.evaluate(*observations, tokens, temperature=0.1).entropy >= 0).all()


def test_lora_starts_as_nothing_and_merges_exactly(
    checkpoint: Path, tmp_path: Path, observations: Observations
) -> None:
    """New adapters change no logit; trained ones, merged into another policy and into the export, give the same."""
    plain = OpenVLAOFTPolicy.from_pretrained(checkpoint)
    policy = OpenVLAOFTPolicy.from_pretrained(checkpoint)
    policy.add_lora(rank=4, alpha=8)
    assert torch.allclose(policy(*observations)[0], plain(*observations)[0], atol=1e-6)
    trainable = {n for n, p in policy.named_parameters() if p.requires_grad}
    assert all(".lora_" in n or n.startswith("proprio_projector") for n in trainable)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if ".lora_B" in name:
                parameter.normal_(0, 0.1)
    changed = policy(*observations)[0]
    assert (changed - plain(*observations)[0]).abs().max() > 1e-2
    plain.load_state_dict(lora.merged(policy.state_dict()))
    assert torch.allclose(plain(*observations)[0], changed, atol=1e-4)
    OpenVLAOFTPolicy.save_state(checkpoint, policy.state_dict(), tmp_path / "merged")
    again = OpenVLAOFTPolicy.from_pretrained(tmp_path / "merged")
    assert torch.equal(again(*observations)[0], plain(*observations)[0])


def test_gripper_conventions(checkpoint: Path, observations: Observations) -> None:
    """``raw`` passes the last dimension; ``rlds`` turns 0 (closed) .. 1 (open) into +1 (close) and -1 (open)."""
    raw = OpenVLAOFTPolicy.from_pretrained(checkpoint)
    rlds = OpenVLAOFTPolicy.from_pretrained(checkpoint, gripper_convention="rlds")
    tokens = raw.predict(*observations).tokens.numpy()
    a, b = raw.to_actions(tokens), rlds.to_actions(tokens)
    assert np.array_equal(a[..., :6], b[..., :6])
    assert np.array_equal(b[..., 6], np.where(a[..., 6] > 0.5, -1.0, 1.0))


def test_shard_blocks_are_the_transformer_blocks_that_take_part(policy: OpenVLAOFTPolicy) -> None:
    """Two of three blocks of each backbone and both decoder layers, none twice."""
    blocks = policy.shard_blocks()
    assert len(blocks) == 2 + 2 + 2
    assert len({id(b) for b in blocks}) == len(blocks)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i, t, p: (i.astype(np.float32), t, p), "uint8 is expected"),
        (lambda i, t, p: (i[:, 0], t, p), r"\(B, cameras, H, W, 3\)"),
        (lambda i, t, p: (i, t[:2], p), "instructions: 2 for 3"),
        (lambda i, t, p: (i, ["", "a", "b"], p), "instruction: ''"),
        (lambda i, t, p: (i, t, p[:, :7]), r"proprio: \(3, 7\), but \(3, 8\)"),
        (lambda i, t, p: (i, t, None), "proprio: None"),
    ],
)
def test_bad_inputs_are_named(policy: OpenVLAOFTPolicy, observations: Observations, change, words: str) -> None:
    """Each error names what was given and what is expected."""
    with pytest.raises(InputError, match=words):
        policy.predict(*change(*observations))


def test_tokens_that_are_no_actions_are_refused(policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """An id outside the action tokens cannot be scored."""
    with pytest.raises(InputError, match="ids of action tokens"):
        policy.evaluate(*observations, torch.zeros(3, 56, dtype=torch.int64))


def test_frames_of_another_size_are_resized(policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """Frames of 112 pixels are scaled down as PIL does it."""
    images, texts, proprio = observations
    big = images.repeat(2, axis=2).repeat(2, axis=3)
    assert policy.predict(big, texts, proprio).actions.shape == (3, 8, 7)


def test_strided_views_are_taken(policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """An upright view on flipped rows (negative strides, read-only) gives what its copy gives."""
    images, texts, proprio = observations
    stored = np.ascontiguousarray(images[:, :, ::-1])
    stored.flags.writeable = False
    assert torch.equal(policy(stored[:, :, ::-1], texts, proprio)[0], policy(images, texts, proprio)[0])


def test_bfloat16_comes_near_float32(checkpoint: Path, policy: OpenVLAOFTPolicy, observations: Observations) -> None:
    """The rollout's dtype on a GPU: same shapes, float32 log-probabilities, near the learner's."""
    half = OpenVLAOFTPolicy.from_pretrained(checkpoint, dtype=torch.bfloat16)
    output = half.predict(*observations)
    assert output.log_probs.dtype == torch.float32
    exact = policy.evaluate(*observations, output.tokens).log_probs
    assert (output.log_probs - exact).abs().mean() < 0.1
