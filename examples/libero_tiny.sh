#!/usr/bin/env bash
# One training step and one evaluation on a LIBERO suite, on a laptop: a tiny policy with random weights, the tiny critic.
# It shows that everything is wired; nothing is learned. LIBERO_ASSETS names the assets where nothing can be downloaded.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
suite="${1:-libero_spatial}"
shift || true
source "$here/../setup/environment.sh"
ensure_environment critic train libero
policy="$ROOT/runs/random-policy-$suite"
PYTHONPATH="$ROOT" "$VENV/bin/python" "$ROOT/examples/make_random_policy.py" "$policy" --unnorm-key "$suite"
exec "$ROOT/launch.sh" env=libero data.task_suite_name="$suite" actor_rollout_ref.model.path="$policy" \
    env.max_steps=16 env.effects=false env.samples=0 data.n_samples=2 data.train_batch_size=1 data.filter_accuracy=false \
    data.val_batch_size=2 actor_rollout_ref.rollout.envs_per_worker=2 trainer.total_episodes=2 trainer.videos=1 "$@"
