#!/usr/bin/env bash
# Sets up once, then runs the tests; arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup/environment.sh"
ensure_environment critic train libero bench dev
cd "$ROOT"
exec "$VENV/bin/python" -m pytest "$@"
