"""What of the episodes the learner sees. There is no field for the simulator's success: a test holds that."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, replace

import numpy as np

from verl.pictures import Pictures

REPLAYED = -1


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
        trajectory: (N,) int64, the episode that the chunk is of; REPLAYED for replayed chunks.
    """

    images: np.ndarray | Pictures
    proprio: np.ndarray
    instructions: list[str]
    tokens: np.ndarray
    old_log_probs: np.ndarray
    mask: np.ndarray
    advantages: np.ndarray
    returns: np.ndarray
    imitation: np.ndarray
    trajectory: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def digest(self) -> str:
        """32 hex digits over all of it, names, dtypes and shapes too: equal for two runs that train on the same."""
        digest = hashlib.blake2b(digest_size=16)
        for f in fields(self):
            value = getattr(self, f.name)
            head = [f.name, value]
            parts: list[np.ndarray] = []
            if isinstance(value, np.ndarray):
                head, parts = [f.name, str(value.dtype), value.shape], [value]
            elif isinstance(value, Pictures):
                head, parts = [f.name, "uint8", value.shape], [value[i] for i in range(len(value))]
            digest.update(json.dumps(head).encode())
            for part in parts:
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    def outline(self) -> Samples:
        """All but the pictures."""
        return replace(self, images=Pictures.absent(self.images))

    def take(self, index: np.ndarray) -> Samples:
        """The samples at ``index``, in that order."""
        arrays = {name: getattr(self, name)[index] for name in _ARRAYS}
        return Samples(instructions=[self.instructions[i] for i in index], **arrays)

    @staticmethod
    def join(parts: list[Samples]) -> Samples:
        """The samples of all ``parts``, one after the other."""
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS if name != "images"}
        texts = [text for part in parts for text in part.instructions]
        return Samples(images=Pictures.of(part.images for part in parts), instructions=texts, **arrays)


_ARRAYS = tuple(f.name for f in fields(Samples) if f.name != "instructions")


def token_mask(steps: int, chunks: int, chunk_length: int, action_dim: int) -> np.ndarray:
    """(chunks, chunk_length * action_dim) float32: 1 for the tokens of the first ``steps`` actions, 0 after them."""
    flat = np.arange(chunks * chunk_length * action_dim) < steps * action_dim
    return flat.reshape(chunks, chunk_length * action_dim).astype(np.float32)
