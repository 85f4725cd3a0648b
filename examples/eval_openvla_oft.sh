#!/usr/bin/env bash
# Evaluates an OpenVLA-OFT checkpoint on a LIBERO suite by the simulator's done. VLAC is not asked;
# critic.audit_val=true asks it beside the simulator, where it decides nothing. All of a suite's published initial states are
# played once, as the literature does (500 of 10 tasks); a policy that was trained here has met 40 of each 50 in training:
# env.val_trials=10 plays the 10 that it has not.
set -euo pipefail

MODEL_PATH="${MODEL_PATH:?the folder of the OpenVLA-OFT checkpoint}"
DATASET_NAME="${DATASET_NAME:-libero_10}"

exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" \
    env=libero \
    hardware="${HARDWARE:-h100_8}" \
    data.task_suite_name="$DATASET_NAME" \
    data.val_batch_size="${EPISODES:-500}" \
    env.val_trials=as_published \
    actor_rollout_ref.model.path="$MODEL_PATH" \
    actor_rollout_ref.rollout.center_crop=true \
    critic.enable=false \
    trainer.val_only=true \
    "$@"
