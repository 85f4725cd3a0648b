"""The same keys make the same update as SimpleVLA-RL's actor: loss, gradients, parameters over two steps."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

import pytest

from tests.verl.workers.parity_simplevla import GOLDEN, OPTIM, ROOT, differences, make, ours, settings, summary, theirs
from tests.verl.workers.test_learner import checkpoint, free_port  # noqa: F401 (a fixture)
from verl.trainer.load_config import load_config
from verl.workers.learner import Learner

CHECKOUT = os.environ.get("SIMPLEVLA_RL")
SCRIPT = ROOT / "examples" / "run_openvla_oft_rl.sh"


def recipe(*more: str):
    """The configuration that the example script trains with."""
    lines = re.findall(r"^ +'?([a-z_.]+=[^\\'\n]*[^\\'\s])'? \\$", SCRIPT.read_text(), re.MULTILINE)
    keys = [line.strip('"') for line in lines if "$" not in line and not line.startswith("hardware=")]
    return load_config([*keys, "data.task_suite_name=libero_10", *more])[0]


def test_our_update_is_theirs_as_it_was_recorded(tmp_path: Path) -> None:
    """Loss, gradient norm, and every tensor's gradient by its norm and one projection, for both steps."""
    golden, mine = json.loads(GOLDEN.read_text()), summary(ours(make(str(tmp_path))))
    assert mine["loss"] == pytest.approx(golden["loss"], rel=1e-4)
    assert mine["norm"] == pytest.approx(golden["norm"], rel=1e-4)
    for step, sizes in enumerate(golden["size"]):
        assert mine["size"][step] == pytest.approx(sizes, rel=1e-3, abs=1e-7)
        for name, value in golden["gradient"][step].items():
            assert abs(mine["gradient"][step][name] - value) <= 1e-3 * sizes[name] + 1e-6, name


@pytest.mark.slow
@pytest.mark.skipif(not CHECKOUT, reason="SIMPLEVLA_RL names no checkout of PRIME-RL/SimpleVLA-RL at 7c51662")
def test_our_update_is_theirs(tmp_path: Path) -> None:
    """Their own code on the same trajectories of unequal lengths: 1e-5 relative in float32."""
    folder = make(str(tmp_path))
    found = differences(ours(folder), theirs(folder, Path(str(CHECKOUT))))
    assert max(value for name, value in found.items() if not name.startswith("change")) < 1e-5, found


def test_the_script_gives_their_optimizer_and_loss() -> None:
    """AdamW as torch has it, the mean within each trajectory first, episodes of at most 512 steps in every suite."""
    config = recipe("hardware=h100_8")
    assert {name: getattr(config.actor.optim, name) for name in OPTIM} == {**OPTIM, "betas": (0.9, 0.999)}
    assert config.algorithm.loss_agg_mode == "seq-mean-token-mean"
    assert (config.actor.clip_ratio_low, config.actor.clip_ratio_high, config.actor.grad_clip) == (0.2, 0.28, 1.0)
    assert (config.actor.entropy_coeff, config.actor.ppo_epochs, config.rollout.temperature) == (0.0, 1, 1.6)
    assert config.env["max_steps"] == 512


@pytest.mark.parametrize("preset", ["h100_1", "h100_8", "h100_2x8"])
def test_an_update_has_at_most_four_optimizer_steps(preset: str) -> None:
    """``ppo_mini_batch_size`` counts trajectories, as theirs does: 128 of 512."""
    config = recipe(f"hardware={preset}")
    trajectories = config.data.train_batch_size * config.data.n_samples
    assert trajectories / config.actor.ppo_mini_batch_size == 4


@pytest.mark.parametrize("preset", ["h100_1", "h100_8"])
def test_adapters_have_a_rate_of_their_own(preset: str) -> None:
    """5e-6 starves them, and what the script says for all weights does not override it."""
    config = recipe(f"hardware={preset}")
    assert (config.actor.optim.lr, config.actor.optim.lora_lr) == (5e-6, 1e-4)


@pytest.mark.parametrize(("rank", "rate"), [(0, 5e-6), (2, 3e-4)])
def test_the_optimizer_is_as_configured(checkpoint: str, rank: int, rate: float) -> None:  # noqa: F811
    """Rate, betas, eps and decay of the groups that are trained; with adapters their rate."""
    given = settings(checkpoint)
    optim = dataclasses.replace(given.actor.optim, lora_lr=3e-4)
    model = dataclasses.replace(given.model, lora_rank=rank)
    actor = dataclasses.replace(given.actor, optim=optim)
    learner = Learner(dataclasses.replace(given, model=model, actor=actor), 0, 1, f"127.0.0.1:{free_port()}")
    group = learner.optimizer.param_groups[0]
    learner.close()
    assert group["lr"] == rate
    assert {name: group[name] for name in ("betas", "eps", "weight_decay")} == {
        "betas": (0.9, 0.999),
        "eps": 1e-8,
        "weight_decay": 0.01,
    }
