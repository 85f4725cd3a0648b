#!/usr/bin/env bash
# Five tasks, one policy, one critic that has never seen a simulator's label: the training of docs/learning.md ("Five
# tasks, one policy"), by the recipe of studies/proof_worlds.py. Further key=value arguments go to launch.sh.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
exec "$root/launch.sh" \
    env=robosuite_tasks \
    actor_rollout_ref.model.path="$root/models/openvla-oft-tiny-tasks" \
    actor_rollout_ref.model.action_chunks_len=4 \
    actor_rollout_ref.actor.ppo_mini_batch_size=16 \
    actor_rollout_ref.rollout.envs_per_worker=2 \
    critic.sidecar.config.model="$root/models/vlac-tiny-tasks" \
    algorithm.adv_estimator=gae \
    algorithm.loss_agg_mode=seq-mean-token-mean \
    algorithm.norm_adv_by_task=true \
    data.task_sampling=learnability \
    data.train_batch_size=5 \
    data.val_batch_size=100 \
    trainer.test_freq=5 \
    trainer.total_episodes=1000 \
    "$@"
