#!/usr/bin/env bash
# Starts the sidecar (VLAC) and the training together, and stops both. The first run sets everything up: ./launch.sh --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup/environment.sh"

usage() {
    cat <<'HELP'
usage: ./launch.sh [--config FILE] [key=value ...]
       ./launch.sh preflight [--quick] [--plan] [--config FILE] [key=value ...]

Starts the sidecar (VLAC) and the training together, and stops both. Without arguments a tiny policy learns to look for
the cube that it is to lift, on a laptop without a GPU. The first run sets up .venv beside this script (minutes, 3.5 GB).

  preflight                               will that run work here? memory, devices, checkpoints, one try of each thing;
                                          --quick loads nothing, --plan reckons the memory for any machine
  env=robosuite_lift|robosuite_cubes|robosuite_tasks|robosuite|libero
                                          the simulator, its tasks, and how to train on them (verl/trainer/config/env);
                                          the first, where neither env nor --config is given
  hardware=laptop|h100_1|h100_8|h100_2x8  a preset for a machine (verl/trainer/config/hardware)
  --config FILE                           a YAML file with any part of the configuration
  key=value                               any key of verl/trainer/config/ppo_trainer.yaml; the last word
  -h, --help                              this text

environment variables:
  SIDECAR_PYTHON=/path/to/python          the interpreter of the sidecar's own environment (else .venv's)
  VENV=/path                              where the environment is, or is made (else .venv beside this script)
  PYTHON=/path/to/python3.11              what makes it
  LIBERO_ASSETS=/path                     LIBERO's assets

examples:
  ./launch.sh trainer.val_only=true       evaluate the policy: the simulator decides
  ./launch.sh trainer.run_id=mine trainer.save_freq=5
  ./launch.sh trainer.run_id=mine trainer.resume_mode=auto      go on with it
  ./launch.sh env=libero data.task_suite_name=libero_spatial hardware=h100_8 actor_rollout_ref.model.path=FOLDER \
      critic.sidecar.config.model=FOLDER
HELP
}

for argument in "$@"; do
    case "$argument" in -h | --help) usage; exit 0 ;; esac
done

extras=(critic train)
case " $* " in *" env=libero "*) extras+=(libero) ;; esac
ensure_environment "${extras[@]}"
# not in $ROOT: relative paths are meant from the caller's folder. A folder of our packages' names there is not imported.
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1
module=launch
if [ "${1:-}" = preflight ]; then
    module=preflight
    shift
fi
own=env=robosuite_lift
for argument in "$@"; do
    case "$argument" in env=* | --config | --config=*) own= ;; esac
done
exec "$VENV/bin/python" -m "verl.$module" "$@" ${own:+"$own"}
