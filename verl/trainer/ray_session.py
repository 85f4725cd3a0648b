"""A Ray of our own that leaves nothing behind: no process, no session folder; or a cluster's, left as it is."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
from ray._common.utils import get_default_ray_temp_dir

from verl.config import Config
from verl.launch import interrupt, remains, words
from verl.launch.reaper import Reaper
from verl.trainer.cluster import start_ray
from verl.trainer.ray_place import shorten_temp_folder

logger = logging.getLogger(__name__)
SHUTDOWN_S = 2.0  # for what Ray has not ended itself


@contextmanager
def ray_session(config: Config, run_ids: list[str], logs: Path) -> Iterator[Path | None]:
    """Starts or joins Ray; ends ours, and removes its session folder. A run that failed gets Ray's logs first.

    Yields the session folder of ours.

    Args:
        run_ids: whose shared memory is cleaned should this process be killed.
        logs: the run's folder for logs.

    Raises:
        ConfigError: see :func:`~verl.trainer.cluster.start_ray`.
    """
    if config.trainer.ray_address is not None:
        start_ray(config)
        try:
            yield None
        finally:
            ray.shutdown()
        return
    shorten_temp_folder()
    mark = secrets.token_hex(8)
    reaper = Reaper(mark, run_ids, logs / "driver.log")
    os.environ[remains.MARK] = mark
    session: Path | None = None
    keep: Path | None = None
    earlier = _sessions()
    try:
        try:
            session = start_ray(config)
        except BaseException:
            session = max(_sessions() - earlier, default=None)
            raise
        assert session is not None
        interrupt.install()  # Ray's C++ code has taken SIGTERM over: it would end this process on the spot
        reaper.tell_session(str(session))
        words.say("ray", session=str(session))
        yield session
    except Exception:
        keep = logs / "ray"
        raise
    finally:
        ray.shutdown()
        remains.end(remains.marked(mark, session), SHUTDOWN_S)
        if session is not None and not remains.remove_session(session, os.getpid(), keep):
            logger.warning("Ray's session folder %s could not be removed", session)
        reaper.dismiss()


def _sessions() -> set[Path]:
    """The session folders that this process has begun: their names end with its number."""
    return set(Path(get_default_ray_temp_dir()).glob(f"session_*_{os.getpid()}"))
