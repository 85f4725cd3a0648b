#!/usr/bin/env bash
# Training on two cubes under two instructions, on a laptop: the same critic for both, asked more strictly than in the
# default task, since lifting the other cube must not count. Further key=value arguments go to launch.sh.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
exec "$root/launch.sh" \
    env=robosuite_cubes \
    actor_rollout_ref.model.path="$root/models/openvla-oft-tiny-cubes" \
    critic.threshold=0.97 \
    critic.hold=5 \
    trainer.total_episodes=400 \
    "$@"
