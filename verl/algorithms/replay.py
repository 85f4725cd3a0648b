"""Offline replay of what the critic called done (VLAC's paper, real-world RL): imitated beside the policy gradient.

Only VLAC's verdict lets an episode in; the simulator's success is not looked at.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from verl.episode import Decisions, Episode
from verl.pictures import Pictures
from verl.samples import REPLAYED, Samples, token_mask

_ARRAYS = ("images", "proprio", "tokens", "log_probs")


@dataclass(frozen=True, slots=True)
class Kept:
    """What of an episode is replayed: its decisions, without the value head's."""

    episode: int
    steps: int
    instruction: str
    decisions: Decisions


class ReplayBuffer:
    """The latest ``capacity`` done episodes.

    Args:
        capacity: episodes; 0 keeps none.
        chunk, action_dim: of the policy.
    """

    def __init__(self, capacity: int, chunk: int, action_dim: int) -> None:
        self.chunk, self.action_dim = chunk, action_dim
        self.episodes: deque[Kept] = deque(maxlen=max(capacity, 1))
        self.capacity = capacity

    def add(self, episodes: list[Episode]) -> None:
        """Takes in those that are complete, in their order."""
        if self.capacity:
            self.episodes.extend(
                Kept(e.request.episode, e.end.steps, e.end.instruction, replace(e.decisions, values=None))
                for e in episodes
                if e.end.complete and e.end.steps
            )

    def sample(self, count: int, rng: np.random.Generator) -> Samples | None:
        """``count`` chunks drawn with replacement, to be imitated; None while the buffer is empty."""
        if not self.episodes or count <= 0:
            return None
        kept = list(self.episodes)
        sizes = np.array([len(e.decisions) for e in kept])
        flat = rng.integers(sizes.sum(), size=count)
        owner = np.searchsorted(np.cumsum(sizes), flat, side="right")
        place = flat - (np.cumsum(sizes) - sizes)[owner]
        rows = [(kept[o], p) for o, p in zip(owner, place)]
        masks = [token_mask(e.steps, len(e.decisions), self.chunk, self.action_dim)[p] for e, p in rows]
        return Samples(
            images=Pictures([e.decisions.images[p] for e, p in rows], kept[0].decisions.images.shape[1:]),
            proprio=np.stack([e.decisions.proprio[p] for e, p in rows]),
            instructions=[e.instruction for e, _ in rows],
            tokens=np.stack([e.decisions.tokens[p] for e, p in rows]),
            old_log_probs=np.stack([e.decisions.log_probs[p] for e, p in rows]),
            mask=np.stack(masks),
            advantages=np.zeros((count, self.chunk * self.action_dim), np.float32),
            returns=np.zeros(count, np.float32),
            imitation=np.ones(count, np.float32),
            trajectory=np.full(count, REPLAYED, np.int64),
        )

    def contents(self) -> list[Kept]:
        """The episodes as of now, for a later :meth:`state`."""
        return list(self.episodes)

    def state(self, kept: list[Kept] | None = None) -> dict[str, np.ndarray]:
        """``kept``, or what is in it now, as arrays without objects for ``np.savez``; inputs are not copied singly."""
        kept = self.contents() if kept is None else kept
        state = {
            "episode": np.array([e.episode for e in kept], np.int64),
            "steps": np.array([e.steps for e in kept], np.int64),
            "instruction": np.array([e.instruction for e in kept], np.str_),
            "chunks": np.array([len(e.decisions) for e in kept], np.int64),
        }
        if kept:
            state |= {name: np.concatenate([getattr(e.decisions, name) for e in kept]) for name in _ARRAYS}
        return state

    def restore(self, state: dict[str, Any]) -> None:
        """The counterpart of :meth:`state`."""
        self.episodes.clear()
        if not self.capacity or not len(state["episode"]):
            return
        ends = np.cumsum(state["chunks"])[:-1]
        parts = {name: np.split(state[name], ends) for name in _ARRAYS}
        for i, number in enumerate(state["episode"]):
            decisions = Decisions(**{name: parts[name][i] for name in _ARRAYS})
            self.episodes.append(Kept(int(number), int(state["steps"][i]), str(state["instruction"][i]), decisions))
