"""The configuration as frozen dataclasses, checked when built.

The keys, their defaults and their meanings stand in ``verl/trainer/config/ppo_trainer.yaml``; hydra refuses unknown
ones. Here each value is checked, and an error names the key, the value and what is allowed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from verl.algorithms.task_need import SAMPLINGS
from verl.config_tree import build, group, in_range, one_of, over_zero
from verl.critic_config import CriticConfig
from verl.errors import ConfigError

DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class DataConfig:
    task_suite_name: str
    n_samples: int
    train_batch_size: int
    val_batch_size: int
    oversample_factor: float
    filter_accuracy: bool
    accuracy_lower_bound: float
    accuracy_upper_bound: float
    min_spread: float
    value_spread: float | None
    seed: int
    val_seed: int
    task_sampling: str
    need_window: int
    need_floor: float

    def __post_init__(self) -> None:
        in_range("data.n_samples", self.n_samples, 1)
        in_range("data.train_batch_size", self.train_batch_size, 1)
        in_range("data.val_batch_size", self.val_batch_size, 0)
        in_range("data.seed", self.seed, 0)
        in_range("data.val_seed", self.val_seed, 0)
        in_range("data.oversample_factor", self.oversample_factor, 1)
        one_of("data.task_sampling", self.task_sampling, SAMPLINGS)
        in_range("data.need_window", self.need_window, 1)
        in_range("data.need_floor", self.need_floor, 0, 1)
        in_range("data.min_spread", self.min_spread, 0)
        in_range("data.value_spread", self.value_spread, 0)
        in_range("data.accuracy_lower_bound", self.accuracy_lower_bound, 0, 1)
        in_range("data.accuracy_upper_bound", self.accuracy_upper_bound, self.accuracy_lower_bound, 1)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    path: str
    vla: str
    action_token_len: int
    action_chunks_len: int
    lora_rank: int
    lora_alpha: int
    enable_gradient_checkpointing: bool

    def __post_init__(self) -> None:
        one_of("actor_rollout_ref.model.vla", self.vla, ["openvla-oft"])
        in_range("actor_rollout_ref.model.action_token_len", self.action_token_len, 1)
        in_range("actor_rollout_ref.model.action_chunks_len", self.action_chunks_len, 1)
        in_range("actor_rollout_ref.model.lora_rank", self.lora_rank, 0)
        in_range("actor_rollout_ref.model.lora_alpha", self.lora_alpha, 1)


@dataclass(frozen=True, slots=True)
class OptimConfig:
    lr: float
    lora_lr: float
    value_lr: float
    weight_decay: float
    betas: tuple[float, float]
    eps: float
    warmup_steps: int

    def __post_init__(self) -> None:
        for name in ("lr", "lora_lr", "value_lr", "weight_decay", "eps", "warmup_steps"):
            in_range(f"actor_rollout_ref.actor.optim.{name}", getattr(self, name), 0)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"actor_rollout_ref.actor.optim.betas={self.betas!r}: each must be from 0, and under 1")


@dataclass(frozen=True, slots=True)
class FsdpConfig:
    world_size: int | None
    param_offload: bool
    optimizer_offload: bool
    dtype: str

    def __post_init__(self) -> None:
        in_range("actor_rollout_ref.actor.fsdp_config.world_size", self.world_size, 1)
        one_of("actor_rollout_ref.actor.fsdp_config.dtype", self.dtype, DTYPES)


@dataclass(frozen=True, slots=True)
class ActorConfig:
    optim: OptimConfig
    ppo_mini_batch_size: int
    ppo_micro_batch_size: int
    ppo_epochs: int
    grad_clip: float
    clip_ratio_low: float
    clip_ratio_high: float
    entropy_coeff: float
    value_coeff: float
    imitation_coeff: float
    replay_episodes: int
    replay_share: float
    recompute_log_prob: str
    num_images_in_input: int | None  # None: as the checkpoint says
    fsdp_config: FsdpConfig

    def __post_init__(self) -> None:
        in_range("actor_rollout_ref.actor.ppo_mini_batch_size", self.ppo_mini_batch_size, 1)
        in_range("actor_rollout_ref.actor.ppo_micro_batch_size", self.ppo_micro_batch_size, 1)
        in_range("actor_rollout_ref.actor.ppo_epochs", self.ppo_epochs, 1)
        over_zero("actor_rollout_ref.actor.grad_clip", self.grad_clip)
        in_range("actor_rollout_ref.actor.clip_ratio_low", self.clip_ratio_low, 0, 1)
        for name in ("clip_ratio_high", "entropy_coeff", "value_coeff", "imitation_coeff", "replay_share"):
            in_range(f"actor_rollout_ref.actor.{name}", getattr(self, name), 0)
        in_range("actor_rollout_ref.actor.replay_episodes", self.replay_episodes, 0)
        in_range("actor_rollout_ref.actor.num_images_in_input", self.num_images_in_input, 1)
        one_of("actor_rollout_ref.actor.recompute_log_prob", self.recompute_log_prob, ["auto", "always", "never"])


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    temperature: float
    do_sample: bool
    val_do_sample: bool
    unnorm_key: str
    use_proprio: bool | None  # None: as the checkpoint says
    center_crop: bool
    workers: int
    envs_per_worker: int
    max_batch_size: int
    gpus_per_worker: float
    device: str | None
    dtype: str
    torch_threads: int
    deterministic: bool | None
    episode_timeout_s: float | None
    step_timeout_s: float
    worker_timeout_s: float

    def __post_init__(self) -> None:
        in_range("actor_rollout_ref.rollout.temperature", self.temperature, 1e-3, 10)
        in_range("actor_rollout_ref.rollout.workers", self.workers, 1, 4096)
        in_range("actor_rollout_ref.rollout.envs_per_worker", self.envs_per_worker, 1, 4096)
        in_range("actor_rollout_ref.rollout.max_batch_size", self.max_batch_size, 1)
        in_range("actor_rollout_ref.rollout.gpus_per_worker", self.gpus_per_worker, 0, 64)
        in_range("actor_rollout_ref.rollout.torch_threads", self.torch_threads, 1, 1024)
        one_of("actor_rollout_ref.rollout.dtype", self.dtype, DTYPES)
        if self.device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"actor_rollout_ref.rollout.device={self.device!r}: allowed are cpu, cuda, cuda:N, null")
        in_range("actor_rollout_ref.rollout.episode_timeout_s", self.episode_timeout_s, 1)
        in_range("actor_rollout_ref.rollout.step_timeout_s", self.step_timeout_s, 1)
        in_range("actor_rollout_ref.rollout.worker_timeout_s", self.worker_timeout_s, 10)


@dataclass(frozen=True, slots=True)
class KlConfig:
    kl_coef: float

    def __post_init__(self) -> None:
        in_range("algorithm.kl_ctrl.kl_coef", self.kl_coef, 0)


@dataclass(frozen=True, slots=True)
class AlgorithmConfig:
    adv_estimator: str
    gamma: float
    lam: float
    norm_adv_by_std_in_grpo: bool
    loss_agg_mode: str
    kl_ctrl: KlConfig
    norm_adv_by_task: bool = False

    def __post_init__(self) -> None:
        one_of("algorithm.loss_agg_mode", self.loss_agg_mode, ["token-mean", "seq-mean-token-mean"])
        one_of("algorithm.adv_estimator", self.adv_estimator, ["grpo", "rloo", "reinforce_plus_plus", "gae"])
        in_range("algorithm.gamma", self.gamma, 0, 1)
        in_range("algorithm.lam", self.lam, 0, 1)


@dataclass(frozen=True, slots=True)
class TrainerConfig:
    total_episodes: int
    total_training_steps: int | None
    val_only: bool
    val_before_train: bool
    test_freq: int
    save_freq: int
    max_actor_ckpt_to_keep: int
    resume_mode: str
    resume_from_path: str | None
    logger: tuple[str, ...]
    project_name: str
    experiment_name: str | None
    run_id: str | None
    default_local_dir: str
    nnodes: int
    n_gpus_per_node: int | None
    videos: int
    max_lost_share: float
    stall_timeout_s: float
    stop_timeout_s: float
    ray_address: str | None

    def __post_init__(self) -> None:
        for name in self.logger:
            one_of("trainer.logger", name, ["console", "tensorboard", "wandb"])
        in_range("trainer.total_episodes", self.total_episodes, 0)
        in_range("trainer.total_training_steps", self.total_training_steps, 0)
        in_range("trainer.test_freq", self.test_freq, -1)
        in_range("trainer.save_freq", self.save_freq, -1)
        in_range("trainer.n_gpus_per_node", self.n_gpus_per_node, 0)
        in_range("trainer.videos", self.videos, 0)
        in_range("trainer.nnodes", self.nnodes, 1)
        in_range("trainer.max_lost_share", self.max_lost_share, 0, 1)
        in_range("trainer.stall_timeout_s", self.stall_timeout_s, 120)
        in_range("trainer.stop_timeout_s", self.stop_timeout_s, 0)
        in_range("trainer.max_actor_ckpt_to_keep", self.max_actor_ckpt_to_keep, 1)
        one_of("trainer.resume_mode", self.resume_mode, ["disable", "auto", "resume_path"])
        if (self.resume_mode == "resume_path") != (self.resume_from_path is not None):
            raise ConfigError(
                f"trainer.resume_mode={self.resume_mode} with trainer.resume_from_path={self.resume_from_path}: "
                "resume_path needs a checkpoint folder there, the other modes none"
            )


@dataclass(frozen=True, slots=True)
class Config:
    """Everything. ``env`` stays a mapping: each environment checks its own keys."""

    env: dict[str, Any]
    data: DataConfig
    model: ModelConfig
    actor: ActorConfig
    rollout: RolloutConfig
    algorithm: AlgorithmConfig
    critic: CriticConfig
    trainer: TrainerConfig

    def __post_init__(self) -> None:
        critic, chunk = self.critic, self.model.action_chunks_len
        if not critic.enable or critic.every != "chunk" or critic.reward == "done":
            return
        # between chunk ends frames are drawn for the value list alone: only such strides give pairs of one length
        if chunk % critic.value_stride and critic.value_stride % chunk:
            divisors = ", ".join(str(n) for n in range(1, chunk) if chunk % n == 0)
            raise ConfigError(
                f"critic.value_stride={critic.value_stride!r} with critic.every=chunk: the value list's pairs would be "
                f"uneven; allowed are {divisors}, multiples of actor_rollout_ref.model.action_chunks_len={chunk}, or "
                "critic.every=step"
            )

    @classmethod
    def from_mapping(cls, tree: dict[str, Any]) -> Config:
        """From the resolved configuration tree (``OmegaConf.to_container(cfg, resolve=True)``)."""
        shared, critic = group(tree["actor_rollout_ref"], "actor_rollout_ref"), group(tree["critic"], "critic")
        data = build(DataConfig, tree["data"], "data")
        noise = {**group(critic["noise"], "critic.noise"), "seed": data.seed}
        return cls(
            env={**group(tree["env"], "env"), "suite": data.task_suite_name},  # the key that SimpleVLA-RL users set
            data=data,
            model=build(ModelConfig, shared["model"], "actor_rollout_ref.model"),
            actor=build(ActorConfig, shared["actor"], "actor_rollout_ref.actor"),
            rollout=build(RolloutConfig, shared["rollout"], "actor_rollout_ref.rollout"),
            algorithm=build(AlgorithmConfig, tree["algorithm"], "algorithm"),
            critic=build(CriticConfig, {**critic, "noise": noise}, "critic"),
            trainer=build(TrainerConfig, tree["trainer"], "trainer"),
        )
