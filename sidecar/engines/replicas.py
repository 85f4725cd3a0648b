"""Several copies of the model, one a device, as the one engine of a service.

Each is a :class:`~sidecar.engines.replica.Replica`. The service takes a batch for each as it becomes free, see
:mod:`sidecar.crew`; here is what concerns all of them: the start, the phases, the end.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from evo_vlac.engine import Answer, Query
from sidecar.config import Config
from sidecar.engines.replica import Replica, is_permanent
from sidecar.errors import ReplicaLostError, SidecarError

logger = logging.getLogger(__name__)


class ReplicaEngine:
    """A :class:`~sidecar.engines.base.SidecarEngine` of the engine that ``config`` names, on each of ``devices``.

    Raises what a replica says that cannot be helped by another start, or the first reason when none could start. One
    that could not start while others did is left to :meth:`revive`.
    """

    remote = False

    def __init__(self, config: Config, devices: Sequence[str]) -> None:
        self.config = config
        self.replicas = [Replica(index, device, config) for index, device in enumerate(devices)]
        self._lock = threading.Lock()
        self._away = False  # between offload and restore: no replica may load
        self._closed = False
        try:
            self._start_all()
        except BaseException:
            self.close()
            raise
        first = next(one for one in self.replicas if one.up)
        self.name, self.mixes, self.slots = first.name, first.mixes, len(self.replicas)

    def _start_all(self) -> None:
        for one in self.replicas:
            one.start()
        deadline, failures = time.monotonic() + self.config.start_s, []
        for one in self.replicas:
            try:
                one.wait_loaded(max(0.0, deadline - time.monotonic()))
            except SidecarError as error:
                failures.append(error)
                logger.error("%s", error)
        fatal = next((error for error in failures if is_permanent(error)), None)
        if fatal is not None or len(failures) == len(self.replicas):
            raise fatal or failures[0]

    def revive(self, index: int) -> bool:
        """Starts a lost replica again and waits until it has loaded; False where it may not, or could not, with a line
        in the log."""
        one = self.replicas[index]
        with self._lock:
            if self._away or self._closed:
                return False
            one.start()
        try:
            one.wait_loaded(self.config.start_s)
        except SidecarError as error:
            logger.error("%s", error)
            return False
        with self._lock:
            if self._away or self._closed:  # it was loading while the trainer took its card
                one.up = False
                one.kill()
        return one.up

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Of the first replica that is up: for a probe. The service asks the replicas themselves."""
        for one in self.replicas:
            if one.up:
                return one.answer(queries)
        raise ReplicaLostError("no replica is left")

    # -- phases and numbers ------------------------------------------------------------------------------------------

    def offload(self) -> None:
        """All leave their cards; one that is loading is ended, and starts again after :meth:`restore`."""
        with self._lock:
            self._away = True
            for one in self.replicas:
                if not one.up:
                    one.kill()
        self._all(Replica.offload)

    def restore(self) -> None:
        self._all(Replica.restore)
        with self._lock:
            self._away = False

    def _all(self, what: Callable[[Replica], None]) -> None:
        """Of those that are up, at the same time. Raises ReplicaLostError when none is left after it, MemoryError when
        one had no room: those that had one do it again without harm."""
        asked = [one for one in self.replicas if one.up]
        failures = []
        with ThreadPoolExecutor(max(1, len(asked)), thread_name_prefix="phase") as pool:
            for call in [pool.submit(what, one) for one in asked]:
                if (error := call.exception()) is not None:
                    failures.append(error)
        for error in failures:
            if not isinstance(error, ReplicaLostError):
                raise error
            logger.error("%s", error)
        if not any(one.up for one in self.replicas):
            raise ReplicaLostError("no replica is left")

    def memory_bytes(self) -> Mapping[str, int]:
        """The sums over all, by name."""
        held: Counter[str] = Counter()
        for one in self.replicas:
            held.update(one.memory_bytes())
        return held

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for one in self.replicas:
            if not one.up:
                one.kill()
        for one in self.replicas:
            with suppress(OSError):
                one.close()
