"""The learner: a Ray actor a rank, holding its shard of the policy under torch FSDP2.

Every rank is handed the same :class:`~verl.samples.Samples`, their pictures in pieces and only those that it needs
(:meth:`Learner.wants`, :meth:`Learner.take_pictures`). It takes every ``world``-th of each mini-batch, and makes
the same number of forward and backward passes (FSDP's collectives must match): a short rank pads with samples whose
mask is zero.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from verl.config import ActorConfig, AlgorithmConfig, ModelConfig
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.pictures import Pictures
from verl.samples import Samples
from verl.workers.batch_split import micro_batches, mini_batches, shares, wanted
from verl.workers.device import given_device
from verl.workers.learner_files import LearnerFiles
from verl.workers.loss import Loss, loss_weights
from verl.workers.old_log_probs import LogProbDifferences, choose
from verl.workers.optimizer import make_optimizer
from verl.workers.sharded_policy import backends, sharded_policy
from verl.workers.weight_receiver import card
from verl.workers.weight_transfer import Receiver, WeightSender
from verl.workers.work import Report, Work, at_work

logger = logging.getLogger(__name__)


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
    rollout_device: str | None  # None: as the learner computes
    use_proprio: bool | None = None  # None: as the checkpoint says
    gpus: float = 0.0  # that Ray is asked for
    collective_timeout_s: float = 600.0  # that a rank waits for another, also for one that still loads


class Learner:
    """One rank. Made, and its methods called, on all ranks alike; but :meth:`report`, by any thread at any time."""

    def __init__(self, options: LearnerOptions, rank: int, world: int, address: str) -> None:
        """``address``: ``host:port`` of rank 0, for torch.distributed."""
        self.options, self.rank, self.world = options, rank, world
        self.work = Work()
        self._positions = np.zeros(0, np.int64)
        self._pictures: dict[int, np.ndarray] = {}  # of the next update, by their positions
        self.device = given_device(options.gpus)
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        if not dist.is_initialized():
            dist.init_process_group(
                backends(self.device, options.actor.fsdp_config),
                init_method=f"tcp://{address}",
                rank=rank,
                world_size=world,
                timeout=datetime.timedelta(seconds=options.collective_timeout_s),
            )
        self.policy = self._sharded_policy()
        kl_coef = options.algorithm.kl_ctrl.kl_coef
        reference = self._sharded_policy().eval() if kl_coef > 0 else None
        self.loss = Loss(self.policy, reference, options.actor, kl_coef, options.temperature, self.device)
        self.optimizer = make_optimizer(self.policy, options.actor.optim)
        fsdp = options.actor.fsdp_config
        self.offload_optimizer = fsdp.optimizer_offload and not fsdp.param_offload  # its state is where parameters are
        self.updates = 0  # of the weights; one with a gradient that is not finite is none
        self.old_log_probs = choose(
            options.actor.recompute_log_prob,
            options.rollout_dtype,
            options.rollout_device,
            options.actor.fsdp_config.dtype,
            self.device.type,
        )
        copies = world > 1 and self.device.type != "cpu"
        rollout_dtype = getattr(torch, options.rollout_dtype)
        self.sender = WeightSender(self.policy, rollout_dtype, self.device, rank, self.work)
        self.files = LearnerFiles(self.policy, self.optimizer, options.model, rank, copies)

    def _sharded_policy(self) -> OpenVLAOFTPolicy:
        given = self.options
        return sharded_policy(
            given.model,
            given.actor.fsdp_config,
            given.unnorm_key,
            given.algorithm.adv_estimator == "gae",
            given.center_crop,
            given.actor.num_images_in_input,
            given.use_proprio,
            self.device,
            self.world,
        )

    # ---- learning

    @at_work
    def wants(self, samples: Samples, step: int) -> np.ndarray:
        """The positions of ``samples`` whose pictures this rank needs for update ``step``, in their order of use."""
        batches = [batch for epoch in self._epochs(samples, step) for batch in epoch]
        self._positions, self._pictures = wanted(batches, self.rank, self.world), {}
        return self._positions

    @at_work
    def take_pictures(self, first: int, pictures: np.ndarray) -> None:
        """Some of those that :meth:`wants` asked for, from the ``first`` of them on."""
        kept = np.array(pictures)  # what Ray gives would stay in its store
        self._pictures.update(zip(self._positions[first : first + len(kept)].tolist(), kept))

    def _epochs(self, samples: Samples, step: int) -> list[list[np.ndarray]]:
        actor, order_of = self.options.actor, np.random.default_rng((self.options.seed, step))
        return [mini_batches(samples.trajectory, actor.ppo_mini_batch_size, order_of) for _ in range(actor.ppo_epochs)]

    @at_work
    def update(self, samples: Samples, step: int) -> dict[str, float]:
        """All epochs over ``samples``, in an order drawn from ``step``.

        Args:
            samples: with all pictures, or without those that were handed over before.

        Returns:
            The mean of each metric over the gradient steps made; ``steps`` and ``steps_skipped`` (the gradient was not
            finite); ``mismatch*``, rollout against learner; ``first_*``, the ratio before the first step.
        """
        epochs = self._epochs(samples, step)
        if self._pictures:
            rows = [self._pictures.get(i) for i in range(len(samples))]
            samples, self._pictures = replace(samples, images=Pictures(rows, samples.images.shape[1:])), {}
        self.policy.train()
        first, mismatch = LogProbDifferences(self.device), None
        if self.old_log_probs.recompute:
            samples, mismatch = self._with_own_log_probs(samples, epochs[0])
        history: list[dict[str, float]] = []
        for index in (index for epoch in epochs for index in epoch):
            history.append(self._mini_batch(samples.take(index), None if history else first))
        if self.offload_optimizer:
            self._move_optimizer("cpu")
        give_back(self.device)
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
        if self.offload_optimizer:
            self._move_optimizer(self.device)
        warmup = actor.optim.warmup_steps
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, (self.updates + 1) / warmup if warmup else 1.0)
        batch = replace(batch, mask=loss_weights(batch, self.options.algorithm.loss_agg_mode))
        totals: dict[str, float] = {}
        for part, weight in micro_batches(batch, self._shares(len(batch))):
            loss, metrics = self.loss(part, weight, first)
            torch.autograd.backward(loss * self.world)
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
                log_probs = self.policy.evaluate(*self.loss.inputs(part), self.options.temperature).log_probs
                own[index[mine]] = log_probs[: len(mine)]
                self.work.step()
        assert isinstance(self.policy, FSDPModule)
        self.policy.reshard()  # without a backward pass after it FSDP leaves the root's weights gathered
        dist.all_reduce(own)
        rollout, replayed = torch.from_numpy(samples.old_log_probs), samples.imitation[:, None] > 0
        differences = LogProbDifferences(torch.device("cpu"))
        differences.add(own.cpu(), rollout, torch.from_numpy(samples.mask * ~replayed))
        kept = np.where(replayed, samples.old_log_probs, own.cpu().numpy())
        return replace(samples, old_log_probs=kept), differences

    def _shares(self, count: int) -> list[np.ndarray]:
        """See :func:`~verl.workers.batch_split.shares`."""
        return shares(count, self.rank, self.world, self.options.actor.ppo_micro_batch_size)

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

    def card(self) -> str | None:
        """See :func:`~verl.workers.weight_receiver.card`."""
        return card(self.device)

    @at_work
    def hand_over(self, number: int, receivers: list[Receiver], bucket_bytes: int) -> dict[int, str]:
        """See :meth:`~verl.workers.weight_transfer.WeightSender.send`."""
        return self.sender.send(number, receivers, bucket_bytes)

    @at_work
    def weights(self) -> dict[str, torch.Tensor] | None:
        """See :meth:`LearnerFiles.weights`."""
        return self.files.weights()

    @at_work
    def save(self, folder: str) -> None:
        """See :meth:`LearnerFiles.save`."""
        self.files.save(folder, self.updates)

    def written(self) -> bool:
        """See :meth:`LearnerFiles.written`."""
        return self.files.written()

    @at_work
    def load(self, folder: str) -> None:
        """See :meth:`LearnerFiles.load`."""
        self.updates = self.files.load(folder)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            dist.destroy_process_group()

    def why_recompute(self) -> str:
        """Whether the old log-probabilities are computed again, and why: a line for the log."""
        return f"{'yes' if self.old_log_probs.recompute else 'no'}: {self.old_log_probs.reason}"

    def report(self) -> Report:
        """What it is at."""
        return self.work.report()


def give_back(device: torch.device) -> None:
    """What an update alone has used of a card goes to the rollout and the critic; torch would keep it to itself."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
