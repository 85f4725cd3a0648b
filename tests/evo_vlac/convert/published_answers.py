"""Asks a checkpoint a done question and two pair questions through ms-swift; a script for either environment.

python published_answers.py CHECKPOINT ANSWERS.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from evo_vlac import queries
from evo_vlac.swift_engine import SwiftEngine


def main(checkpoint: str, target: str) -> None:
    """Writes the answers."""
    engine = SwiftEngine(checkpoint, device="cpu", dtype="float32")
    images = [np.random.default_rng(i).integers(0, 255, (112, 112, 3), dtype=np.uint8) for i in range(5)]
    task = "lift the red cube"
    asked = [
        queries.done_query(images[0], task),
        queries.critic_query(images[0], images[1], task),
        queries.critic_query(images[0], images[1], task, reference=images[2:], first=images[0]),
    ]
    answers = engine.answer(asked)
    out = [{"error": a.error, "text": a.text, "tokens": [[t.text, t.logprob] for t in a.tokens]} for a in answers]
    Path(target).write_text(json.dumps(out), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
