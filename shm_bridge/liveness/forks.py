"""What a forked child inherits but must not use: it has its parent's mappings, and none of its locks."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Watched(Protocol):
    """Is told, in the child, that it is the parent's."""

    def _forked(self) -> None: ...


_watched: weakref.WeakSet[Watched] = weakref.WeakSet()
watch, forget = _watched.add, _watched.discard


def _tell() -> None:
    for thing in list(_watched):
        thing._forked()


os.register_at_fork(after_in_child=_tell)
