"""Offline replay of what the critic called done (VLAC's paper, real-world RL): imitated beside the policy gradient.

Only VLAC's verdict lets an episode in; the simulator's success is not looked at.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from verl.trajectory import Episode, Samples, token_mask


class ReplayBuffer:
    """The latest ``capacity`` done episodes.

    Args:
        capacity: episodes; 0 keeps none.
        chunk, action_dim: of the policy.
    """

    def __init__(self, capacity: int, chunk: int, action_dim: int) -> None:
        self.chunk, self.action_dim = chunk, action_dim
        self.episodes: deque[Episode] = deque(maxlen=max(capacity, 1))
        self.capacity = capacity

    def add(self, episodes: list[Episode]) -> None:
        """Takes in those that are complete."""
        if self.capacity:
            self.episodes.extend(e for e in episodes if e.complete and e.steps)

    def sample(self, count: int, rng: np.random.Generator) -> Samples | None:
        """``count`` chunks drawn with replacement, to be imitated; None while the buffer is empty."""
        if not self.episodes or count <= 0:
            return None
        kept = list(self.episodes)
        sizes = np.array([e.chunks for e in kept])
        flat = rng.integers(sizes.sum(), size=count)
        owner = np.searchsorted(np.cumsum(sizes), flat, side="right")
        place = flat - (np.cumsum(sizes) - sizes)[owner]
        rows = [(kept[o], p) for o, p in zip(owner, place)]
        masks = [token_mask(e.steps, e.chunks, self.chunk, self.action_dim)[p] for e, p in rows]
        return Samples(
            images=np.stack([e.images[p] for e, p in rows]),
            proprio=np.stack([e.proprio[p] for e, p in rows]),
            instructions=[e.instruction for e, _ in rows],
            tokens=np.stack([e.tokens[p] for e, p in rows]),
            old_log_probs=np.stack([e.log_probs[p] for e, p in rows]),
            mask=np.stack(masks),
            advantages=np.zeros((count, self.chunk * self.action_dim), np.float32),
            returns=np.zeros(count, np.float32),
            imitation=np.ones(count, np.float32),
        )
