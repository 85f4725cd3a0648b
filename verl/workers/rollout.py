"""The rollout worker: a Ray actor with a copy of the policy and a pool of environment processes.

    driver --advance(requests)--> RolloutWorker --act(actions)--> env processes --frames, asks--> lanes --> sidecar
                                       ^------- observations (views into the lanes) ------'

Whoever waits for an action is in the next forward pass; an environment that has played its episode is not, and takes
the next one at once, before the verdicts are there. The driver calls :meth:`RolloutWorker.advance` again and again,
each time for about ``seconds``.
"""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from verl.envs.checks import check_decisions
from verl.envs.messages import Observation
from verl.envs.pool import EnvPool
from verl.episode import Decisions, Episode, EpisodeEnd, EpisodeLost, EpisodeRequest
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.registry import POLICIES
from verl.workers.advance import Advance
from verl.workers.device import card_number, given_device
from verl.workers.weight_buckets import Piece
from verl.workers.weight_receiver import WeightReceiver, card
from verl.workers.work import Report, Work

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RolloutOptions:
    """What a rollout worker needs of the configuration."""

    model_path: str
    unnorm_key: str
    center_crop: bool
    temperature: float
    do_sample: bool
    val_do_sample: bool
    max_batch_size: int
    deterministic: bool | None
    device: str | None
    dtype: str
    threads: int
    seed: int
    value_head: bool
    pool: dict[str, Any]
    vla: str = "openvla-oft"
    num_images_in_input: int | None = None  # None: as the checkpoint says
    use_proprio: bool | None = None  # the same
    lora_rank: int = 0  # > 0: the learners train adapters, which are applied beside the weights, never merged into them
    lora_alpha: int = 0
    gpus: float = 0.0  # that Ray is asked for
    visible: str | None = None  # CUDA_VISIBLE_DEVICES of one that asks Ray for none and is to compute on that card


@dataclass(slots=True)
class _Growing:
    """What the policy has seen and chosen in one running episode, a row a chunk."""

    images: list[np.ndarray] = field(default_factory=list)
    proprio: list[np.ndarray] = field(default_factory=list)
    tokens: list[np.ndarray] = field(default_factory=list)
    log_probs: list[np.ndarray] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def up_to(self, end: EpisodeEnd) -> Decisions:
        """Cut to the chunks of which at least one step counts."""
        chunks = min(len(self.tokens), end.chunks)
        shown = chunks if end.request.training else 0
        return Decisions(
            images=np.stack(self.images[: max(shown, 1)])[:shown],
            proprio=np.stack(self.proprio[:chunks]),
            tokens=np.stack(self.tokens[:chunks]),
            log_probs=np.stack(self.log_probs[:chunks]),
            values=np.array(self.values[:chunks], np.float32) if self.values else None,
        )


class RolloutWorker:
    """See the module's head. Not thread-safe: Ray calls one method at a time, and :meth:`report` beside it."""

    def __init__(self, options: RolloutOptions) -> None:
        self.work = Work()
        torch.set_num_threads(options.threads)
        self.options = options
        if options.visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = options.visible
        self.device = given_device(options.gpus, options.device)
        self.policy = load_policy(options, self.device)
        self.weights = WeightReceiver(self.policy, getattr(torch, options.dtype), self.device)
        self.pool = EnvPool(**options.pool, card=card_number(self.device))
        self.rows = fixed_rows(options, self.device)
        self.waiting: list[Observation] = []
        self.decisions: dict[int, _Growing] = {}
        self.training: dict[int, bool] = {}

    def card(self) -> str | None:
        """See :func:`~verl.workers.weight_receiver.card`. An answer shows that the policy is loaded."""
        return card(self.device)

    def take_weights(self, number: int, pieces: list[Piece], payload: Any) -> None:
        """See :meth:`~verl.workers.weight_receiver.WeightReceiver.take`; learners call it."""
        self.weights.take(number, pieces, payload)

    def advance(self, requests: list[EpisodeRequest], seconds: float) -> Advance:
        """Starts ``requests``, lets everything run for ``seconds``, returns what ended meanwhile."""
        self.weights.check_whole()
        for request in requests:
            self.decisions[request.episode] = _Growing()
            self.training[request.episode] = request.training
            self.pool.submit(request)
        report, end, replaced = Advance(), time.monotonic() + seconds, self.pool.replaced
        while self.decisions and (left := end - time.monotonic()) > 0:
            timeout = 0.0 if self.waiting else min(left, 0.5)
            for event in self.pool.poll(timeout):
                self._take(event, report)
            if self.waiting:
                self._decide(report)
            elif report.episodes or report.lost:
                break  # nothing to do but to wait: let the driver start new episodes first
        report.environments, report.environments_ready = self.options.pool["size"], self.pool.ready
        report.renderer, report.renderer_warning = self.pool.renderer, self.pool.renderer_warning
        report.running, report.environments_replaced = len(self.decisions), self.pool.replaced - replaced
        return report

    def _take(self, event: Observation | EpisodeEnd | EpisodeLost, report: Advance) -> None:
        if isinstance(event, Observation):
            self.waiting.append(event)
            return
        # the critic may have ended an episode whose next action is still awaited
        self.waiting = [o for o in self.waiting if o.episode != event.request.episode]
        if isinstance(event, EpisodeEnd):
            decisions = self.decisions.pop(event.request.episode)
            self.training.pop(event.request.episode)
            report.episodes.append(Episode(event, decisions.up_to(event)))
        else:
            self.decisions.pop(event.request.episode, None)
            self.training.pop(event.request.episode, None)
            report.lost.append(event)

    def _decide(self, report: Advance) -> None:
        """One forward pass for those who wait, training and evaluation apart (they sample differently)."""
        first_training = self.training[self.waiting[0].episode]
        batch = [o for o in self.waiting if self.training[o.episode] == first_training]
        batch = batch[: self.rows or self.options.max_batch_size]
        taken = {id(o) for o in batch}
        self.waiting = [o for o in self.waiting if id(o) not in taken]
        started = time.perf_counter()
        sample = self.options.do_sample if first_training else self.options.val_do_sample
        padded = [batch[i % len(batch)] for i in range(self.rows or len(batch))]
        images = np.stack([np.stack(list(o.frames.values())) for o in padded])  # the one copy out of the lanes
        proprio = np.stack([o.proprio for o in padded]).astype(np.float32)
        noise = np.stack([self._noise(o) for o in padded]) if sample else None
        output = self.policy.predict(
            images,
            [o.instruction for o in padded],
            proprio,
            temperature=self.options.temperature if sample else 0.0,
            uniforms=noise,
        )
        tokens, log_probs = output.tokens.numpy(), output.log_probs.numpy()
        check_decisions(self.options.model_path, batch, output.actions, log_probs)
        values = None if output.values is None else output.values.numpy()
        for i, observation in enumerate(batch):
            self.pool.act(observation.env, output.actions[i], observation.episode)
            kept = self.decisions[observation.episode]
            kept.images.append(images[i])
            kept.proprio.append(proprio[i])
            kept.tokens.append(tokens[i])
            kept.log_probs.append(log_probs[i])
            if values is not None:
                kept.values.append(float(values[i]))
        report.policy_s += time.perf_counter() - started
        report.policy_batches += 1
        report.policy_observations += len(batch)

    def _noise(self, observation: Observation) -> np.ndarray:
        """Uniforms for the chunk's tokens, drawn from (seed, episode, chunk): who shares the batch does not matter."""
        generator = np.random.default_rng((self.options.seed, observation.episode, observation.chunk))
        return generator.random(self.policy.config.action_tokens, dtype=np.float32)

    def report(self) -> Report:
        """Shows that the process runs, whatever it is at."""
        return self.work.report()

    def close(self) -> None:
        """Ends the environment processes."""
        self.pool.close()


def load_policy(options: RolloutOptions, device: torch.device) -> OpenVLAOFTPolicy:
    """The policy as a rollout worker plays it, on ``device``; raises what ``from_pretrained`` does."""
    policy = POLICIES[options.vla].from_pretrained(
        options.model_path,
        unnorm_key=options.unnorm_key,
        value_head=options.value_head,
        dtype=getattr(torch, options.dtype),
        device=device,
        center_crop=options.center_crop,
        num_images_in_input=options.num_images_in_input,
        use_proprio=options.use_proprio,
    )
    if options.lora_rank > 0:
        policy.add_lora(rank=options.lora_rank, alpha=options.lora_alpha)
    return policy.to(device).eval()


def fixed_rows(options: RolloutOptions, device: torch.device) -> int | None:
    """Rows that every forward pass has, None when it has as many as there are.

    A matrix product's kernel is chosen by its shape, and another kernel rounds otherwise: with one shape always, an
    observation's numbers do not depend on who shares its pass.
    """
    wanted = device.type == "cpu" if options.deterministic is None else options.deterministic
    if not wanted:
        return None
    return 1 if device.type == "cpu" else min(options.max_batch_size, options.pool["size"])
