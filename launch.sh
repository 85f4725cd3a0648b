#!/usr/bin/env bash
# Starts the sidecar (VLAC) and the training together, and stops both. The first run sets everything up.
#
#   ./launch.sh                          the default: a tiny policy learns to lift a cube, on a laptop without a GPU
#   ./launch.sh --config FILE key=value  a configuration of your own; any key of verl/trainer/config/ppo_trainer.yaml
#   SIDECAR_PYTHON=/path/to/python       the interpreter of the sidecar's own environment (else this one's)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup/environment.sh"

extras=(critic train)
case " $* " in *" env=libero "*) extras+=(libero) ;; esac
ensure_environment "${extras[@]}"
# not in $ROOT: relative paths are meant from the caller's folder. A folder of our packages' names there is not imported.
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1
exec "$VENV/bin/python" -m verl.launch "$@"
