"""The screen as something that may go away: ``launch.sh | head``, a closed terminal. The run goes on, its log stays."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, TextIO

logger = logging.getLogger(__name__)


class Screen:
    """A text stream that stops writing, and says so once in the log, when nobody reads it any more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._leave(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._leave(error)

    def _leave(self, error: OSError) -> None:
        """What comes from now on goes nowhere, also what is still buffered and what C code writes."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        logger.warning("nobody reads the screen any more (%s): the run goes on, what it says is in this log", error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def outlive_the_screen() -> None:
    """From now on neither standard stream raises when its reader is gone."""
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is not None:  # None: the shell's >&-
            setattr(sys, name, Screen(stream))
