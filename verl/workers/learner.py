"""The learner: a Ray actor a rank, holding its shard of the policy under torch FSDP2.

Every rank is handed the same :class:`~verl.trajectory.Samples`, takes every ``world``-th of each mini-batch, and makes
the same number of forward and backward passes (FSDP's collectives must match): a short rank pads with samples whose
mask is zero.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from verl.config import ActorConfig, AlgorithmConfig, ModelConfig
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.checkpoint import read as read_checkpoint
from verl.trainer.ppo import core_algos
from verl.trajectory import Samples
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
        self.updates = 0
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: list[Future[Any]] = []
        self._files = dist.new_group(backend="gloo")  # checkpoints are written beside updates, and from main memory

    def _sharded_policy(self) -> OpenVLAOFTPolicy:
        model, actor = self.options.model, self.options.actor
        policy = OpenVLAOFTPolicy.from_pretrained(
            model.path,
            unnorm_key=self.options.unnorm_key,
            value_head=self.options.algorithm.adv_estimator == "gae",
            center_crop=self.options.center_crop,
        )
        if model.lora_rank > 0:
            policy.add_lora(rank=model.lora_rank, alpha=model.lora_alpha)
        if model.enable_gradient_checkpointing:
            policy.gradient_checkpointing_enable()
        mesh = init_device_mesh(self.device.type, (self.world,))
        fsdp = actor.fsdp_config
        precision = MixedPrecisionPolicy()
        if fsdp.dtype == "bfloat16":
            precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        offload = CPUOffloadPolicy() if fsdp.param_offload and self.device.type == "cuda" else OffloadPolicy()
        policy.to(self.device)
        for block in policy.shard_blocks():
            fully_shard(block, mesh=mesh, mp_policy=precision, offload_policy=offload)
        fully_shard(policy, mesh=mesh, mp_policy=precision, offload_policy=offload)
        register_fsdp_forward_method(policy, "evaluate")
        return policy

    # ---- learning

    @at_work
    def update(self, samples: Samples, step: int) -> dict[str, float]:
        """All epochs over ``samples``; the mean of each metric over the gradient steps."""
        actor = self.options.actor
        order_of = np.random.default_rng((self.options.seed, step))
        self.policy.train()
        history: list[dict[str, float]] = []
        for _ in range(actor.ppo_epochs):
            order = order_of.permutation(len(samples))
            for start in range(0, len(order), actor.ppo_mini_batch_size):
                history.append(self._mini_batch(samples.take(order[start : start + actor.ppo_mini_batch_size])))
        if self.options.actor.fsdp_config.optimizer_offload:
            self._move_optimizer("cpu")
        return {name: float(np.mean([h[name] for h in history])) for name in history[0]} if history else {}

    def _mini_batch(self, batch: Samples) -> dict[str, float]:
        actor = self.options.actor
        if actor.fsdp_config.optimizer_offload:
            self._move_optimizer(self.device)
        warmup = actor.optim.warmup_steps
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * min(1.0, (self.updates + 1) / warmup if warmup else 1.0)
        gradient_mask = batch.mask * (1 - batch.imitation[:, None])
        counts = torch.tensor([gradient_mask.sum(), (batch.mask - gradient_mask).sum()], device=self.device)
        totals: dict[str, float] = {}
        for part, weight in self._parts(batch):
            loss, metrics = self._loss(part, counts, weight)
            (loss * self.world).backward()
            self.work.step()
            for name, value in metrics.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), actor.grad_clip)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            logger.warning("update skipped: the gradient's norm is %s", float(norm))
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        totals = self._sum_over_ranks(totals)
        return {**totals, "grad_norm": float(norm), "lr": self.optimizer.param_groups[0]["lr"]}

    def _parts(self, batch: Samples):
        """This rank's micro-batches of a mini-batch, the same number on every rank, and each one's share."""
        micro = self.options.actor.ppo_micro_batch_size
        per_rank = -(-len(batch) // self.world)
        mine = np.arange(self.rank, len(batch), self.world)
        for start in range(0, per_rank, micro):
            index = mine[start : start + micro]
            if len(index):
                yield batch.take(index), len(index) / len(batch)
            else:
                empty = batch.take(np.zeros(1, np.int64))
                empty.mask = np.zeros_like(empty.mask)
                yield empty, 0.0

    def _loss(self, part: Samples, counts: torch.Tensor, weight: float):
        """``counts``: tokens of the mini-batch in the policy gradient, and tokens that are imitated."""
        actor, device, count = self.options.actor, self.device, counts[0]
        imitated = torch.from_numpy(part.imitation).to(device)[:, None]
        mask = torch.from_numpy(part.mask).to(device) * (1 - imitated)
        inputs = (part.images, part.instructions, part.proprio, torch.from_numpy(part.tokens).to(device))
        output = self.policy.evaluate(*inputs, temperature=self.options.temperature)
        loss, metrics = core_algos.policy_loss(
            output.log_probs,
            torch.from_numpy(part.old_log_probs).to(device),
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

    def report(self) -> Report:
        """What it is at."""
        return self.work.report()
