#!/usr/bin/env bash
# Evaluates an OpenVLA-OFT checkpoint on a LIBERO suite by the simulator's done. VLAC is not asked;
# critic.audit_val=true asks it beside the simulator, where it decides nothing.
set -euo pipefail

MODEL_PATH="${MODEL_PATH:?the folder of the OpenVLA-OFT checkpoint}"
DATASET_NAME="${DATASET_NAME:-libero_10}"

exec "$(dirname "${BASH_SOURCE[0]}")/../launch.sh" \
    env=libero \
    hardware="${HARDWARE:-h100_8}" \
    data.task_suite_name="$DATASET_NAME" \
    data.val_batch_size="${EPISODES:-500}" \
    actor_rollout_ref.model.path="$MODEL_PATH" \
    actor_rollout_ref.rollout.center_crop=true \
    critic.enable=false \
    trainer.val_only=true \
    "$@"
