"""Puts a run together from its configuration: sidecars, learners, rollout workers, trainer."""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import Any

import ray

from evo_vlac.paths import from_home
from verl.config import Config
from verl.critic_config import CriticConfig
from verl.envs.factory import count_tasks, evaluation_states
from verl.trainer import ray_wait
from verl.trainer.checkpoint import Checkpoints
from verl.trainer.cluster import Cluster
from verl.trainer.heartbeat import LearnerWatch
from verl.trainer.load_limits import LoadLimit, verdict_s
from verl.trainer.ppo.fleet import Fleet
from verl.trainer.ppo.learners import Learners
from verl.trainer.ppo.loop import Trainer
from verl.trainer.ppo.schedule import Schedule
from verl.trainer.progress import Progress
from verl.trainer.recorder import Recorder
from verl.trainer.run_folder import RunFolder
from verl.trainer.sidecars import Sidecars
from verl.workers.learner import LearnerOptions
from verl.workers.rollout import RolloutOptions

logger = logging.getLogger(__name__)
ANSWER_S = 60.0
MARGIN_S = 120.0


def critic_asked(config: Config, run_id: str) -> CriticConfig | None:
    """How environment processes ask the critic, of the sidecar of the run; None when nobody does."""
    critic = config.critic
    named = critic.run_id or run_id
    return dataclasses.replace(critic, run_id=named, verdict_timeout_s=verdict_s(critic)) if critic.asked else None


def rollout_options(config: Config, run_id: str) -> RolloutOptions:
    """What every rollout worker is given; the cluster binds each to its node's sidecar."""
    rollout = config.rollout
    return RolloutOptions(
        model_path=str(from_home(config.model.path).absolute()),
        unnorm_key=rollout.unnorm_key,
        center_crop=rollout.center_crop,
        temperature=rollout.temperature,
        do_sample=rollout.do_sample,
        val_do_sample=rollout.val_do_sample,
        max_batch_size=rollout.max_batch_size,
        deterministic=rollout.deterministic,
        device=rollout.device,
        dtype=rollout.dtype,
        threads=rollout.torch_threads,
        seed=config.data.seed,
        value_head=config.algorithm.adv_estimator == "gae",
        pool={
            "env_config": dict(config.env),
            "critic": critic_asked(config, run_id),
            "size": rollout.envs_per_worker,
            "simulator_limit_s": rollout.episode_timeout_s,
            "silence_s": rollout.step_timeout_s,
        },
        vla=config.model.vla,
        lora_rank=config.model.lora_rank,
        lora_alpha=config.model.lora_alpha,
        num_images_in_input=config.actor.num_images_in_input,
        use_proprio=rollout.use_proprio,
        gpus=rollout.gpus_per_worker,
    )


def learner_options(config: Config) -> LearnerOptions:
    """What every learner is given. The driver names a rank that stands still before torch.distributed gives it up."""
    patience = max(config.trainer.stall_timeout_s, LoadLimit.of(config.model.path).seconds)
    model = dataclasses.replace(config.model, path=str(from_home(config.model.path).absolute()))
    return LearnerOptions(
        model=model,
        actor=config.actor,
        algorithm=config.algorithm,
        unnorm_key=config.rollout.unnorm_key,
        center_crop=config.rollout.center_crop,
        temperature=config.rollout.temperature,
        seed=config.data.seed,
        threads=max(1, (os.cpu_count() or 1)),
        rollout_dtype=config.rollout.dtype,
        rollout_device=config.rollout.device or ("cuda" if config.rollout.gpus_per_worker else "cpu"),
        use_proprio=config.rollout.use_proprio,
        collective_timeout_s=patience + MARGIN_S,
    )


class Run:
    """Everything of a run that must be ended again. Use as a context manager."""

    def __init__(self, config: Config, folder: RunFolder, recorder: Recorder, progress: Progress) -> None:
        self.config, self.folder, self.recorder, self.progress = config, folder, recorder, progress
        self.cluster = Cluster(config, config.critic.run_id or folder.run_id, folder.file("logs"), progress.note)
        self.fleet: Fleet | None = None
        self.learners: list[Any] = []

    def __enter__(self) -> Run:
        return self

    def start(self) -> Trainer:
        """Starts all parts side by side and waits until each is ready."""
        config, note = self.config, self.progress.note
        critic_limit = LoadLimit.of_critic(config.critic)
        ready: list[Any] = []
        if config.critic.asked:
            ready = self.cluster.start_sidecars(critic_limit.seconds)
        self.learners = self.cluster.learners(learner_options(config))
        options = rollout_options(config, self.folder.run_id)
        sidecar = config.critic.sidecar
        sidecars = Sidecars(self.cluster, sidecar.start, sidecar.max_restarts, note, critic_limit)
        limit = LoadLimit.of(config.model.path)
        learner_watch = LearnerWatch(self.learners, note, config.trainer.stall_timeout_s)
        rollout = config.rollout
        environments = rollout.workers * len(self.cluster.nodes) * rollout.envs_per_worker

        def tick() -> None:
            sidecars.tick()
            if self.fleet is not None:
                self.progress.environments(self.fleet.environments_ready(), environments)
                self.progress.lost(self.fleet.statistics.lost)

        self.fleet = Fleet(
            make=lambda index: self.cluster.rollout_worker(index, options),
            workers=config.rollout.workers * len(self.cluster.nodes),
            capacity=config.rollout.envs_per_worker * (2 if config.critic.overlap else 1),
            timeout_s=config.rollout.worker_timeout_s,
            max_lost_share=config.trainer.max_lost_share,
            on_tick=tick,
            away=self.cluster.away,
            start_limit=limit,
            note=note,
        )
        learner_watch.start(limit.seconds, f"the learners' start ({limit})")
        reasons = ray_wait.get([self.learners[0].why_recompute.remote()], ANSWER_S, "a learner")
        logger.info("the learner recomputes old log-probabilities: %s", reasons[0])
        self.fleet.start()
        ready += self.cluster.load_sidecars(critic_limit.seconds)
        ray_wait.get(ready, critic_limit.seconds + 30, f"the sidecars' start ({critic_limit})")
        self._tell_status_page()
        schedule = self._schedule()
        learners = Learners(self.learners, learner_watch, self.folder.run_id)
        checkpoints = Checkpoints(self.folder, config.trainer.max_actor_ckpt_to_keep, learners.ask)
        return Trainer(
            config,
            schedule,
            self.fleet,
            learners,
            sidecars,
            self.recorder,
            self.progress,
            checkpoints,
        )

    def lost(self) -> int:
        """Tries of episodes that were lost so far."""
        return 0 if self.fleet is None else self.fleet.statistics.lost

    def _tell_status_page(self) -> None:
        """Where a browser sees the sidecar at work, if that was asked for."""
        keys = self.config.critic.sidecar.config
        if (port := keys.get("metrics_port")) is not None and self.config.critic.asked:
            host = keys.get("metrics_host", "127.0.0.1")
            where = f"http://{host}:{port}/" if port else "its address is in logs/sidecar-*.log"
            self.progress.note(f"the sidecar's status page: {where}")

    def _schedule(self) -> Schedule:
        config = self.config
        states, greedy = evaluation_states(config.env), not config.rollout.val_do_sample
        schedule = Schedule(config.data, count_tasks(config.env), states, greedy)
        if (episodes := schedule.evaluation_episodes()) < config.data.val_batch_size:
            self.progress.note(
                f"an evaluation has {episodes} episodes, not data.val_batch_size={config.data.val_batch_size}: "
                "so many initial states are there for it, and greedily each is played once"
            )
        return schedule

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Ends workers, learners and sidecars, in this order; each gets a few seconds."""
        if error is not None:  # now: where Ray is stopped, the end does not come
            logger.error("the run ends: %s", str(error) or kind)
        if self.fleet is not None:
            self.fleet.close()
        for learner in self.learners:
            ray.kill(learner)
        self.cluster.stop_sidecars(timeout=20)
        self.cluster.placement.release()
