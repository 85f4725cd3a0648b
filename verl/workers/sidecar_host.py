"""How a sidecar is started: with which interpreter and settings, and by whom.

``SidecarHost`` is one a node: a Ray actor that starts that node's sidecar, watches it, and passes the phases on to it.
The sidecar is a process of its own, in a Python environment of its own; it supervises its service itself. What is
watched here is the supervisor: should even that die, it is started again under the same run id, a few times. Should
this actor die or stop, another takes its place: it finds written down which sidecar is there, and ends it first, since
that one, perhaps stopped, too, holds the run's lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from evo_vlac.paths import from_home
from shm_bridge import BridgeError, Controller, Phase, PhaseTimeout
from verl.critic_config import CriticConfig
from verl.errors import ConfigError, SidecarLostError
from verl.workers.work import Report, Work

logger = logging.getLogger(__name__)
PR_SET_PDEATHSIG = 1
ORPHAN_S = 2.0  # a service whose supervisor was killed has another parent for a moment, until it dies too
DRAIN_S = 10.0  # for the sidecar of a host that died: it was told to end by the kernel


def _die_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def sidecar_python(configured: str | None) -> str:
    """The interpreter of the sidecar's environment: ``critic.sidecar.python``, else $SIDECAR_PYTHON, else this one."""
    return configured or os.environ.get("SIDECAR_PYTHON") or sys.executable


def sidecar_settings(critic: CriticConfig, run_id: str, gpus: int | None) -> dict[str, Any]:
    """What the sidecar is told: ``critic.sidecar.config``, with what the training says in keys of its own.

    Its keys are the sidecar's (docs/sidecar.md), which checks them: see :func:`verl.trainer.preflight.check_sidecar`.

    Args:
        gpus: of a node that the run has (``trainer.n_gpus_per_node``); None: all that are there.

    Raises:
        ConfigError: a critic a GPU without GPUs.
    """
    said = {"run_id": run_id, "threshold": critic.threshold}
    if critic.sidecar.per == "gpu":
        if gpus == 0 and "devices" not in critic.sidecar.config:
            raise ConfigError("critic.sidecar.per=gpu: trainer.n_gpus_per_node=0; allowed is node")
        said["devices"] = "all" if gpus is None else ",".join(f"cuda:{i}" for i in range(gpus))
    return {**said, **critic.sidecar.config}


def write_sidecar_settings(critic: CriticConfig, run_id: str, path: Path, gpus: int | None) -> Path:
    """The file for ``python -m sidecar --config``. Paths become absolute: Ray's actors work in another folder."""
    settings = sidecar_settings(critic, run_id, gpus)
    for key in ("model", "adapter"):
        settings |= _absolute(settings, key)
    if isinstance(reference := settings.get("reference"), dict):
        settings["reference"] = reference | _absolute(reference, "folder")
    path.write_text(yaml.safe_dump(settings))
    return path


def _absolute(tree: dict[str, Any], key: str) -> dict[str, str]:
    """The key's path made absolute, where it is one that exists here."""
    value = tree.get(key)
    if isinstance(value, str) and value and from_home(value).exists():
        return {key: str(from_home(value).absolute())}
    return {}


class _ForeignSidecarError(Exception):
    """Another's sidecar serves the run id."""


class SidecarHost:
    """Starts ``python -m sidecar`` and stands for it. Raises :class:`SidecarLostError` with the last log lines."""

    def __init__(
        self,
        run_id: str,
        config_file: str,
        log_file: str,
        python: str | None,
        max_restarts: int,
        cards: Sequence[str] | None = None,
    ) -> None:
        """``cards``: the GPUs that the sidecar sees, as CUDA_VISIBLE_DEVICES names them; None: those seen here."""
        self.run_id, self.config_file, self.log_file = run_id, config_file, log_file
        self.python = sidecar_python(python)
        self.cards = cards
        self.max_restarts, self.restarts = max_restarts, 0
        self.process: subprocess.Popen[bytes] | None = None
        self.controller: Controller | None = None
        self.record = Path(log_file).with_suffix(".process")  # pid and start time of the sidecar that runs
        self.work = Work()

    def report(self) -> Report:
        """Shows that the process runs, whatever it is at. By any thread at any time."""
        return self.work.report()

    def start(self, load_when_asked: bool = False) -> None:
        """Starts the process; returns at once, or when a sidecar that another host left has ended.

        Args:
            load_when_asked: it takes no memory of a device before :meth:`load`.
        """
        late = ["memory.load=asked"] if load_when_asked else []
        Path(self.log_file).parent.mkdir(parents=True, exist_ok=True)
        self._end_predecessor()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        if self.cards is not None:  # this actor has none of Ray, which hides none from it
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.cards)
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-m", "sidecar", "--config", self.config_file, *late],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                preexec_fn=_die_with_parent,
            )
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended at once: check() tells why
            self._write_record(psutil.Process(self.process.pid))

    def _write_record(self, process: psutil.Process) -> None:
        content = {"host": socket.gethostname(), "pid": process.pid, "started": process.create_time()}
        self.record.write_text(json.dumps(content))

    def _end_predecessor(self) -> None:
        """SIGKILL, with all it started, when it does not end by itself or cannot because it is stopped."""
        try:
            content = json.loads(self.record.read_text())
            process = psutil.Process(content["pid"])
            if content["host"] != socket.gethostname() or process.create_time() != content["started"]:
                return
            everything = [*process.children(recursive=True), process]  # those of a dead supervisor die with it
            stopped = process.status() == psutil.STATUS_STOPPED
        except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
            return
        logger.warning("ending the sidecar that another host left, process %d", process.pid)
        _, alive = psutil.wait_procs(everything, timeout=0 if stopped else DRAIN_S)
        for one in reversed(alive):  # the supervisor first, or it would start another
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(alive, timeout=DRAIN_S)

    def wait_ready(self, timeout: float, ask: bool = False) -> None:
        """Until a probe query has been answered, by the sidecar that was started here if one was. ``ask``: it was
        started to load when ROLLOUT is asked for, which is done here."""
        deadline = time.monotonic() + timeout
        while True:
            self._check_running()
            try:
                if ask:
                    with contextlib.suppress(PhaseTimeout):  # it answers when it has loaded; the request stays
                        self._connection().request_phase(Phase.ROLLOUT, timeout=0)
                    ask = False
                self._connection().wait_ready(timeout=min(1.0, max(0.05, deadline - time.monotonic())))
                self._check_own(self._connection())
                return
            except (BridgeError, _ForeignSidecarError) as error:
                self._disconnect()
                if time.monotonic() > deadline:
                    raise SidecarLostError(
                        f"the sidecar was not ready within {timeout:.0f} s ({error}); {self._where_to_look()}"
                    ) from None
                time.sleep(0.1)

    def load(self, timeout: float) -> None:
        """Has a sidecar load that was started to wait for this; until it is ready. Raises as :meth:`wait_ready`."""
        self.wait_ready(timeout, ask=True)

    def _where_to_look(self) -> str:
        if self.process is None:
            return (
                f"critic.sidecar.start=false: one must be running under the run id {self.run_id} on this machine; "
                "python -m shm_bridge.inspect list shows which are"
            )
        return f"its log: {self.log_file}\n{self.log_tail()}"

    def _connection(self) -> Controller:
        if self.controller is None:
            self.controller = Controller.connect(self.run_id, timeout=1.0)
        return self.controller

    def _own_connection(self) -> Controller:
        """Raises SidecarLostError when another's sidecar serves the run. None may, while ours is being restarted."""
        deadline = time.monotonic() + ORPHAN_S
        while True:
            connection = self._connection()
            try:
                self._check_own(connection)
                return connection
            except _ForeignSidecarError as error:
                self._disconnect()
                if time.monotonic() > deadline:
                    raise SidecarLostError(str(error)) from None
                time.sleep(0.05)

    def _check_own(self, connection: Controller) -> None:
        """A sidecar is known by its process, not by the run id that it was told: ours descends from what we started."""
        pid = connection.status()["pid"]
        if self.process is None or not pid:  # somebody else's on purpose; or none
            return
        try:
            one = psutil.Process(pid)
            ours = self.process.pid in (pid, *(parent.pid for parent in one.parents()))
            command = " ".join(one.cmdline())
        except psutil.NoSuchProcess:
            return
        if not ours and connection.status()["pid"] == pid:
            raise _ForeignSidecarError(
                f"run_id={self.run_id}: process {pid} ({command}) serves it, which is not the sidecar that was started "
                f"here (process {self.process.pid})"
            )

    def _disconnect(self) -> None:
        if self.controller is not None:
            self.controller.close()
            self.controller = None

    def _check_running(self) -> None:
        if self.process is not None and (code := self.process.poll()) is not None:
            raise SidecarLostError(
                f"the sidecar ended with exit code {code}; its log: {self.log_file}\n{self.log_tail()}"
            )

    def check(self) -> int:
        """Starts a dead supervisor again; the number of restarts so far."""
        if self.process is None or self.process.poll() is None:
            return self.restarts
        if self.restarts >= self.max_restarts:
            self._check_running()
        self.restarts += 1
        logger.warning("the sidecar died (exit code %s): start %d", self.process.returncode, self.restarts + 1)
        self.start()
        return self.restarts

    def phase(self, name: str, timeout: float) -> None:
        """``ROLLOUT`` or ``UPDATE``; returns when the sidecar has acknowledged it, and can answer in ROLLOUT.

        Raises:
            BridgeError: not within ``timeout`` seconds, or the sidecar died: to be asked anew after :meth:`check`.
        """
        deadline = time.monotonic() + timeout
        try:
            self._own_connection().request_phase(Phase[name], timeout=timeout)
            if name == Phase.ROLLOUT.name:
                self._own_connection().wait_ready(max(0.0, deadline - time.monotonic()))
        except BridgeError:
            self._disconnect()
            raise

    def status(self) -> dict[str, Any]:
        """What the control segment says, as a mapping."""
        return dict(self._own_connection().status())

    def log_tail(self, lines: int = 12) -> str:
        """The log's last lines."""
        try:
            return "\n".join(Path(self.log_file).read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def stop(self, timeout: float = 10.0) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        self._disconnect()
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
