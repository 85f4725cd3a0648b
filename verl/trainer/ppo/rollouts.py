"""One rollout: groups of episodes until enough of them carry a signal, counted, shown and kept for replay."""

from __future__ import annotations

import logging
from typing import SupportsFloat

import numpy as np

from verl.algorithms.batch import group_filter
from verl.algorithms.replay import ReplayBuffer
from verl.config import Config
from verl.critic_noise import shuffle_rewards
from verl.episode import Episode, EpisodeLost, EpisodeRequest
from verl.errors import RunFailedError
from verl.trainer.audit import Audit, Confusion, said_done
from verl.trainer.critic_limits import crossed
from verl.trainer.ppo.counts import Counts
from verl.trainer.ppo.fleet import Fleet
from verl.trainer.ppo.groups import RolloutGroups
from verl.trainer.ppo.schedule import Schedule
from verl.trainer.progress import Progress
from verl.trainer.recorder import Recorder

logger = logging.getLogger(__name__)
IN_A_ROW = 16  # episodes dropped one after the other, at least, and a whole rollout's: nothing more can be learnt


class Rollouts:
    """See the module's head. Owns the audit of the critic and the replay buffer, which a checkpoint holds."""

    def __init__(
        self, config: Config, counts: Counts, schedule: Schedule, fleet: Fleet, recorder: Recorder, progress: Progress
    ) -> None:
        self.config, self.counts, self.schedule, self.fleet = config, counts, schedule, fleet
        self.recorder, self.progress = recorder, progress
        self.audit = Audit()  # of the whole run
        self.latest = Audit()  # of the latest rollout: what is of the whole run hides a change
        self.evaluated: Confusion | None = None  # of the latest evaluation, where the critic was asked in it
        model, actor = config.model, config.actor
        replayed = actor.replay_episodes if actor.imitation_coeff > 0 else 0
        self.replay = ReplayBuffer(replayed, model.action_chunks_len, model.action_token_len)
        self.rule = group_filter(config.data)

    def run(self) -> list[Episode]:
        """Groups until ``train_batch_size`` of them are kept, or the episodes are used up; the episodes to train on.

        Raises:
            RunFailedError: it brought no episode, a rollout's number of episodes in a row was dropped, or the critic
                crossed a line that ends the run.
        """
        data, counts = self.config.data, self.counts
        size = data.n_samples
        affordable = max(1, -(-(self.config.trainer.total_episodes - counts.episodes) // size))
        wanted = min(data.train_batch_size, affordable)
        started = min(affordable, max(wanted, round(wanted * data.oversample_factor)))
        record = self.config.trainer.videos if self._records() else 0
        requests = [r for g in range(started) for r in self.schedule.group(record if g == 0 else 0)]
        groups = RolloutGroups(size, self.rule, wanted, affordable, started)
        self.latest = Audit()
        self._play(requests, groups)
        finished = groups.finished
        if self.config.critic.shuffle:
            finished = shuffle_rewards(finished, np.random.default_rng((data.seed, counts.rollouts)))
        counts.episodes += len(finished) + len(groups.given_up)
        counts.dropped_groups += groups.dropped
        self.replay.add(finished)
        self.schedule.note(finished)
        trained_on = groups.with_signal(finished)
        if not finished:
            why = ", ".join({lost.reason for lost in groups.given_up})
            raise RunFailedError(f"the rollout brought no episode: {len(groups.given_up)} were given up ({why})")
        self.recorder.log(counts.updates, self._metrics(finished, len(trained_on)))
        for message in crossed(self.config.critic, self.audit):
            logger.warning(message)
            self.progress.note(message)
        return [e for g in trained_on for e in g]

    def _records(self) -> bool:
        """The first rollout is recorded, and the last one or two: dropped groups make a rollout up to twice as long."""
        data = self.config.data
        left = self.config.trainer.total_episodes - self.counts.episodes
        return self.counts.rollouts == 0 or left <= 2 * data.train_batch_size * data.n_samples

    def _play(self, requests: list[EpisodeRequest], groups: RolloutGroups) -> None:
        most, before = max(IN_A_ROW, len(requests)), 0

        def refill(number: int) -> list[EpisodeRequest]:
            if (row := len(groups.given_up) - before) > most:
                raise RunFailedError(
                    f"{row} episodes in a row were dropped (critic.invalid={self.config.critic.invalid}); the last: "
                    f"{groups.given_up[-1].reason}"
                )
            return self.schedule.group() if groups.wants_another(number) else []

        with self.counts.timed("rollout"):
            self.progress.stage("rollout", len(requests))
            for episode in self.fleet.run(requests, groups.finished, groups.given_up, refill):
                before = len(groups.given_up)
                self.audit.add(episode)
                self.latest.add(episode)
                self.recorder.episode(episode, self.counts.updates)
                self.progress.episode(episode, self.latest)
        for lost in groups.given_up:
            if lost.dropped:
                self.audit.add_dropped(lost)
        groups.sort()

    def _metrics(self, episodes: list[Episode], kept: int) -> dict[str, SupportsFloat]:
        """``critic/...`` is as the critic judged, before a study deals rewards out."""
        ends, counts, audit, fleet = [e.end for e in episodes], self.counts, self.audit, self.fleet.statistics
        latest = self.latest
        return {
            "train/episodes": counts.episodes,
            "train/complete": np.mean([end.complete for end in ends]),
            "train/env_success": np.mean([end.env_success for end in ends]),
            "train/score": np.mean([end.score for end in ends]),
            "train/steps": np.mean([end.steps for end in ends]),
            "train/groups_kept": kept,
            "train/groups_dropped": counts.dropped_groups,
            "train/episodes_lost": fleet.lost,
            "train/episodes_given_up": fleet.given_up,
            "train/episodes_dropped": fleet.dropped,
            "critic/p50_ms": latest.latency_ms(50),
            "critic/p99_ms": latest.latency_ms(99),
            "critic/precision": latest.total.precision,
            "critic/recall": latest.total.recall,
            "critic/invalid": audit.invalid,
            "critic/invalid_share": audit.recent_invalid_share(),
            "critic/value_holes": audit.value_holes,
            "critic/outages": audit.outages,
            "time/rollout_s": counts.time_s["rollout"],
        }

    def evaluate(self, requests: list[EpisodeRequest]) -> list[Episode]:
        """Plays them all, by number; nothing of it is learned from.

        Raises:
            RunFailedError: one was lost for good.
        """
        episodes: list[Episode] = []
        given_up: list[EpisodeLost] = []
        critic = self.config.critic
        self.evaluated = Confusion() if critic.audit_val else None
        with self.counts.timed("evaluation"):
            self.progress.stage("evaluation", len(requests))
            for episode in self.fleet.run(requests, episodes, given_up, lambda _: []):
                self.recorder.episode(episode, self.counts.updates)
                self.progress.episode(episode, None)
                if self.evaluated is not None:
                    rules = critic.rules_of(episode.end.instruction)
                    done = said_done(episode.end.probabilities, rules.threshold, rules.hold)
                    self.evaluated.add(done, episode.end.env_success)
        if given_up:  # its success would be of the states that are easy on the simulator
            last = given_up[-1].reason
            raise RunFailedError(f"{len(given_up)} of {len(requests)} evaluation episodes were lost twice: {last}")
        return sorted(episodes, key=lambda e: e.request.episode)
