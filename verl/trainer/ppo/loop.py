"""The training loop: roll out, keep the groups that carry a signal, update, hand the new weights out, evaluate.

ROLLOUT  rollout workers + sidecar -> episodes -> groups -> filter -> advantages -> samples
UPDATE   the sidecar leaves the GPU -> learners step -> new weights to the workers
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError

from verl.algorithms.batch import build_samples, group_filter
from verl.algorithms.replay import ReplayBuffer
from verl.config import Config
from verl.critic_noise import shuffle_rewards
from verl.episode import Episode, EpisodeLost, EpisodeRequest
from verl.errors import NoAnswerError, RunFailedError
from verl.samples import Samples
from verl.trainer.audit import Audit
from verl.trainer.checkpoint import Checkpoints
from verl.trainer.critic_lines import crossed
from verl.trainer.heartbeat import LearnerWatch
from verl.trainer.ppo.fleet import Fleet, FleetStatistics
from verl.trainer.ppo.groups import RolloutGroups
from verl.trainer.ppo.schedule import Schedule
from verl.trainer.progress import Progress
from verl.trainer.ray_store import store_metrics
from verl.trainer.recorder import Recorder
from verl.trainer.sidecars import Sidecars
from verl.workers.old_log_probs import mismatch_warning

logger = logging.getLogger(__name__)
_COUNTERS = ("updates", "rollouts", "episodes", "dropped_groups")
_RESULTS = ("success_before", "success_after", "evaluated_at", "best")


class Trainer:
    """Owns the order of things; models, environments and files are others' business."""

    def __init__(
        self,
        config: Config,
        schedule: Schedule,
        fleet: Fleet,
        learners: list[Any],
        learner_watch: LearnerWatch,
        sidecars: Sidecars,
        recorder: Recorder,
        progress: Progress,
        checkpoints: Checkpoints,
    ) -> None:
        self.config, self.schedule, self.fleet = config, schedule, fleet
        self.learners, self.sidecars = learners, sidecars
        self.learner_watch = learner_watch
        self.recorder, self.progress, self.checkpoints = recorder, progress, checkpoints
        self.audit = Audit()
        model, actor = config.model, config.actor
        replayed = actor.replay_episodes if actor.imitation_coeff > 0 else 0
        self.replay = ReplayBuffer(replayed, model.action_chunks_len, model.action_token_len)
        self.rule = group_filter(config.data)
        self.updates, self.rollouts = 0, 0  # without a signal a rollout has no update; draws are keyed by rollout
        self.episodes, self.dropped_groups = 0, 0
        self.success_before: float | None = None
        self.success_after: float | None = None
        self.evaluated_at: int | None = None  # updates
        self.best: float | None = None
        self.time_s: dict[str, float] = defaultdict(float)
        self._told: set[str] = set()

    # ---- the run

    def fit(self) -> None:
        """Trains until the episodes or the updates are used up; evaluates before (if asked), between and after."""
        trainer = self.config.trainer
        if trainer.val_only or (trainer.val_before_train and not self.rollouts):
            self.success_before = self.evaluate()
        if trainer.val_only:
            return
        self._evaluate_if_due()  # a checkpoint is made before the evaluation of its step
        while not self._finished():
            self.checkpoints.tick()
            self._update(self._rollout())
            self.recorder.log(self.updates, store_metrics())  # nothing of this update's is referred to any more
            if self._finished() or self._due(trainer.save_freq):
                self._save_once()
            self._evaluate_if_due()
        self.checkpoints.wait()

    def _evaluate_if_due(self) -> None:
        due = self._finished() or self._due(self.config.trainer.test_freq)
        if not due or self.evaluated_at == self.updates:
            return
        success = self.evaluate()
        if self.updates and (self.best is None or success > self.best):  # never for NaN
            self.best = success
            self._save_once()
            self.checkpoints.mark_best(self.updates)

    def _save_once(self) -> None:
        """A checkpoint of these weights, unless there is one: a rollout without an update changes none."""
        if self.checkpoints.last != self.updates:
            self.save()

    def _due(self, frequency: int) -> bool:
        return frequency > 0 and self.updates > 0 and self.updates % frequency == 0

    def _finished(self) -> bool:
        limit = self.config.trainer.total_training_steps
        return self.episodes >= self.config.trainer.total_episodes or (limit is not None and self.updates >= limit)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.time_s[name] += time.monotonic() - started

    # ---- rollout

    def _rollout(self) -> list[Episode]:
        """Groups until ``train_batch_size`` of them are kept, or the episodes are used up."""
        data, trainer = self.config.data, self.config.trainer
        size = data.n_samples
        affordable = max(1, -(-(trainer.total_episodes - self.episodes) // size))
        wanted = min(data.train_batch_size, affordable)
        started = min(affordable, max(wanted, round(wanted * data.oversample_factor)))
        record = trainer.videos if self._records() else 0
        requests = [r for g in range(started) for r in self.schedule.group(record if g == 0 else 0)]
        groups = RolloutGroups(size, self.rule, wanted, affordable, started)

        def refill(number: int) -> list[EpisodeRequest]:
            return self.schedule.group() if groups.wants_another(number) else []

        with self._timed("rollout"):
            self.progress.stage("rollout", len(requests))
            for episode in self.fleet.run(requests, groups.finished, groups.given_up, refill):
                self._record_training(episode)
        for lost in groups.given_up:
            if lost.dropped:
                self.audit.add_dropped(lost)
        groups.sort()
        finished = groups.finished
        if self.config.critic.shuffle:
            finished = shuffle_rewards(finished, np.random.default_rng((self.config.data.seed, self.rollouts)))
        self.episodes += len(finished) + len(groups.given_up)
        self.dropped_groups += groups.dropped
        self.replay.add(finished)
        trained_on = groups.with_signal(finished)
        self._log_rollout(finished, groups.given_up, len(trained_on))
        return [e for g in trained_on for e in g]

    def _records(self) -> bool:
        """The first rollout is recorded, and the last one or two: dropped groups make a rollout up to twice as long."""
        data, trainer = self.config.data, self.config.trainer
        left = trainer.total_episodes - self.episodes
        return self.rollouts == 0 or left <= 2 * data.train_batch_size * data.n_samples

    def _record_training(self, episode: Episode) -> None:
        self.audit.add(episode)
        self.recorder.episode(episode, self.updates)
        self.progress.episode(episode, self.audit)

    def _log_rollout(self, episodes: list[Episode], given_up: list[EpisodeLost], kept: int) -> None:
        if not episodes:
            why = ", ".join({lost.reason for lost in given_up})
            raise RunFailedError(f"the rollout brought no episode: {len(given_up)} were given up ({why})")
        confusion = self.audit.total
        self.recorder.log(
            self.updates,
            {
                "train/episodes": self.episodes,
                "train/complete": np.mean([e.end.complete for e in episodes]),
                "train/env_success": np.mean([e.end.env_success for e in episodes]),
                "train/score": np.mean([e.end.score for e in episodes]),
                "train/steps": np.mean([e.end.steps for e in episodes]),
                "train/groups_kept": kept,
                "train/groups_dropped": self.dropped_groups,
                "train/episodes_lost": self.fleet.statistics.lost,
                "train/episodes_given_up": self.fleet.statistics.given_up,
                "train/episodes_dropped": self.fleet.statistics.dropped,
                "critic/p50_ms": self.audit.latency_ms(50),
                "critic/p99_ms": self.audit.latency_ms(99),
                "critic/precision": confusion.precision,
                "critic/recall": confusion.recall,
                "critic/invalid": self.audit.invalid,
                "critic/invalid_share": self.audit.recent_invalid_share(),
                "critic/value_holes": self.audit.value_holes,
                "critic/outages": self.audit.outages,
                "time/rollout_s": self.time_s["rollout"],
            },
        )
        for message in crossed(self.config.critic, self.audit):
            logger.warning(message)
            self.progress.note(message)

    # ---- update

    def _update(self, episodes: list[Episode]) -> None:
        """Trains on the rollout's ``episodes``. Without any, or without a finite gradient, it is no update."""
        self.rollouts += 1
        if not episodes:
            self.recorder.log(self.updates, {"train/episodes": self.episodes, "actor/skipped": self.skipped})
            self.progress.note("no group carried a signal: no update")
            return
        with self._timed("update"):
            self.progress.stage("update", None)
            model = self.config.model
            samples = build_samples(
                episodes,
                self.config.algorithm,
                model.action_chunks_len,
                model.action_token_len,
                self.config.data.n_samples,
            )
            samples = self._with_replay(samples)
            self.sidecars.phase("UPDATE")
            metrics = self._learn(samples)
            self.sidecars.phase("ROLLOUT")
            self._hand_out_weights()
        self.updates += metrics["steps"] > 0
        self.recorder.log(
            self.updates,
            {
                "train/episodes": self.episodes,
                "actor/skipped": self.skipped,
                **{f"actor/{k}": v for k, v in metrics.items()},
            },
        )
        if metrics["steps_skipped"]:
            self._warn("skipped", f"{metrics['steps_skipped']:.0f} step(s) skipped: the gradient was not finite")
        if message := mismatch_warning(metrics):
            self._warn("mismatch", message)

    @property
    def skipped(self) -> int:
        """Rollouts without an update."""
        return self.rollouts - self.updates

    def _warn(self, kind: str, message: str) -> None:
        """Into the log each time, to the person the first time."""
        logger.warning(message)
        if kind not in self._told:
            self._told.add(kind)
            self.progress.note(message)

    def _learn(self, samples: Samples) -> dict[str, float]:
        logger.info("update %d: %d samples, digest %s", self.rollouts, len(samples), samples.digest())
        reference = ray.put(samples)
        calls = [learner.update.remote(reference, self.rollouts) for learner in self.learners]
        return self.ask_learners(calls, "the learners' update")[0]

    def ask_learners(self, calls: list[Any], what: str) -> list[Any]:
        """The results of ``calls``, one a rank; a learner cannot be replaced. Raises RunFailedError."""
        try:
            return self.learner_watch.wait(calls, what)
        except (RayActorError, NoAnswerError) as error:
            reason = f"a learner died in {what} ({error})" if isinstance(error, RayActorError) else f"{error}"
            raise RunFailedError(
                f"{reason}; go on from the last checkpoint with "
                f"trainer.run_id={self.recorder.folder.run_id} trainer.resume_mode=auto"
            ) from error

    def _with_replay(self, samples: Samples) -> Samples:
        actor = self.config.actor
        if actor.imitation_coeff <= 0:
            return samples
        rng = np.random.default_rng((self.config.data.seed, self.rollouts))
        replayed = self.replay.sample(round(len(samples) * actor.replay_share), rng)
        return samples if replayed is None else Samples.join([samples, replayed])

    def _hand_out_weights(self) -> None:
        parts = self.ask_learners([learner.weights.remote() for learner in self.learners], "the learners' weights")
        self.fleet.load_weights(ray.put(parts[0]))

    # ---- evaluation and checkpoints

    def evaluate(self) -> float:
        """Share of evaluation episodes that the simulator calls a success; always the same initial states."""
        requests = self.schedule.evaluation(self.config.trainer.videos)
        if not requests:
            return float("nan")
        episodes: list[Episode] = []
        given_up: list[EpisodeLost] = []
        with self._timed("evaluation"):
            self.progress.stage("evaluation", len(requests))
            for episode in self.fleet.run(requests, episodes, given_up, lambda _: []):
                self.recorder.episode(episode, self.updates)
                self.progress.episode(episode, None)
        if given_up:  # its success would be of the states that are easy on the simulator
            last = given_up[-1].reason
            raise RunFailedError(f"{len(given_up)} of {len(requests)} evaluation episodes were lost twice: {last}")
        episodes.sort(key=lambda e: e.request.episode)
        success = float(np.mean([e.end.env_success for e in episodes]))
        self.success_after, self.evaluated_at = success, self.updates
        metrics = {
            "train/episodes": self.episodes,
            "val/success": success,
            "val/steps": float(np.mean([e.end.steps for e in episodes])),
        }
        for task in sorted({e.request.task for e in episodes}):
            metrics[f"val/success/{task}"] = float(
                np.mean([e.end.env_success for e in episodes if e.request.task == task])
            )
        self.recorder.log(self.updates, metrics)
        self.progress.evaluated(success, len(episodes), self.schedule.evaluation_states(), self.updates)
        return success

    def save(self) -> None:
        """Starts a checkpoint in ``checkpoints/step-N``; what takes long is done in the background."""
        with self._timed("checkpoint"):
            arrays = {f"replay.{name}": array for name, array in self.replay.state().items()}
            arrays["latencies"] = self.audit.latencies.counts.copy()
            self.checkpoints.save(self.updates, self.learners, self.state(), arrays)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs beside the learners' own state and the arrays."""
        return {
            **{name: getattr(self, name) for name in (*_COUNTERS, *_RESULTS)},
            "schedule": self.schedule.state(),
            "audit": self.audit.state(),
            "fleet": asdict(self.fleet.statistics),
            "sidecars": self.sidecars.state(),
            "recorder": self.recorder.state(),
            "time_s": dict(self.time_s),
            "best_step": self.checkpoints.best,
        }

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """The counterpart of :meth:`state`; the learners have loaded theirs already."""
        for name in (*_COUNTERS, *_RESULTS):
            setattr(self, name, state[name])
        self.schedule.restore(state["schedule"])
        self.audit.restore(state["audit"], arrays["latencies"])
        self.replay.restore({n.removeprefix("replay."): a for n, a in arrays.items() if n.startswith("replay.")})
        self.fleet.statistics = FleetStatistics(**state["fleet"])
        self.sidecars.restore(state["sidecars"])
        self.recorder.restore(state["recorder"])
        self.progress.trained = self.episodes
        for stage, seconds in state["time_s"].items():
            self.time_s[stage] += seconds
        self.checkpoints.best = state["best_step"]
        self._hand_out_weights()
