"""A long run keeps nothing of what it has seen: Ray's store, asked after each update of a real run."""

from __future__ import annotations

import json

import pytest

from tests.support.launching import QUICK, SCRIPTED, Launched

pytestmark = pytest.mark.timeout(300)
UPDATES, EPISODES = 16, 8  # episodes an update
PICTURE = 320
# Pictures of a size that Ray puts into its store (a report under 100 KB it sends with the answer), and a replay buffer
# that keeps episodes for longer than their update.
RUN = [
    *QUICK,
    *SCRIPTED,
    "env.name=tests.verl.envs.dot_env:DotEnv",
    "env.max_steps=24",
    f"+env.size={PICTURE}",
    "data.n_samples=4",
    "data.train_batch_size=2",
    f"trainer.total_episodes={UPDATES * EPISODES}",
    "trainer.videos=0",
    "trainer.logger=[console]",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "critic.audit_min_precision=0",
    "actor_rollout_ref.actor.ppo_epochs=1",
    "actor_rollout_ref.actor.imitation_coeff=0.1",
    "actor_rollout_ref.actor.replay_episodes=64",
]
ALLOWED = (
    UPDATES // 2
)  # objects of weights and reports that were just let go; kept reports are four an update (measured)


def lowest(rows: list[dict]) -> dict[str, float]:
    return {name: min(row[name] for row in rows) for name in ("ray/objects", "ray/mb")}


def test_after_each_update_rays_store_holds_what_it_held_after_the_first(tmp_path):
    """The weights, and nothing of any episode: each brings two pictures of 300 KB."""
    launched = Launched(tmp_path, RUN)
    assert launched.wait(240) == 0, launched.text()
    rows = [json.loads(line) for line in (launched.run / "metrics.jsonl").read_text().splitlines()]
    asked = [row for row in rows if "ray/objects" in row]
    assert len(asked) == UPDATES, rows
    # the least of several: Ray frees what was let go once a second, and an update takes less
    first, last = (lowest(rows) for rows in (asked[:6], asked[-6:]))
    assert last["ray/objects"] <= first["ray/objects"] + ALLOWED, asked
    pictures_mb = UPDATES * EPISODES * 2 * PICTURE**2 * 3 / 2**20
    assert last["ray/mb"] < first["ray/mb"] + pictures_mb / 2, asked
    assert asked[-1]["ray/overflow_mb"] == asked[-1]["ray/spilled_mb"] == 0
