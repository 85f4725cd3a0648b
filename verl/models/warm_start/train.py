"""Supervised learning: the negative log-likelihood of the demonstrated action tokens. Resumable to the same numbers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.errors import ConfigError
from verl.models.warm_start.demonstrations import Demonstrations
from verl.models.warm_start.goals import GoalHeads, far

logger = logging.getLogger(__name__)

LOOKED_AT = 256  # pictures at a time


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Numbers of the optimization: AdamW, linear warm-up, cosine decay to 5 %.

    Attributes:
        steps: gradient steps, of ``batch_size`` samples each.
        vision_steps: so many of the first ones train the vision side alone, on the auxiliary task of ``goals.py`` and
            on samples in which there is something to look for.
        decoder_steps: so many after those train the decoder alone, on patches that were looked at once for all.
        bfloat16: matrix products in it (autocast); weights stay as they are.
        goal_weight: of that task's loss beside the likelihood in the other steps.
        schedule_steps: length of the cosine; longer than ``steps`` stops it early.
    """

    steps: int
    vision_steps: int = 0
    decoder_steps: int = 0
    goal_weight: float = 0.0
    batch_size: int = 32
    lr: float = 1e-3
    warmup: int = 50
    schedule_steps: int | None = None
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    seed: int = 0
    save_every: int = 100
    bfloat16: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: {getattr(self, name)}, but it must be at least 1")
        if not self.lr > 0:
            raise ConfigError(f"lr: {self.lr}, but it must be over 0")

    def lr_at(self, step: int) -> float:
        """Learning rate of gradient step ``step``, counted from 0."""
        share = min(1.0, step / (self.schedule_steps or self.steps))
        return (
            self.lr * min(1.0, (step + 1) / max(self.warmup, 1)) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))
        )


def train(
    policy: OpenVLAOFTPolicy,
    data: Demonstrations,
    config: TrainConfig,
    state_file: Path | None = None,
    progress: Callable[[int, float], None] = lambda step, loss: None,
) -> float:
    """Trains ``policy`` in place; returns the mean loss (nats a token) of the last 50 steps.

    Args:
        state_file: written every ``save_every`` steps and continued from when it is there; a state of another
            configuration is refused.
        progress: told each step and its loss.
    """
    tokens, weights = _targets(policy, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        heads = GoalHeads(policy, data.goals, data.instructions)
    trained = [p for p in (*policy.parameters(), *heads.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.lr, betas=(0.9, 0.95), weight_decay=config.weight_decay)
    looked_for = far(data.proprio, data.goals)
    start, losses = _resume(state_file, policy, heads, optimizer, config)
    seen: torch.Tensor | None = None
    policy.train()
    for step in range(start, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = config.lr_at(step)
        # The batch depends on the step alone, so that a resumed run sees what an unbroken one sees.
        rng, looking = np.random.default_rng((config.seed, step)), step < config.vision_steps
        if step - config.vision_steps in range(config.decoder_steps):
            seen = _look(policy, data, config) if seen is None else seen
        else:
            seen = None
        index = rng.choice(looked_for, config.batch_size) if looking else rng.integers(0, len(data), config.batch_size)
        with _precision(policy, config):
            likelihood, goal = _losses(policy, heads, data, index, tokens, weights, looking, seen)
        loss = goal if looking else likelihood + config.goal_weight * goal
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(trained, config.grad_clip)
        optimizer.step()
        losses = [*losses[-49:], float((goal if looking else likelihood).detach())]
        progress(step, losses[-1])
        if state_file is not None and ((step + 1) % config.save_every == 0 or step + 1 == config.steps):
            _save(state_file, policy, heads, optimizer, config, step + 1, losses)
    policy.eval()
    return float(np.mean(losses))


@contextmanager
def _precision(policy: OpenVLAOFTPolicy, config: TrainConfig) -> Iterator[None]:
    """With ``bfloat16`` attention is by plain matrix products: PyTorch's fused one is six times slower backwards on
    CPUs (torch 2.13), which costs more than the rest gains."""
    if not config.bfloat16:
        yield
        return
    device = next(policy.parameters()).device.type
    with torch.autocast(device, torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


def _losses(
    policy: OpenVLAOFTPolicy,
    heads: GoalHeads,
    data: Demonstrations,
    index: np.ndarray,
    tokens: torch.Tensor,
    weights: torch.Tensor,
    vision_only: bool,
    seen: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood (nats a token; zero with ``vision_only``) and the auxiliary task's loss. ``seen``: the
    patches of all samples, when the vision side is not trained."""
    texts = [data.instructions[i] for i in index]
    if seen is None:
        pixels, prompts, lengths, state = policy.prepare(data.images[index], texts, data.proprio[index])
        patches = policy.patches(pixels)
    else:
        patches = seen[index].float()
        prompts, lengths, state = policy.prepare_words(texts, data.proprio[index])
    goal = heads.patch_loss(patches, index)
    if vision_only:
        return goal.new_zeros(()), goal
    hidden = policy.hidden(patches, prompts, lengths, state)
    every = torch.log_softmax(policy.action_logits(hidden).float(), dim=-1)
    chosen = every.gather(-1, policy.action_tokens.index(tokens[index])[..., None])[..., 0]
    likelihood = -(chosen * weights[index]).sum() / weights[index].sum()
    return likelihood, goal + heads.hidden_loss(hidden, index)


@torch.no_grad()
def _look(policy: OpenVLAOFTPolicy, data: Demonstrations, config: TrainConfig) -> torch.Tensor:
    """(N, patches, D) bfloat16: the patches of all samples."""
    logger.info("looking at %d pictures", len(data))
    found = []
    for part in np.array_split(np.arange(len(data)), -(-len(data) // LOOKED_AT)):
        pixels, *_ = policy.prepare(data.images[part], [data.instructions[i] for i in part], data.proprio[part])
        with _precision(policy, config):
            found.append(policy.patches(pixels).to(torch.bfloat16))
    return torch.cat(found)


def _targets(policy: OpenVLAOFTPolicy, data: Demonstrations) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, A) int64 tokens and (N, A) float32 weights of the demonstrated chunks."""
    bounds = policy.action_bounds
    tokens = policy.action_tokens.encode(bounds.normalise(data.actions)).reshape(len(data), -1)
    weights = np.repeat(data.mask, data.actions.shape[-1], axis=1).astype(np.float32)
    return torch.from_numpy(tokens), torch.from_numpy(weights)


def _save(
    path: Path,
    policy: OpenVLAOFTPolicy,
    heads: GoalHeads,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    step: int,
    losses: list[float],
) -> None:
    partial = path.with_suffix(".partial")
    states = {"model": policy.state_dict(), "heads": heads.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save({**states, "config": asdict(config), "step": step, "losses": losses}, partial)
    partial.replace(path)


def _resume(
    path: Path | None,
    policy: OpenVLAOFTPolicy,
    heads: GoalHeads,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
) -> tuple[int, list[float]]:
    if path is None or not path.exists():
        return 0, []
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    if saved["config"] != asdict(config):
        raise ConfigError(f"{path} belongs to a run with other settings ({saved['config']}); remove it to start anew")
    policy.load_state_dict(saved["model"])
    heads.load_state_dict(saved["heads"])
    optimizer.load_state_dict(saved["optimizer"])
    logger.info("warm start goes on at step %d of %d", saved["step"], config.steps)
    return saved["step"], saved["losses"]
