"""The training loop: roll out, keep the groups that carry a signal, update, hand the new weights out, evaluate.

ROLLOUT  rollout workers + sidecar -> episodes -> groups -> filter -> advantages -> samples
UPDATE   the sidecar leaves the GPU -> learners step -> new weights to the workers
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from verl.algorithms.batch import build_samples
from verl.config import Config
from verl.episode import Episode
from verl.launch import words
from verl.samples import Samples
from verl.trainer.checkpoint import Checkpoints, read_state
from verl.trainer.ppo.counts import Counts
from verl.trainer.ppo.fleet import Fleet
from verl.trainer.ppo.fleet_statistics import FleetStatistics
from verl.trainer.ppo.learners import Learners
from verl.trainer.ppo.rollouts import Rollouts
from verl.trainer.ppo.schedule import Schedule
from verl.trainer.ppo.stop import Moment, in_one_piece, save_in_time
from verl.trainer.ppo.summary import summarise
from verl.trainer.progress import Progress
from verl.trainer.ray_store import store_metrics
from verl.trainer.recorder import Recorder
from verl.trainer.sidecars import Sidecars
from verl.workers.old_log_probs import mismatch_warning

logger = logging.getLogger(__name__)


class Trainer:
    """Owns the order of things; models, environments and files are others' business."""

    _moment: Moment  # the latest, from the beginning of fit on

    def __init__(
        self,
        config: Config,
        schedule: Schedule,
        fleet: Fleet,
        learners: Learners,
        sidecars: Sidecars,
        recorder: Recorder,
        progress: Progress,
        checkpoints: Checkpoints,
    ) -> None:
        self.config, self.schedule, self.fleet = config, schedule, fleet
        self.learners, self.sidecars = learners, sidecars
        self.recorder, self.progress, self.checkpoints = recorder, progress, checkpoints
        self.counts = Counts()
        self.rollouts = Rollouts(config, self.counts, schedule, fleet, recorder, progress)
        self._told: set[str] = set()
        self._by_task: dict[str, float] = {}  # success of the latest evaluation

    # ---- the run

    def fit(self) -> None:
        """Trains until the episodes or the updates are used up; evaluates before (if asked), between and after.

        Asked to stop, it raises KeyboardInterrupt: no update is cut in two, and a checkpoint of the latest is left, so
        far as ``trainer.stop_timeout_s`` allows.
        """
        self._moment = self._now()
        words.say(words.PATIENCE, seconds=self.config.trainer.stop_timeout_s)
        try:
            self._fit()
        except KeyboardInterrupt:
            self._save_at_stop()
            raise
        finally:
            words.say(words.PATIENCE, seconds=0.0)

    def _fit(self) -> None:
        trainer = self.config.trainer
        if trainer.val_only or (trainer.val_before_train and not self.counts.rollouts):
            self.counts.success_before = self.evaluate()
        if trainer.val_only:
            return
        self._evaluate_if_due()  # a checkpoint is made before the evaluation of its step
        while not self._finished():
            self.checkpoints.tick()
            episodes = self.rollouts.run()
            with self._in_one_piece("the update"):
                self._update(episodes)
                del episodes  # nothing of this update's is referred to any more
                self.recorder.log(self.counts.updates, store_metrics())
                self._moment = self._now()
            if self._finished() or self._due(trainer.save_freq):
                self._save_once()
            self._evaluate_if_due()
            self._moment = self._now()
        with self.counts.timed("checkpoint"):  # a large one takes a minute to reach the disk
            self.checkpoints.wait()

    def _evaluate_if_due(self) -> None:
        counts = self.counts
        due = self._finished() or self._due(self.config.trainer.test_freq)
        if not due or counts.evaluated_at == counts.updates:
            return
        success = self.evaluate()
        if counts.updates and (counts.best is None or success > counts.best):  # never for NaN
            counts.best = success
            self._save_once()
            self.checkpoints.mark_best(counts.updates)

    def _save_once(self) -> None:
        """A checkpoint of these weights, unless there is one: a rollout without an update changes none."""
        if self.checkpoints.last != self.counts.updates:
            with self._in_one_piece("the checkpoint"):
                self.save()

    def _due(self, frequency: int) -> bool:
        updates = self.counts.updates
        return frequency > 0 and updates > 0 and updates % frequency == 0

    def _finished(self) -> bool:
        trainer, counts = self.config.trainer, self.counts
        limit = trainer.total_training_steps
        return counts.episodes >= trainer.total_episodes or (limit is not None and counts.updates >= limit)

    # ---- update

    def _update(self, episodes: list[Episode]) -> None:
        """Trains on the rollout's ``episodes``. Without any, or without a finite gradient, it is no update."""
        counts = self.counts
        counts.rollouts += 1
        if not episodes:
            self._log_update({})
            self.progress.note("no group carried a signal: no update")
            return
        with counts.timed("update"):
            self.progress.stage("update", None)
            samples = self._samples(episodes)
            self.sidecars.phase("UPDATE")
            metrics = self.learners.update(samples, counts.rollouts)
            self.sidecars.phase("ROLLOUT")
            self._hand_out_weights()
        counts.updates += metrics["steps"] > 0
        self._log_update(metrics)
        if metrics["steps_skipped"]:
            self._warn("skipped", f"{metrics['steps_skipped']:.0f} step(s) skipped: the gradient was not finite")
        if message := mismatch_warning(metrics):
            self._warn("mismatch", message)

    def _samples(self, episodes: list[Episode]) -> Samples:
        """What the learners are given: the episodes' chunks, and replayed ones to imitate."""
        model, actor, data = self.config.model, self.config.actor, self.config.data
        samples = build_samples(
            episodes, self.config.algorithm, model.action_chunks_len, model.action_token_len, data.n_samples
        )
        if actor.imitation_coeff <= 0:
            return samples
        rng = np.random.default_rng((data.seed, self.counts.rollouts))
        replayed = self.rollouts.replay.sample(round(len(samples) * actor.replay_share), rng)
        return samples if replayed is None else Samples.join([samples, replayed])

    def _hand_out_weights(self) -> None:
        self.progress.stage("weights to the rollout workers", None)
        self.fleet.load_weights(self.learners, self.progress.share)

    def _log_update(self, metrics: dict[str, float]) -> None:
        counts = self.counts
        told = {f"actor/{name}": value for name, value in metrics.items()}
        self.recorder.log(counts.updates, {"train/episodes": counts.episodes, "actor/skipped": counts.skipped, **told})

    def _warn(self, kind: str, message: str) -> None:
        """Into the log each time, to the person the first time."""
        logger.warning(message)
        if kind not in self._told:
            self._told.add(kind)
            self.progress.note(message)

    # ---- evaluation

    def evaluate(self) -> float:
        """Share of evaluation episodes that the simulator calls a success; always the same initial states."""
        requests = self.schedule.evaluation(self.config.trainer.videos)
        if not requests:
            return float("nan")
        ends = [episode.end for episode in self.rollouts.evaluate(requests)]
        success = float(np.mean([end.env_success for end in ends]))
        counts = self.counts
        counts.success_after, counts.evaluated_at = success, counts.updates
        metrics = {
            "train/episodes": counts.episodes,
            "val/success": success,
            "val/steps": float(np.mean([end.steps for end in ends])),
        }
        self._by_task = {}
        for task, instruction in sorted({(end.request.task, end.instruction) for end in ends}):
            of_task = [end.env_success for end in ends if end.request.task == task]
            share = metrics[f"val/success/{task}"] = float(np.mean(of_task))
            self._by_task[f"{task}: {instruction}"] = share
        if (confusion := self.rollouts.evaluated) is not None:
            metrics |= {"val/critic_precision": confusion.precision, "val/critic_recall": confusion.recall}
        self.recorder.log(counts.updates, metrics)
        self.progress.evaluated(success, len(ends), self.schedule.evaluation_states(), counts.updates)
        return success

    def summary(self) -> dict[str, Any]:
        """What the run shows at its end."""
        audit, statistics = self.rollouts.audit, self.fleet.statistics
        found = summarise(self.counts, self.schedule, audit, statistics, self.sidecars.state())
        evaluated = self.rollouts.evaluated
        confusion = {} if evaluated is None else asdict(evaluated)
        return {**found, "success_by_task": self._by_task, "confusion_in_evaluation": confusion}

    # ---- checkpoints

    def save(self) -> None:
        """Starts a checkpoint in ``checkpoints/step-N``; what takes long is done in the background."""
        self._moment = self._now()
        self._save_moment()

    def _now(self) -> Moment:
        latencies, replay = self.rollouts.audit.latencies.counts.copy(), self.rollouts.replay
        state = {**self.state(), "logs": self.checkpoints.log_sizes()}
        return Moment(self.counts.updates, state, latencies, replay.contents())

    def _save_moment(self) -> None:
        moment = self._moment
        arrays = {f"replay.{name}": array for name, array in self.rollouts.replay.state(moment.replayed).items()}
        arrays["latencies"] = moment.latencies
        with self.counts.timed("checkpoint"):
            self.checkpoints.save(moment.updates, self.learners.actors, moment.state, arrays)

    def _in_one_piece(self, what: str) -> AbstractContextManager[None]:
        return in_one_piece(what, self.config.trainer.stop_timeout_s, self.progress.note)

    def _save_at_stop(self) -> None:
        """A checkpoint of the latest update, unless there is one, with what the trainer's state was then."""
        step = self._moment.updates

        def save() -> None:
            self.checkpoints.wait()
            if step > 0 and self.checkpoints.last != step:
                self.progress.note(f"asked to stop: writing the checkpoint of update {step}")
                self._save_moment()
                self.checkpoints.wait()

        save_in_time(save, step, self.config.trainer.stop_timeout_s, self.progress.note)

    def resume(self, checkpoint: Path) -> None:
        """Goes on from ``checkpoint``, of this run or of another; new weights are with the rollout workers."""
        self.learners.load(checkpoint)
        self.restore(*read_state(checkpoint))
        if self.checkpoints.holds(checkpoint):
            self.checkpoints.last = self.counts.updates
        else:
            self.counts.best = self.checkpoints.best = None
            self.recorder.videos.clear()

    def state(self) -> dict[str, object]:
        """What a resumed run needs beside the learners' own state and the arrays."""
        return {
            **self.counts.state(),
            "schedule": self.schedule.state(),
            "audit": self.rollouts.audit.state(),
            "fleet": asdict(self.fleet.statistics),
            "sidecars": self.sidecars.state(),
            "recorder": self.recorder.state(),
            "best_step": self.checkpoints.best,
        }

    def restore(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """The counterpart of :meth:`state`; the learners have loaded theirs already."""
        self.counts.restore(state)
        self.schedule.restore(state["schedule"])
        self.rollouts.audit.restore(state["audit"], arrays["latencies"])
        replayed = {n.removeprefix("replay."): a for n, a in arrays.items() if n.startswith("replay.")}
        self.rollouts.replay.restore(replayed)
        self.fleet.statistics = FleetStatistics(**state["fleet"])
        self.sidecars.restore(state["sidecars"])
        self.recorder.restore(state["recorder"])
        self.progress.trained = self.counts.episodes
        self.checkpoints.best = state["best_step"]
        self._hand_out_weights()
