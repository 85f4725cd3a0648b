"""The service's process: ``python -m sidecar.service_main``, which only the supervisor starts.

Order matters: everything cheap is checked before the model is loaded, the run id is taken before too (so that a second
sidecar ends in a moment, not after a minute of loading), and ready is only said after an answered probe.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NoReturn

import shm_bridge
from sidecar import logs
from sidecar.config import Config
from sidecar.engines import registry
from sidecar.errors import RunInUseError, SharedMemoryError, SidecarError
from sidecar.last_judged import LastJudged
from sidecar.lifeline import Lifeline, die_with
from sidecar.metrics import Metrics
from sidecar.probe import check_answers
from sidecar.reference import load_reference
from sidecar.resources import limit_resources
from sidecar.service import Service
from sidecar.web import Page

logger = logging.getLogger(__name__)
_WAIT_S = 0.5
_LEAVE_S = 3.0


def main(arguments: Sequence[str]) -> NoReturn:
    """``arguments``: the parent's pid, the lifeline's descriptor, the run id (for who looks at the list of processes).

    Standard input: the configuration that the parent has read and checked, a pickled :class:`Config`.
    """
    parent, descriptor, _ = arguments
    die_with(int(parent))
    lifeline = Lifeline(int(descriptor))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which then sends SIGTERM
    try:
        config: Config = pickle.load(sys.stdin.buffer)
        logs.set_up(config.log, "service")
        code = run(config, lifeline)
    except SidecarError as error:
        lifeline.say("failed", error=str(error), code=error.exit_code)
        code = error.exit_code
    except Exception as error:
        logger.exception("the service failed")
        lifeline.say("failed", error=f"{type(error).__name__}: {error}", code=1)
        code = 1
    # A wedged engine thread cannot be joined, and an interpreter that tries to end would wait for it; taking torch and
    # transformers apart costs seconds, too, for nothing.
    logging.shutdown()
    os._exit(code)


def run(config: Config, lifeline: Lifeline) -> int:
    """Loads, probes, serves; 0 after SIGTERM and a drained queue."""
    started = time.monotonic()
    limit_resources(config)
    registry.check(config)
    references = load_reference(config.reference)
    with ExitStack() as stack:
        server = stack.enter_context(_take_run(config))
        stopper = _Stopper()
        metrics = Metrics(config.engine)
        state: dict[str, Any] = {"run_id": config.run_id, "ready": False, "engine": config.engine}
        judged = None if config.metrics_port is None else LastJudged(config.camera)
        if config.metrics_port is not None and judged is not None:
            numbers = metrics.registry, lambda: state | metrics.last()
            page = Page(config.metrics_host, config.metrics_port, *numbers, judged)
            stack.callback(page.close)
            state["metrics"] = page.address
        _wait_for_rollout(config, server, lifeline)
        engine = registry.load(config)
        stack.callback(engine.close)
        check_answers(engine)
        service = Service(config, server, engine, metrics, references, lifeline.beat, judged)
        stopper.service = service
        if stopper.asked:
            return 0
        state["ready"] = True
        seconds, epoch = time.monotonic() - started, server.epoch
        logger.info("ready after %.1f s: engine %s, run %s, epoch %d", seconds, engine.name, config.run_id, epoch)
        lifeline.say("ready", epoch=epoch)
        service.run()
    logger.info("stopped")
    return 0


class _Stopper:
    """SIGTERM: ends at once while loading, drains once there is a service."""

    def __init__(self) -> None:
        self.asked = False
        self.service: Service | None = None
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.asked = True
        if self.service is None:
            timer = threading.Timer(_LEAVE_S, os._exit, (0,))  # in case loading cannot be interrupted
            timer.daemon = True
            timer.start()
            raise SystemExit(0)
        self.service.stop()


def _take_run(config: Config) -> shm_bridge.Server:
    try:
        return shm_bridge.Server.create(config.run_id, max_lanes=config.max_lanes)
    except shm_bridge.RunInUse as error:
        raise RunInUseError(f"run_id={config.run_id}: {error}") from None
    except shm_bridge.BridgeError as error:
        raise SharedMemoryError(f"run_id={config.run_id}: {error}") from None


def _wait_for_rollout(config: Config, server: shm_bridge.Server, lifeline: Lifeline) -> None:
    """A service that is started anew while the trainer updates must not take the GPU from it: it waits. One that is to
    load when asked does, too, until the trainer asks for the first time."""
    waits_for: set[shm_bridge.Phase | None] = {None} if config.memory.load == "asked" else set()
    if config.memory.on_update != "keep" and registry.uses_cuda(config):
        waits_for.add(shm_bridge.Phase.UPDATE)
    while server.requested_phase in waits_for:
        lifeline.say("waiting")
        server.wait(_WAIT_S)
        time.sleep(_WAIT_S if server.phase_pending else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
