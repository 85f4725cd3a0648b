"""What one training or evaluation episode leaves behind, and what of it the learner may see.

    EnvPool -> EpisodeEnd -+-> Episode (everything: scores, audit, timings; goes to metrics, videos, tables)
                           +-> Episode.samples() -> Samples (observations, tokens, advantages; goes to the learner)

The simulator's success is in ``Episode.env_success`` for the audit. ``Samples`` has no field for it: what the learner
gets cannot depend on it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields

import numpy as np


@dataclass(slots=True)
class Episode:
    """One finished episode.

    Attributes:
        images: (chunks, cameras, H, W, 3) uint8, what the policy saw at the start of each chunk; none of an evaluation
            episode, from which nobody learns.
        proprio: (chunks, P) float32.
        tokens: (chunks, L) int64 action tokens, L = chunk length * action dimensions.
        log_probs: (chunks, L) float32, of ``tokens`` under the policy that sampled them.
        values: (chunks,) float32 of the value head, or None without one.
        steps: environment steps that count (``finish_step``); what lies behind them is masked.
        complete: VLAC said done. In evaluation always False.
        score: the reward in [0, 1], 1.0 when ``complete``.
        step_rewards: (steps,) float32, sums to the return that the algorithm uses; zero but for the last step except in
            the per-step modes.
        env_success: the simulator's success, for evaluation and the audit only.
        env_success_step: first step at which the simulator said success, or None.
        probabilities: (steps + 1,) float32 P(done) by VLAC, NaN where not asked or invalid.
        critic_values: float32 percent, VLAC's value list, when it was asked.
        invalid_verdicts: replies of VLAC that could not be read, an unusable value list among them.
        value_holes: unreadable pairs of a value list that was used all the same.
        outages: askings to which no reply came; they were repeated and changed nothing.
        frames: (steps + 1, H, W, 3) uint8, kept for recorded episodes only.
    """

    episode: int
    group: int
    task: int
    seed: int
    instruction: str
    training: bool
    images: np.ndarray
    proprio: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    values: np.ndarray | None
    steps: int
    complete: bool
    score: float
    step_rewards: np.ndarray
    env_success: bool
    env_success_step: int | None
    probabilities: np.ndarray
    critic_values: np.ndarray | None
    invalid_verdicts: int = 0
    value_holes: int = 0
    outages: int = 0
    latencies_us: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    timings: dict[str, float] = field(default_factory=dict)
    frames: np.ndarray | None = None
    audited: bool = False

    @property
    def chunks(self) -> int:
        """Chunks of which at least one step counts."""
        return len(self.tokens)


@dataclass(slots=True)
class Samples:
    """Chunks of many episodes, flattened: the learner's whole input.

    Attributes:
        images: (N, cameras, H, W, 3) uint8.
        proprio: (N, P) float32.
        instructions: N strings.
        tokens: (N, L) int64.
        old_log_probs: (N, L) float32.
        mask: (N, L) float32, 1 where the token's action was executed and counts.
        advantages: (N, L) float32.
        returns: (N,) float32, targets of the value head; zeros when there is none.
        imitation: (N,) float32, 1 for replayed chunks: imitated (NLL), not in the policy gradient.
    """

    images: np.ndarray
    proprio: np.ndarray
    instructions: list[str]
    tokens: np.ndarray
    old_log_probs: np.ndarray
    mask: np.ndarray
    advantages: np.ndarray
    returns: np.ndarray
    imitation: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def digest(self) -> str:
        """32 hex digits over all of it, names, dtypes and shapes too: equal for two runs that train on the same."""
        digest = hashlib.blake2b(digest_size=16)
        for f in fields(self):
            value = getattr(self, f.name)
            array = value if isinstance(value, np.ndarray) else None
            head = [f.name, str(array.dtype), array.shape] if array is not None else [f.name, value]
            digest.update(json.dumps(head).encode())
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def take(self, index: np.ndarray) -> Samples:
        """The samples at ``index``, in that order."""
        picked = {f.name: getattr(self, f.name) for f in fields(self)}
        return Samples(
            **{
                name: [value[i] for i in index] if isinstance(value, list) else value[index]
                for name, value in picked.items()
            }
        )

    @staticmethod
    def join(parts: list[Samples]) -> Samples:
        """The samples of all ``parts``, one behind the other."""
        joined = {}
        for f in fields(Samples):
            pieces = [getattr(part, f.name) for part in parts]
            lists = isinstance(pieces[0], list)
            joined[f.name] = [text for piece in pieces for text in piece] if lists else np.concatenate(pieces)
        return Samples(**joined)


def token_mask(steps: int, chunks: int, chunk_length: int, action_dim: int) -> np.ndarray:
    """(chunks, chunk_length * action_dim) float32: 1 for the tokens of the first ``steps`` actions, 0 behind them."""
    flat = np.arange(chunks * chunk_length * action_dim) < steps * action_dim
    return flat.reshape(chunks, chunk_length * action_dim).astype(np.float32)
