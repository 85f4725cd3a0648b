#!/usr/bin/env bash
# RL of an OpenVLA-OFT checkpoint on a LIBERO suite, rewarded by VLAC: the counterpart of SimpleVLA-RL's
# examples/run_openvla_oft_rl_libero.sh. Keys of the same name mean the same there and here, and what it leaves to defaults
# (AdamW, the loss's mean, episodes of at most 512 steps, the picture path) is said here: docs/training.md. What depends on
# the machine (workers, batches, memory) is in the preset: HARDWARE=h100_1, h100_8 or h100_2x8 (docs/hardware.md).
set -euo pipefail

SFT_MODEL_PATH="${SFT_MODEL_PATH:?the folder of the OpenVLA-OFT checkpoint to start from}"
VLAC_PATH="${VLAC_PATH:?the folder of the VLAC checkpoint}"
DATASET_NAME="${DATASET_NAME:-libero_10}"

exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" \
    env=libero \
    env.max_steps=512 \
    hardware="${HARDWARE:-h100_8}" \
    data.task_suite_name="$DATASET_NAME" \
    data.filter_accuracy=true \
    data.accuracy_lower_bound=0.1 \
    data.accuracy_upper_bound=0.9 \
    actor_rollout_ref.model.path="$SFT_MODEL_PATH" \
    actor_rollout_ref.actor.optim.lr=5e-6 \
    actor_rollout_ref.actor.optim.lora_lr=1e-4 \
    actor_rollout_ref.actor.optim.weight_decay=0.01 \
    'actor_rollout_ref.actor.optim.betas=[0.9,0.999]' \
    actor_rollout_ref.actor.optim.eps=1e-8 \
    actor_rollout_ref.actor.grad_clip=1.0 \
    actor_rollout_ref.actor.entropy_coeff=0.0 \
    actor_rollout_ref.actor.clip_ratio_high=0.28 \
    actor_rollout_ref.actor.clip_ratio_low=0.2 \
    actor_rollout_ref.rollout.temperature=1.6 \
    actor_rollout_ref.rollout.center_crop=true \
    algorithm.adv_estimator=grpo \
    algorithm.norm_adv_by_std_in_grpo=true \
    algorithm.loss_agg_mode=seq-mean-token-mean \
    algorithm.kl_ctrl.kl_coef=0.0 \
    critic.every=step \
    critic.reward=done_value \
    critic.sidecar.config.model="$VLAC_PATH" \
    trainer.total_episodes=100000 \
    trainer.save_freq=25 \
    trainer.test_freq=4 \
    'trainer.logger=[console,tensorboard]' \
    "$@"
