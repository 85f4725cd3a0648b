"""SimpleVLA-RL's own ``RobDataParallelPPOActor.update_policy`` beside our learner, on the same trajectories.

    SIMPLEVLA_RL=CHECKOUT python -m tests.verl.workers.parity_simplevla [--write]

CHECKOUT is one of PRIME-RL/SimpleVLA-RL at 7c51662; nothing of it is in this project. Its code runs as it is, on the
same tiny policy; what calls CUDA is replaced (``.cuda``, synchronize, barrier), and what its imports name of flash-attn
and codetiming is empty.
``--write`` keeps what theirs gives in parity_golden.json, for the test that has no checkout, and the differences in
docs/results/real_scale.json.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.verl.workers.test_learner import TINY, free_port, options
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.tiny import make_policy, unit_stats
from verl.samples import Samples, token_mask
from verl.workers.batch_split import mini_batches
from verl.workers.learner import Learner, LearnerOptions

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).with_name("parity_golden.json")
RESULTS = ROOT / "docs" / "results" / "real_scale.json"
COMMIT = "7c51662"
STEPS = (5, 8, 17, 24, 33, 40, 63, 64)  # of the trajectories; all are padded to 8 chunks there
CHUNKS, MINI, TEMPERATURE, PAD = 8, 4, 1.6, 32000
OPTIM = {"lr": 5e-6, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "warmup_steps": 0}


@dataclasses.dataclass
class Trace:
    """What an update did: for each optimizer step the loss, all gradients after clipping, all parameters after it."""

    loss: list[float]
    norm: list[float]
    gradients: list[dict[str, torch.Tensor]]
    parameters: list[dict[str, torch.Tensor]]

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer, module: nn.Module) -> Trace:
        """Empty, filled by hooks on ``optimizer``."""
        trace = cls([], [], [], [])

        def whole(tensor: torch.Tensor) -> torch.Tensor:
            full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
            return full.detach().clone()

        def before(*_: object) -> None:
            named = module.named_parameters()
            trace.gradients.append({n: whole(p.grad) for n, p in named if p.grad is not None})

        def after(*_: object) -> None:
            trace.parameters.append({n: whole(p) for n, p in module.named_parameters() if p.requires_grad})

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)
        return trace


def trajectories(policy: OpenVLAOFTPolicy) -> Samples:
    """Unequal lengths, good and bad, with old log-probabilities so far off that some tokens are clipped."""
    rng = np.random.default_rng(0)
    chunks = [-(-steps // 8) for steps in STEPS]
    count = sum(chunks)
    first = policy.action_tokens.first
    tokens = rng.integers(first, first + 256, (count, 56))
    images = rng.integers(0, 255, (count, 1, 32, 32, 3), dtype=np.uint8)
    texts = ["lift the red cube", "open the door"]
    words = [texts[i % 2] for i, n in enumerate(chunks) for _ in range(n)]
    with torch.no_grad():
        now = policy.evaluate(images, words, None, torch.from_numpy(tokens), TEMPERATURE).log_probs.numpy()
    mask = np.concatenate([token_mask(s, n, 8, 7) for s, n in zip(STEPS, chunks)])
    advantage = np.repeat(rng.normal(size=len(STEPS)).astype(np.float32), chunks)[:, None]
    return Samples(
        images=images,
        proprio=np.zeros((count, 8), np.float32),
        instructions=words,
        tokens=tokens,
        old_log_probs=now + rng.normal(0, 0.2, now.shape).astype(np.float32),
        mask=mask,
        advantages=advantage * mask,
        returns=np.zeros(count, np.float32),
        imitation=np.zeros(count, np.float32),
        trajectory=np.repeat(np.arange(len(STEPS)), chunks),
    )


def settings(folder: str) -> LearnerOptions:
    """Their recipe, by our keys."""
    given = options(folder, temperature=TEMPERATURE, use_proprio=False)
    optim = dataclasses.replace(given.actor.optim, **OPTIM)
    actor = dataclasses.replace(
        given.actor, optim=optim, ppo_epochs=1, ppo_mini_batch_size=MINI, ppo_micro_batch_size=3,
        recompute_log_prob="never", clip_ratio_low=0.2, clip_ratio_high=0.28, grad_clip=1.0,
    )  # fmt: skip
    algorithm = dataclasses.replace(given.algorithm, loss_agg_mode="seq-mean-token-mean")
    return dataclasses.replace(given, actor=actor, algorithm=algorithm)


def ours(folder: str) -> Trace:
    """One update by our learner."""
    learner = Learner(settings(folder), 0, 1, f"127.0.0.1:{free_port()}")
    trace = Trace.of(learner.optimizer, learner.policy)
    mini_batch = learner._mini_batch

    def kept(*given: Any) -> dict[str, float]:
        metrics = mini_batch(*given)
        trace.loss.append(metrics["policy_loss"])
        trace.norm.append(metrics["grad_norm"])
        return metrics

    learner._mini_batch = kept  # type: ignore[method-assign]
    learner.update(trajectories(OpenVLAOFTPolicy.from_pretrained(folder, use_proprio=False)), 0)
    learner.close()
    return trace


class AsTheirs(nn.Module):
    """Our policy, called as their actor calls it: logits of the whole vocabulary, action tokens 64 before its end."""

    vocab_size = 32000

    def __init__(self, policy: OpenVLAOFTPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, input_ids, attention_mask, pixel_values, proprio):
        lengths = attention_mask.sum(-1).long()
        hidden = self.policy.hidden(self.policy.patches(pixel_values), input_ids, lengths, None)
        logits = self.policy.action_logits(hidden)
        return nn.functional.pad(logits, (32000 - 256, 64))


def theirs(folder: str, checkout: Path) -> Trace:
    """One update by their actor, over the mini-batches that ours makes."""
    policy = OpenVLAOFTPolicy.from_pretrained(folder, use_proprio=False)
    samples = trajectories(policy)
    module = AsTheirs(policy)
    adam = {name: value for name, value in OPTIM.items() if name not in ("warmup_steps", "eps")}  # eps: AdamW's own
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], **adam)
    trace = Trace.of(optimizer, policy)
    order = [number for i in _batches(samples) for number in dict.fromkeys(samples.trajectory[i].tolist())]
    with _published(checkout) as (actor_class, proto_class):
        data = proto_class.from_dict(
            tensors=_as_theirs(policy, samples, order), meta_info={"temperature": TEMPERATURE, "pad_token_id": PAD}
        )
        config = _Config(
            ppo_mini_batch_size=MINI, ppo_micro_batch_size=1, traj_mini_batch_size=2, use_dynamic_bsz=False,
            ulysses_sequence_parallel_size=1, clip_ratio_high=0.28, clip_ratio_low=0.2, entropy_coeff=0.0,
            grad_clip=1.0, use_proprio=False, vla="openvla-oft", action_token_len=7, action_chunks_len=8,
        )  # fmt: skip
        actor = actor_class(config, module, optimizer)
        actor.pad_token_id = PAD  # their compute_log_prob sets it, which runs before
        metrics = actor.update_policy(data)
    losses = metrics["actor/pg_loss"]
    trace.loss = [float(np.mean(losses[i : i + MINI])) for i in range(0, len(losses), MINI)]
    trace.norm = [float(norm) for norm in metrics["actor/grad_norm"]]
    return trace


class _Config(types.SimpleNamespace):
    def get(self, name: str, default: Any) -> Any:
        return getattr(self, name, default)


def _batches(samples: Samples) -> list[np.ndarray]:
    return mini_batches(samples.trajectory, MINI, np.random.default_rng((0, 0)))


def _as_theirs(policy: OpenVLAOFTPolicy, samples: Samples, order: list[int]) -> dict[str, torch.Tensor]:
    """(trajectories, 8 chunks, ...), the chunks after the end filled with the last one."""
    rows = [np.flatnonzero(samples.trajectory == number) for number in order]
    filled = np.stack([np.concatenate([r, np.full(CHUNKS - len(r), r[-1])]) for r in rows])
    pixels, prompts, lengths, _ = policy.prepare(samples.images, samples.instructions, None)
    places = torch.arange(prompts.shape[1])[None] < lengths[:, None]
    flat = {
        "responses": torch.from_numpy(samples.tokens) - policy.action_tokens.first + 32000 - 256,
        "input_ids": torch.where(places, prompts, PAD),
        "attention_mask": places.long(),
        "pixel_values": pixels,
    }
    batch = {name: tensor[torch.from_numpy(filled)] for name, tensor in flat.items()}
    for name, array in (("old_log_probs", samples.old_log_probs), ("advantages", samples.advantages)):
        batch[name] = torch.from_numpy(array)[torch.from_numpy(filled)].flatten(1)
    batch["finish_step"] = torch.tensor([STEPS[number] for number in order])
    return batch


@contextlib.contextmanager
def _published(checkout: Path) -> Iterator[tuple[Any, Any]]:
    """Their actor's class and their DataProto. Their package has the name of ours: ours steps aside meanwhile."""
    own = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "verl"}
    flash = types.ModuleType("flash_attn")
    padding = types.ModuleType("flash_attn.bert_padding")
    for name in ("pad_input", "unpad_input", "rearrange", "index_first_axis"):
        setattr(padding, name, None)
    timing = types.ModuleType("codetiming")
    timing.Timer = None  # type: ignore[attr-defined]
    stubs = {"flash_attn": flash, "flash_attn.bert_padding": padding, "codetiming": timing}
    from tensordict import TensorDict

    kept = (TensorDict.cuda, torch.cuda.synchronize, torch.distributed.barrier)
    sys.modules.update(stubs)
    sys.path.insert(0, str(checkout))
    try:
        TensorDict.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
        torch.cuda.synchronize = torch.distributed.barrier = lambda *_, **__: None  # type: ignore[assignment]
        from verl import DataProto  # type: ignore[attr-defined]
        from verl.workers.actor.dp_rob import RobDataParallelPPOActor  # type: ignore[import-not-found]

        yield RobDataParallelPPOActor, DataProto
    finally:
        sys.path.remove(str(checkout))
        TensorDict.cuda, torch.cuda.synchronize, torch.distributed.barrier = kept  # type: ignore[method-assign]
        for name in [n for n in sys.modules if n.partition(".")[0] == "verl" or n in stubs]:
            del sys.modules[name]
        sys.modules.update(own)


def make(folder: str) -> str:
    """The tiny policy that both sides start from, its weights spread so that logits differ."""
    policy = make_policy(Path(folder), TINY, {"tiny": unit_stats(7, 8)}, proprio_dim=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    policy.save_pretrained(folder)
    return folder


def relative(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Norm of the difference over all tensors together, by the norm of ``other``."""
    assert one.keys() == other.keys()
    apart = sum(float((one[n].double() - other[n].double()).square().sum()) for n in one)
    size = sum(float(other[n].double().square().sum()) for n in other)
    return (apart / size) ** 0.5


def differences(mine: Trace, their: Trace) -> dict[str, float]:
    """Largest relative difference of each quantity over the optimizer steps."""
    assert len(mine.loss) == len(their.loss) == len(mine.parameters) == len(their.parameters) >= 2
    start, end = 0, -1
    moved = [{n: t.parameters[end][n] - t.parameters[start][n] for n in t.parameters[0]} for t in (mine, their)]
    return {
        "loss": max(abs(a - b) / abs(b) for a, b in zip(mine.loss, their.loss)),
        "gradient norm before clipping": max(abs(a - b) / abs(b) for a, b in zip(mine.norm, their.norm)),
        "gradient": max(relative(a, b) for a, b in zip(mine.gradients, their.gradients)),
        "gradient, worst tensor": max(
            relative({n: a[n]}, {n: b[n]})
            for a, b in zip(mine.gradients, their.gradients)
            for n in b
            if b[n].norm() > 1e-6
        ),
        "parameters": max(relative(a, b) for a, b in zip(mine.parameters, their.parameters)),
        "change of the parameters in the second step": relative(*moved),
    }


def summary(trace: Trace) -> dict[str, Any]:
    """A few numbers that tell one update from another, for a comparison without the checkout."""
    probe = {
        n: torch.randn(t.shape, generator=torch.Generator().manual_seed(len(n))) for n, t in trace.gradients[0].items()
    }
    return {
        "loss": trace.loss,
        "norm": trace.norm,
        "gradient": [{n: float((g * probe[n]).sum()) for n, g in sorted(step.items())} for step in trace.gradients],
        "size": [{n: float(g.norm()) for n, g in sorted(step.items())} for step in trace.gradients],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = make(scratch)
        mine, their = ours(folder), theirs(folder, Path(os.environ["SIMPLEVLA_RL"]))
    found = differences(mine, their)
    for name, value in found.items():
        print(f"{name}: {value:.2g}")
    if given.write:
        GOLDEN.write_text(json.dumps({"commit": COMMIT, **summary(their)}, indent=1) + "\n")
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results["parity"] = {"commit": COMMIT, "optimizer_steps": len(mine.loss), "trajectories": len(STEPS), **found}
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
