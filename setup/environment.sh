# Makes and checks the Python environment of this checkout; sourced by launch.sh and tests/run.sh.
#
#   ensure_environment EXTRA...     installs what is missing of the named extras of pyproject.toml into $VENV
#   ensure_bridge_environment       for shm_bridge and its tests alone: into $ROOT/.venv-bridge, where $VENV is not ready
#
# A second call with nothing changed takes milliseconds: each extra leaves a stamp that holds the hash of the files
# that say what is installed.

export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}" # waiting OpenMP threads must not burn the cores that others need

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${VENV:-$ROOT/.venv}"
TORCH_VERSION="$(sed -n 's/^torch==//p' "$ROOT/setup/constraints.txt")"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3 python; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    die "Python 3.11 or 3.12 is needed and was not found; PYTHON=/path/to/python3.11 names one"
}

pip_install() { # pip_install WHAT-FOR ARGUMENT...: its latest line on a terminal, its log on the screen when it fails
    local what="$1" log="$VENV/install.log"
    shift
    if ! with_progress "$log" "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input \
        -c "$ROOT/setup/constraints.txt" "$@"; then
        tail -n 20 "$log" >&2
        die "installing $what failed; the whole log: $log"
    fi
}

with_progress() { # with_progress LOG COMMAND...: runs it, output to LOG; on a terminal one line shows its latest
    local log="$1" pid started=$SECONDS line code=0
    shift
    "$@" >"$log" 2>&1 &
    pid=$!
    trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM # Ctrl-C does not reach what a script has in the background
    while [ -t 2 ] && kill -0 "$pid" 2>/dev/null; do
        line="$(tail -n 1 "$log" | tr -d '\r' | cut -c1-$((${COLUMNS:-80} - 14)))"
        printf '\r\033[K  %4d s  %s' $((SECONDS - started)) "$line" >&2
        sleep 0.5
    done
    wait "$pid" || code=$?
    trap - INT TERM
    [ ! -t 2 ] || printf '\r\033[K' >&2
    return $code
}

install_torch() {
    "$VENV/bin/python" -c 'import torch' 2>/dev/null && return
    if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU; then
        say "  torch $TORCH_VERSION, the CUDA build (several GB, once) ..."
        pip_install torch "torch==$TORCH_VERSION"
    elif with_progress "$VENV/install.log" "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input \
        "torch==$TORCH_VERSION+cpu" -c "$ROOT/setup/constraints.txt"; then
        say "  torch $TORCH_VERSION, the CPU build: done"
    else
        say "  torch $TORCH_VERSION: no CPU build on the configured package indexes, so the ordinary one (several GB on"
        say "  Linux, once). To get the small one, set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels first ..."
        pip_install torch "torch==$TORCH_VERSION"
    fi
}

heal_torchvision() { # see setup/torchvision_on_cpu.py
    local site
    "$VENV/bin/python" -c 'import torchvision' 2>/dev/null && return
    "$VENV/bin/python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torchvision") is None)' || return 0
    site="$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
    cp "$ROOT/setup/torchvision_on_cpu.py" "$site/_torchvision_on_cpu.py"
    echo "import _torchvision_on_cpu" >"$site/_torchvision_on_cpu.pth"
    "$VENV/bin/python" -c 'import torchvision' || die "torchvision cannot be imported beside this torch"
}

check_rendering() { # the simulator draws without a screen through EGL
    [ "$(uname)" = Linux ] || return 0
    export MUJOCO_GL="${MUJOCO_GL:-egl}" PYOPENGL_PLATFORM="${PYOPENGL_PLATFORM:-${MUJOCO_GL:-egl}}"
    local library missing=""
    for library in libEGL.so.1 libGL.so.1 libglib-2.0.so.0; do
        "$VENV/bin/python" -c "import ctypes; ctypes.CDLL('$library')" 2>/dev/null || missing="$missing $library"
    done
    [ -z "$missing" ] || die "rendering needs$missing; install:
    sudo apt-get install -y libegl1 libgl1 libgl1-mesa-dri libgles2 libglib2.0-0"
}

size_of_setup() { # what is still to come
    if "$VENV/bin/python" -c 'import torch, ray' 2>/dev/null; then
        echo "what is missing; torch and Ray are there already"
    else
        echo "once; torch, ms-swift, Ray and the simulator are about 3.5 GB, minutes"
    fi
}

ensure_environment() {
    local hash extra missing=()
    hash="$(cat "$ROOT"{,/shm_bridge}/pyproject.toml "$ROOT"/setup/* "$ROOT"/shm_bridge/native/*.p* | cksum)" # pip builds the native backend
    for extra in "$@"; do
        [ "$(cat "$VENV/.ready-$extra" 2>/dev/null)" = "$hash" ] || missing+=("$extra")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        mkdir -p "$(dirname "$VENV")"
        exec 9>"$VENV.lock"
        flock 9 2>/dev/null || true # a second start waits for the first one's set-up
        local list
        list="$(IFS=,; echo "${missing[*]}")"
        say "Setting up $VENV for: $list ($(size_of_setup))"
        [ -x "$VENV/bin/python" ] || "$(find_python)" -m venv "$VENV" || die "could not create $VENV"
        install_torch
        say "  the packages of $list, as pinned in setup/constraints.txt ..."
        pip_install "$list" -e "$ROOT/shm_bridge" -e "$ROOT[$list]" # ours first: no other package of that name slips in
        heal_torchvision
        for extra in "${missing[@]}"; do echo "$hash" >"$VENV/.ready-$extra"; done
        exec 9>&-
        say "  ready"
    fi
    check_rendering
}

ensure_bridge_environment() {
    local hash
    [ -e "$VENV/.ready-dev" ] && return
    VENV="$ROOT/.venv-bridge"
    hash="$(cat "$ROOT/shm_bridge/pyproject.toml" "$ROOT"/setup/* "$ROOT"/shm_bridge/native/*.p* | cksum)"
    [ "$(cat "$VENV/.ready" 2>/dev/null)" != "$hash" ] || return 0
    say "Setting up $VENV for shm_bridge (once, seconds)"
    [ -x "$VENV/bin/python" ] || "$(find_python)" -m venv "$VENV" || die "could not create $VENV"
    pip_install shm_bridge -e "$ROOT/shm_bridge[dev]"
    echo "$hash" >"$VENV/.ready"
}
