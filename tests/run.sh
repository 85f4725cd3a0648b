#!/usr/bin/env bash
# Sets up once, then runs the tests.
#
#   tests/run.sh                       everything, in two processes
#   tests/run.sh ARGUMENT...           the arguments go to pytest
#   tests/run.sh --only shm_bridge     the bridge alone, in an environment without torch: two minutes, set-up included
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup/environment.sh"
if [ "${1:-}" = --only ]; then
    [ "${2:-}" = shm_bridge ] || die "--only ${2:-}: allowed is shm_bridge"
    ensure_bridge_environment
    set -- tests/shm_bridge "${@:3}"
    [ $# -gt 1 ] || set -- "$@" -n 2 --dist loadfile
else
    ensure_environment critic train libero bench dev
    [ $# -gt 0 ] || set -- -n 2 --dist loadfile --no-loadscope-reorder
fi
cd "$ROOT"
exec "$VENV/bin/python" -m pytest "$@"
