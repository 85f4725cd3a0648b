"""What environments raise: the first traceback of each kind is told, and one that repeats ends the run.

An error of the environment's own code comes again with every episode: nobody should learn of it from a count of lost
episodes. One that comes now and then costs its episodes alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from verl.episode import EpisodeLost
from verl.errors import RunFailedError

logger = logging.getLogger(__name__)
REPEATS = 3  # times the same error, with no episode finished in between


class EnvErrors:
    """``note`` puts a text on the screen; the log gets it, too."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note
        self._told: set[str] = set()
        self._in_a_row: dict[str, int] = {}

    def finished(self) -> None:
        """An episode has ended well: what was raised before is no rule."""
        self._in_a_row.clear()

    def lost(self, episode: EpisodeLost) -> None:
        """Raises RunFailedError when the same error has repeated."""
        if not episode.traceback:
            return
        where = "\n".join(line for line in episode.traceback.splitlines() if line.startswith("  File "))
        if where not in self._told:
            self._told.add(where)
            text = f"an environment raised, in episode {episode.request.episode}:\n{episode.traceback.rstrip()}"
            logger.error("%s", text)
            self.note(text)
        count = self._in_a_row[where] = self._in_a_row.get(where, 0) + 1
        if count >= REPEATS:
            raise RunFailedError(
                f"the same error was raised {count} times by environments, and no episode finished in between: "
                f"{episode.traceback.rstrip().splitlines()[-1]}"
            )
