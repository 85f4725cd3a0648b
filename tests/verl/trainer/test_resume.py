"""A whole run, killed or stopped at any moment: resumed, it has the numbers of an undisturbed one, to the last bit."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.launching import QUICK, SCRIPTED, Launched
from verl.models.openvla_oft import OpenVLAOFTPolicy

pytestmark = pytest.mark.timeout(600)

# PPO with a value head, and imitation from the replay buffer: everything that a run can carry is in it.
RUN = [
    *QUICK,
    *SCRIPTED,
    "env.name=tests.verl.envs.dot_env:DotEnv",
    "env.max_steps=24",
    "trainer.videos=0",
    "trainer.total_episodes=10",
    "trainer.save_freq=1",
    "trainer.logger=[console]",
    "critic.audit_min_precision=0",
    "algorithm.adv_estimator=gae",
    "actor_rollout_ref.actor.optim.value_lr=0.01",
    "actor_rollout_ref.actor.entropy_coeff=0.01",
    "actor_rollout_ref.actor.imitation_coeff=0.1",
    "actor_rollout_ref.actor.replay_episodes=5",
]
START_S = 180  # on a machine with much else to do
CLOCKS = ("wall_s", "time/", "critic/p50", "critic/p99", "ray/")  # and Ray's store, which frees when it has time


def rows(run: Path) -> list[dict]:
    """``metrics.jsonl`` without what a clock says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith(CLOCKS)} for row in lines]


def episodes(run: Path) -> dict[int, tuple]:
    """What each episode was like; the simulator's success depends on every action taken."""
    lines = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    assert len({line["episode"] for line in lines}) == len(lines)
    names = ("group", "task", "seed", "steps", "complete", "score", "env_success_step")
    return {line["episode"]: tuple(line[name] for name in names) for line in lines}


def weights(run: Path, name: str) -> dict[str, torch.Tensor]:
    folder = run / "checkpoints" / name / "policy"
    assert OpenVLAOFTPolicy.from_pretrained(folder)
    return load_file(folder / "model.safetensors")


def kill_everything(launched: Launched) -> None:
    """As a node that fails: nobody can clean up or write anything. Stopped first, so that none sees another die."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in launched.processes():
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                continue
    launched.process.wait(10)


def test_killed_and_resumed_it_goes_on_bit_for_bit(tmp_path):
    undisturbed = Launched(tmp_path, RUN)
    assert undisturbed.wait(START_S) == 0, undisturbed.text()
    expected = rows(undisturbed.run)
    losses = [row["actor/value_loss"] for row in expected if "actor/value_loss" in row]
    assert len(losses) == 5 and losses[-1] < 0.5 * losses[0], losses  # all returns are 1: easily learned

    killed = Launched(tmp_path, RUN)
    when, later = random.randrange(2, len(expected) - 2), random.uniform(0.0, 0.5)
    print(f"killed {later:.2f} s after row {when}")
    metrics, deadline = killed.run / "metrics.jsonl", time.monotonic() + START_S
    while not metrics.exists() or len(metrics.read_text().splitlines()) < when:
        assert killed.process.poll() is None and time.monotonic() < deadline, killed.text()
        time.sleep(0.02)
    time.sleep(later)
    kill_everything(killed)
    assert not (killed.run / "summary.json").exists()

    resumed = Launched(tmp_path, [*RUN, "trainer.resume_mode=auto"], mark=killed.mark)
    assert resumed.wait(START_S) == 0, resumed.text()
    assert rows(resumed.run) == expected
    assert episodes(resumed.run) == episodes(undisturbed.run)
    for name in ("last", "best"):
        one, other = weights(undisturbed.run, name), weights(resumed.run, name)
        assert all(torch.equal(one[tensor], other[tensor]) for tensor in one)
    assert resumed.leftovers() == []


@pytest.mark.slow
@pytest.mark.timeout(1200)  # four runs
def test_asked_to_stop_it_keeps_its_latest_update(tmp_path):
    """In a rollout, then in an update, without any other checkpoint: resumed, the numbers are the same."""
    run = [*RUN, "trainer.save_freq=-1", "actor_rollout_ref.actor.ppo_epochs=40", "+env.step_s=0.1"]
    undisturbed = Launched(tmp_path, run)
    assert undisturbed.wait(START_S) == 0, undisturbed.text()

    in_rollout = Launched(tmp_path, run)
    stop(in_rollout, signal.SIGTERM, "actor/value_loss", 2)
    assert "the update under way" not in in_rollout.text() and "of update 2" in in_rollout.text(), in_rollout.text()
    in_update = Launched(tmp_path, [*run, "trainer.resume_mode=auto"], mark=in_rollout.mark)
    stop(in_update, signal.SIGUSR1, "train/score", 4)
    assert "resumed after update 2" in in_update.text() and "the update under way" in in_update.text(), in_update.text()
    assert "of update 4" in in_update.text() and "trainer.resume_mode=auto" in in_update.text(), in_update.text()

    resumed = Launched(tmp_path, [*run, "trainer.resume_mode=auto"], mark=in_rollout.mark)
    assert resumed.wait(START_S) == 0, resumed.text()
    assert "resumed after update 4" in resumed.text()
    assert rows(resumed.run) == rows(undisturbed.run)
    assert episodes(resumed.run) == episodes(undisturbed.run)
    assert resumed.leftovers() == []


def stop(launched: Launched, number: signal.Signals, metric: str, times: int) -> None:
    """When ``metric`` has been logged so often."""
    metrics = launched.run / "metrics.jsonl"
    launched.until(lambda: metrics.exists() and sum(metric in row for row in rows(launched.run)) == times, START_S)
    launched.process.send_signal(number)
    time.sleep(0.1)
    launched.process.send_signal(number)  # schedulers do
    assert launched.wait(START_S) == 130, launched.text()
