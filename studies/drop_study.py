"""What dropped episodes do to the gradient: half of the failures are dropped on purpose, and half of all at random.

    python studies/drop_study.py [--groups 20000] [--json FILE]

A policy of one token in two states, one hard and one easy, with the project's own groups, advantages and masks
(``verl.algorithms.batch``). Known exactly here and nowhere else: the gradient that no drop would give. Rows: how the
episodes were dropped, and what became of their group: smaller (what the training does), refilled with others, or left
out whole.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from verl.algorithms.batch import build_samples, usable_groups
from verl.config import AlgorithmConfig, KlConfig
from verl.episode import Decisions, Episode, EpisodeEnd, EpisodeRequest

SIZE = 8
LOGITS = np.array([0.0, 0.4, -0.3, 0.2])
SUCCESS = {"hard": np.array([0.05, 0.2, 0.4, 0.3]), "easy": np.array([0.9, 0.6, 0.8, 0.7])}  # of each action
PLAIN = AlgorithmConfig("grpo", 1.0, 1.0, False, "token-mean", KlConfig(0.0))
WAYS = ("none", "random, smaller", "failures, smaller", "failures, refilled", "failures, left out")
BATCHES = 40


def episode(number: int, group: int, action: int, score: float) -> Episode:
    """One step, one token."""
    row = np.zeros((1, 1), np.float32)
    end = EpisodeEnd(
        request=EpisodeRequest(number, group, task=0, seed=0, training=True),
        instruction="",
        steps=1,
        chunks=1,
        complete=score == 1.0,
        score=score,
        step_rewards=np.array([score], np.float32),
        env_success=False,
        env_success_step=None,
        asked=np.zeros(0, np.int64),
        probabilities=row[0, :0],
        values=None,
        value_steps=(),
        invalid=0,
        latencies_us=np.zeros(0, np.int64),
    )
    return Episode(end, Decisions(np.zeros((1, 1, 1, 1, 3), np.uint8), row, np.array([[action]]), row))


def rollout(way: str, state: str, groups: int, rng: np.random.Generator) -> list[Episode]:
    """Episodes of ``groups`` groups; one that is dropped is not among them."""
    policy = np.exp(LOGITS) / np.exp(LOGITS).sum()
    kept: list[Episode] = []
    for group in range(groups):
        members: list[Episode] = []
        asked = 0
        while asked < SIZE or (way.endswith("refilled") and len(members) < SIZE):
            action = int(rng.choice(len(policy), p=policy))
            score = float(rng.random() < SUCCESS[state][action])
            asked += 1
            if (way == "random, smaller" or (way.startswith("failures") and score == 0.0)) and rng.random() < 0.5:
                continue
            members.append(episode(len(kept) + len(members), group, action, score))
        if not (way.endswith("left out") and len(members) < SIZE):
            kept += members
    return kept


def measure(way: str, state: str, groups: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """The mean advantage of an update and its gradient, (4,) by logit, as the learner averages it: over tokens."""
    policy = np.exp(LOGITS) / np.exp(LOGITS).sum()
    used = [e for group in usable_groups(rollout(way, state, groups, rng), SIZE) for e in group]
    if not used:
        return 0.0, np.zeros(len(policy))
    samples = build_samples(used, PLAIN, chunk=1, action_dim=1, group_size=SIZE)
    score_function = np.eye(len(policy))[samples.tokens[:, 0]] - policy
    return float(samples.advantages.mean()), (samples.advantages * score_function).mean(axis=0)


def truth(state: str) -> np.ndarray:
    """(4,): the expected gradient without drops: (n - 1) / n of the derivative of the expected score."""
    policy = np.exp(LOGITS) / np.exp(LOGITS).sum()
    q = SUCCESS[state]
    return (SIZE - 1) / SIZE * policy * (q - policy @ q)


def row(way: str, state: str, groups: int, seed: int = 0) -> dict[str, float | str]:
    """Mean advantage; the gradient's part along the true one, as a share of it, and the length of the rest; each with
    its standard error over ``BATCHES`` updates.
    """
    rng = np.random.default_rng((seed, WAYS.index(way), state == "easy"))
    pairs = [measure(way, state, groups // BATCHES, rng) for _ in range(BATCHES)]
    right = truth(state)
    length = np.linalg.norm(right)
    advantages = np.array([pair[0] for pair in pairs])
    gradients = np.stack([pair[1] for pair in pairs])
    along = gradients @ right / length**2
    across = gradients - along[:, None] * right
    rest = across.mean(axis=0)
    root = float(np.sqrt(BATCHES))
    return {
        "way": way,
        "state": state,
        "advantage": float(advantages.mean()),
        "advantage_se": float(advantages.std() / root),
        "along": float(along.mean()),
        "along_se": float(along.std() / root),
        "across": float(np.linalg.norm(rest) / length),
        "across_se": float(np.sqrt(across.var(axis=0).sum()) / root / length),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [row(way, state, options.groups) for state in SUCCESS for way in WAYS]
    print("| state | dropped, its group | mean advantage | along the true gradient | across it |")
    print("|---|---|---|---|---|")
    for one in rows:
        print(
            f"| {one['state']} | {one['way']} | {one['advantage']:+.5f} ± {one['advantage_se']:.5f} | "
            f"{one['along']:.3f} ± {one['along_se']:.3f} | {one['across']:.3f} ± {one['across_se']:.3f} |"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"groups": options.groups, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
