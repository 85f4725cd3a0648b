"""A replica's process: ``python -m sidecar.engines.replica_main``, which only :mod:`sidecar.engines.replica` starts.

Loads the engine that the configuration names, answers a probe, then call for call until the pipe ends.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from evo_vlac.engine import Image
from evo_vlac.halving import empty_cache, first_line, is_out_of_memory
from sidecar import logs
from sidecar.config import Config
from sidecar.engines import registry
from sidecar.engines.base import SidecarEngine
from sidecar.engines.parcel import Arena, unpack
from sidecar.engines.replica import ANSWER, OFFLOAD, Outcome
from sidecar.errors import SidecarError
from sidecar.lifeline import die_with
from sidecar.probe import check_answers
from sidecar.reference import load_reference
from sidecar.resources import limit_resources

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> NoReturn:
    """``arguments``: the parent's pid, the descriptors of pipe and arena, the replica's number (for the log).

    Standard input: the configuration, a pickled :class:`Config`.
    """
    parent, pipe, arena, number = arguments
    die_with(int(parent))
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the service decides when it ends
        signal.signal(one, signal.SIG_IGN)
    config: Config = pickle.load(sys.stdin.buffer)
    logs.set_up(replace(config.log, file=None), f"replica {number}")
    with Connection(int(pipe)) as connection:
        serve(config, connection, Arena(int(arena)))
    logging.shutdown()
    os._exit(0)  # taking torch apart costs seconds, for nothing


def serve(config: Config, pipe: Connection, arena: Arena) -> None:
    """Until the other end of ``pipe`` is closed."""
    try:
        limit_resources(config)
        reference = load_reference(config.reference).pictures
        engine = registry.load(config)
        check_answers(engine)
    except Exception as error:
        logger.debug("cannot start", exc_info=True)
        code = error.exit_code if isinstance(error, SidecarError) else 1
        text = str(error) if isinstance(error, SidecarError) else f"{type(error).__name__}: {first_line(error)}"
        pipe.send_bytes(pickle.dumps({"error": text, "exit_code": code}))
        return
    said = {"name": engine.name, "mixes": engine.mixes, "memory": dict(engine.memory_bytes())}
    pipe.send_bytes(pickle.dumps(said))
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:
            return
        outcome, result = _do(message, engine, arena, reference)
        pipe.send_bytes(pickle.dumps((outcome, result, dict(engine.memory_bytes()))))


def _do(message: bytes, engine: SidecarEngine, arena: Arena, reference: Sequence[Image]) -> tuple[Outcome, Any]:
    what, body = message[:1], message[1:]
    try:
        if what == ANSWER:
            return Outcome.OK, engine.answer(unpack(body, arena, reference))
        engine.offload() if what == OFFLOAD else engine.restore()
        return Outcome.OK, None
    except Exception as error:  # the service's guard deals with whatever a model raises
        text = f"{type(error).__name__}: {first_line(error)}"
        if is_out_of_memory(error):
            empty_cache()
            return Outcome.OUT_OF_MEMORY, text
        logger.debug("a batch failed", exc_info=True)
        return Outcome.ERROR, text


if __name__ == "__main__":
    main(sys.argv[1:])
