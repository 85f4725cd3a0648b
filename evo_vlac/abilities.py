"""What a checkpoint was trained for, where it says so itself: ``trained_for.json`` in its folder.

    ["critic", "done", "task_description"]     kinds of questions: Query.kind, and "think" for reasoning first

A critic asked something else answers all the same, and what it says means little: that is said, once for each kind.
Published checkpoints have no such file; of them nothing is said.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

from evo_vlac import prompts
from evo_vlac.engine import Query
from evo_vlac.errors import CheckpointError
from evo_vlac.paths import from_home

FILE = "trained_for.json"
log = logging.getLogger(__name__)


class Abilities:
    """The kinds of questions that a checkpoint knows; None: it does not say."""

    def __init__(self, kinds: Iterable[str] | None = None) -> None:
        self.kinds = None if kinds is None else frozenset(kinds)
        self._told: set[str] = set()

    @classmethod
    def of(cls, folder: str | Path) -> Abilities:
        """As the folder says. Raises CheckpointError for a file that is no list of names."""
        path = from_home(folder) / FILE
        if not path.is_file():
            return cls()
        try:
            kinds = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read: {error}") from error
        if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
            raise CheckpointError(f"{path} holds {kinds!r}; needed: a list of names, as in docs/critic.md")
        return cls(kinds)

    @property
    def lacking(self) -> list[str]:
        """The kinds of questions that were asked and that it was not trained for."""
        return sorted(self._told)

    def tell(self, asked: Iterable[Query]) -> None:
        """Warns of kinds of questions that the checkpoint was not trained for, each once."""
        if self.kinds is None:
            return
        suffix = prompts.fill("think_suffix")
        for query in asked:
            wanted = {query.kind, "think"} if query.prompt.endswith(suffix) else {query.kind}
            for kind in sorted(wanted - self.kinds - self._told):
                self._told.add(kind)
                log.warning(
                    "this checkpoint was not trained for this question (%s): its answer means little; it knows: %s",
                    kind,
                    ", ".join(sorted(self.kinds)),
                )
