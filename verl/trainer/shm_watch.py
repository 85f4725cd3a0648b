"""Notices that the run's files in /dev/shm were removed: systemd does that when their user logs out (RemoveIPC=yes).

Processes that have them open go on, so the run does. What starts later finds nothing: with the first episode that is
lost from then on, and the environment that would have to be started in its place, the run ends in order, after a
checkpoint. A sidecar that dies ends it, too, but at once (:class:`verl.trainer.sidecars.Sidecars`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType

from shm_bridge import FilesRemoved
from shm_bridge.liveness.locks import open_locks
from verl.errors import SharedMemoryRemovedError
from verl.launch import interrupt

EVERY_S = 2.0


class ShmWatch:
    """Use as a context manager, in the process that has claimed the runs' ids. On other nodes their sidecars log it.

    Args:
        note: tells the user.
        lost: episodes lost so far.
    """

    def __init__(self, run_ids: Iterable[str], note: Callable[[str], None], lost: Callable[[], int]) -> None:
        self.note, self.lost = note, lost
        self._locks = [open_locks(run_id, create=False) for run_id in run_ids]
        self._removed: FilesRemoved | None = None
        self._looked, self._lost = time.monotonic(), 0

    def look(self) -> None:
        """To be called about once a second. Never raises: it asks for the run's end."""
        now = time.monotonic()
        if now - self._looked < EVERY_S:
            return
        self._looked = now
        if self._removed is None:
            gone = [locks.run_id for locks in self._locks if not locks.is_current()]
            if gone:
                self._removed, self._lost = FilesRemoved(gone[0]), self.lost()
                self.note(f"{self._removed}. The run goes on until it loses an environment or a sidecar")
        elif self.lost() > self._lost:
            story = "An episode was lost since, and no environment can be started anew"
            interrupt.ask(SharedMemoryRemovedError(f"{self._removed}. {story}"))

    def __enter__(self) -> ShmWatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for locks in self._locks:
            locks.close()
