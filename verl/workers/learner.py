"""The learner: a Ray actor a rank, holding its shard of the policy under torch FSDP2.

Every rank is handed the same :class:`~verl.samples.Samples`, takes every ``world``-th of each mini-batch, and makes
the same number of forward and backward passes (FSDP's collectives must match): a short rank pads with samples whose
mask is zero.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from verl.algorithms import core_algos
from verl.config import ActorConfig, AlgorithmConfig, ModelConfig
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.checkpoint import read as read_checkpoint
from verl.samples import Samples
from verl.workers.old_log_probs import LogProbDifferences, choose
from verl.workers.sharded_policy import sharded_policy
from verl.workers.split import micro_batches, mini_batches, shares
from verl.workers.work import Report, Work, at_work

logger = logging.getLogger(__name__)
FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True, slots=True)
class LearnerOptions:
    """What a learner needs of the configuration."""

    model: ModelConfig
    actor: ActorConfig
    algorithm: AlgorithmConfig
    unnorm_key: str
    center_crop: bool
    temperature: float
    seed: int
    threads: int
    rollout_dtype: str
    rollout_device: str | None  # None: chosen as the learner's is


class Learner:
    """One rank. Made, and its methods called, on all ranks alike; but :meth:`report`, by any thread at any time."""

    def __init__(self, options: LearnerOptions, rank: int, world: int, address: str) -> None:
        """``address``: ``host:port`` of rank 0, for torch.distributed."""
        self.options, self.rank, self.world = options, rank, world
        self.work = Work()
        self.device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        if not dist.is_initialized():
            dist.init_process_group(
                "nccl" if self.device.type == "cuda" else "gloo",
                init_method=f"tcp://{address}",
                rank=rank,
                world_size=world,
                timeout=datetime.timedelta(minutes=10),
            )
        self.policy = self._sharded_policy()
        self.reference = self._sharded_policy().eval() if options.algorithm.kl_ctrl.kl_coef > 0 else None
        optim = options.actor.optim
        named = [(n, p) for n, p in self.policy.named_parameters() if p.requires_grad]
        trained = [[p for n, p in named if n.startswith("value_head.") == head] for head in (False, True)]
        self.rates = [optim.lr, optim.value_lr]
        groups = [{"params": p, "lr": rate} for p, rate in zip(trained, self.rates) if p]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=optim.weight_decay, betas=optim.betas, eps=1e-5)
        self.updates = 0  # of the weights; one with a gradient that is not finite is none
        self.old_log_probs = choose(
            options.actor.recompute_log_prob,
            options.rollout_dtype,
            options.rollout_device,
            options.actor.fsdp_config.dtype,
            self.device.type,
            options.model.lora_rank,
        )
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: list[Future[Any]] = []
        self._files = dist.new_group(backend="gloo")  # checkpoints are written beside updates, and from main memory

    def _sharded_policy(self) -> OpenVLAOFTPolicy:
        given = self.options
        return sharded_policy(
            given.model,
            given.actor.fsdp_config,
            given.unnorm_key,
            given.algorithm.adv_estimator == "gae",
            given.center_crop,
            self.device,
            self.world,
        )

    # ---- learning

    @at_work
    def update(self, samples: Samples, step: int) -> dict[str, float]:
        """All epochs over ``samples``, in an order drawn from ``step``.

        Returns:
            The mean of each metric over the gradient steps made; ``steps`` and ``steps_skipped`` (the gradient was not
            finite); ``mismatch*``, rollout against learner; ``first_*``, the ratio before the first step.
        """
        actor, order_of = self.options.actor, np.random.default_rng((self.options.seed, step))
        epochs = [
            mini_batches(order_of.permutation(len(samples)), actor.ppo_mini_batch_size) for _ in range(actor.ppo_epochs)
        ]
        self.policy.train()
        first, mismatch = LogProbDifferences(self.device), None
        if self.old_log_probs.recompute:
            samples, mismatch = self._with_own_log_probs(samples, epochs[0])
        history: list[dict[str, float]] = []
        for index in (index for epoch in epochs for index in epoch):
            history.append(self._mini_batch(samples.take(index), None if history else first))
        if self.options.actor.fsdp_config.optimizer_offload:
            self._move_optimizer("cpu")
        if not history:
            return {}
        first.reduce()
        made = [h for h in history if h["made"]]
        return {
            **{name: float(np.mean([h[name] for h in made or history])) for name in history[0] if name != "made"},
            "steps": float(len(made)),
            "steps_skipped": float(len(history) - len(made)),
            "recomputed": float(self.old_log_probs.recompute),
            **(mismatch or first).mismatch(),
            **first.ratio(),
            "first_clip_fraction": history[0]["clip_fraction"],
        }

    def _mini_batch(self, batch: Samples, first: LogProbDifferences | None) -> dict[str, float]:
        actor = self.options.actor
        if actor.fsdp_config.optimizer_offload:
            self._move_optimizer(self.device)
        warmup = actor.optim.warmup_steps
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * min(1.0, (self.updates + 1) / warmup if warmup else 1.0)
        gradient_mask = batch.mask * (1 - batch.imitation[:, None])
        counts = torch.tensor([gradient_mask.sum(), (batch.mask - gradient_mask).sum()], device=self.device)
        totals: dict[str, float] = {}
        for part, weight in micro_batches(batch, self._shares(len(batch))):
            loss, metrics = self._loss(part, counts, weight, first)
            (loss * self.world).backward()
            self.work.step()
            for name, value in metrics.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), actor.grad_clip)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        made = bool(torch.isfinite(norm))
        if made:
            self.optimizer.step()
            self.updates += 1
        else:
            logger.warning("step skipped: the gradient's norm is %s", float(norm))
        self.optimizer.zero_grad(set_to_none=True)
        totals = self._sum_over_ranks(totals)
        return {**totals, "grad_norm": float(norm), "lr": self.optimizer.param_groups[0]["lr"], "made": made}

    @torch.no_grad()
    def _with_own_log_probs(self, samples: Samples, batches: list[np.ndarray]) -> tuple[Samples, LogProbDifferences]:
        """``samples`` with this policy's old log-probabilities, and how far the rollout's are from them.

        The passes are those of the first epoch, ``batches``, on the same ranks: what rounds by the shape of a pass
        rounds alike, and the first ratio is exactly 1. Replayed samples, which are in no ratio, keep theirs.
        """
        own = torch.zeros(samples.old_log_probs.shape, device=self.device)
        for index in batches:
            mine_of = self._shares(len(index))
            for mine, (part, _) in zip(mine_of, micro_batches(samples.take(index), mine_of)):
                log_probs = self.policy.evaluate(*self._inputs(part), self.options.temperature).log_probs
                own[index[mine]] = log_probs[: len(mine)]
                self.work.step()
        self.policy.reshard()  # without a backward pass after it FSDP leaves the root's weights gathered
        dist.all_reduce(own)
        rollout, replayed = torch.from_numpy(samples.old_log_probs), samples.imitation[:, None] > 0
        differences = LogProbDifferences(torch.device("cpu"))
        differences.add(own.cpu(), rollout, torch.from_numpy(samples.mask * ~replayed))
        kept = np.where(replayed, samples.old_log_probs, own.cpu().numpy())
        return replace(samples, old_log_probs=kept), differences

    def _shares(self, count: int) -> list[np.ndarray]:
        """See :func:`~verl.workers.split.shares`."""
        return shares(count, self.rank, self.world, self.options.actor.ppo_micro_batch_size)

    def _inputs(self, part: Samples):
        """What the policy is asked about ``part``."""
        return part.images, part.instructions, part.proprio, torch.from_numpy(part.tokens).to(self.device)

    def _loss(self, part: Samples, counts: torch.Tensor, weight: float, first: LogProbDifferences | None):
        """``counts``: tokens of the mini-batch in the policy gradient, and tokens that are imitated.

        ``first``: told of the log-probabilities before and now, in the passes before the first step.
        """
        actor, device, count = self.options.actor, self.device, counts[0]
        imitated = torch.from_numpy(part.imitation).to(device)[:, None]
        mask = torch.from_numpy(part.mask).to(device) * (1 - imitated)
        inputs = self._inputs(part)
        output = self.policy.evaluate(*inputs, temperature=self.options.temperature)
        old = torch.from_numpy(part.old_log_probs).to(device)
        if first is not None:
            first.add(output.log_probs, old, mask)
        loss, metrics = core_algos.policy_loss(
            output.log_probs,
            old,
            torch.from_numpy(part.advantages).to(device),
            mask,
            actor.clip_ratio_low,
            actor.clip_ratio_high,
            count,
        )
        metrics["policy_loss"] = loss.detach()
        entropy = core_algos.masked_mean(output.entropy, mask, count)
        metrics["entropy"] = entropy.detach()
        loss = loss - actor.entropy_coeff * entropy
        if actor.imitation_coeff > 0:
            told = torch.from_numpy(part.mask).to(device) * imitated
            imitation = -core_algos.masked_mean(output.log_probs, told, counts[1])
            metrics["imitation_nll"] = imitation.detach()
            loss = loss + actor.imitation_coeff * imitation
        if self.reference is not None:
            with torch.no_grad():
                reference = self.reference.evaluate(*inputs, temperature=self.options.temperature).log_probs
            kl = core_algos.masked_mean(core_algos.kl_to_reference(output.log_probs, reference), mask, count)
            metrics["kl_to_reference"] = kl.detach()
            loss = loss + self.options.algorithm.kl_ctrl.kl_coef * kl
        if output.values is not None:
            own = 1 - imitated[:, 0]
            returns = torch.from_numpy(part.returns).to(device)
            value = core_algos.value_loss(output.values * own, returns * own) * weight
            metrics["value_loss"] = value.detach()
            loss = loss + actor.value_coeff * value
        return loss, metrics

    def _sum_over_ranks(self, totals: dict[str, float]) -> dict[str, float]:
        if self.world == 1:
            return totals
        names = sorted(totals)
        packed = torch.tensor([totals[n] for n in names], device=self.device)
        dist.all_reduce(packed)
        return dict(zip(names, packed.tolist()))

    def _move_optimizer(self, device: torch.device | str) -> None:
        for state in self.optimizer.state.values():
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.ndim:
                    state[name] = value.to(device)

    # ---- weights and checkpoints

    @at_work
    def weights(self) -> dict[str, torch.Tensor] | None:
        """The whole policy on the CPU, from rank 0; None from the others. Adapters come merged."""
        state = get_model_state_dict(self.policy, options=FULL)
        return state if self.rank == 0 else None

    @at_work
    def save(self, folder: str) -> None:
        """Copies the state, then writes it below ``folder`` in the background; :meth:`written` tells its end.

        ``policy/`` is the published layout with adapters merged, written by rank 0. ``learner/`` is a distributed
        checkpoint, each rank writes its own shard: the optimizer and, with adapters, the tensors that are trained (the
        published layout has lost them, the others are in ``model.path``). Any number of ranks can load it.
        """
        model = get_model_state_dict(self.policy, options=FULL)
        shards = dcp.async_save(self._shards(), checkpoint_id=Path(folder, "learner"), process_group=self._files)
        assert isinstance(shards, Future)
        self._writing = [shards]
        if self.rank == 0:
            if self.world == 1 or self.device.type == "cpu":  # gathered from other ranks they are copies already
                model = {name: tensor.detach().clone() for name, tensor in model.items()}
            source, target = self.options.model.path, Path(folder, "policy")
            self._writing.append(self._writer.submit(OpenVLAOFTPolicy.save_state, source, model, target))

    def _shards(self) -> dict[str, Any]:
        """This rank's part of what :meth:`save` writes and :meth:`load` reads."""
        state = {"optimizer": get_optimizer_state_dict(self.policy, self.optimizer), "updates": self.updates}
        if self.options.model.lora_rank > 0:
            trained = {name for name, p in self.policy.named_parameters() if p.requires_grad}
            model = get_model_state_dict(self.policy)
            state["trained"] = {name: tensor for name, tensor in model.items() if name in trained}
        return state

    def written(self) -> bool:
        """Whether what :meth:`save` began is complete on this rank. Raises what went wrong with it."""
        if not all(writing.done() for writing in self._writing):
            return False
        for writing in self._writing:
            writing.result()
        return True

    @at_work
    def load(self, folder: str) -> None:
        """Back to what :meth:`save` wrote, also with another number of ranks."""
        saved = self._shards()
        dcp.load(saved, checkpoint_id=Path(folder, "learner"), process_group=self._files)
        if "trained" in saved:
            set_model_state_dict(self.policy, saved["trained"], options=StateDictOptions(strict=False))
        else:
            whole = read_checkpoint(Path(folder) / "policy")
            set_model_state_dict(self.policy, whole, options=StateDictOptions(full_state_dict=True))
        set_optimizer_state_dict(self.policy, self.optimizer, saved["optimizer"])
        self.updates = saved["updates"]

    def close(self) -> None:
        with contextlib.suppress(Exception):
            dist.destroy_process_group()

    def why_recompute(self) -> str:
        """Whether the old log-probabilities are computed again, and why: a line for the log."""
        return f"{'yes' if self.old_log_probs.recompute else 'no'}: {self.old_log_probs.reason}"

    def report(self) -> Report:
        """What it is at."""
        return self.work.report()
