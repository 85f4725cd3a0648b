"""The ratio starts at 1: the learner computes old log-probabilities again wherever the rollout computes otherwise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from tests.verl.workers.test_learner import TINY, free_port, options, samples
from verl.algorithms.core_algos import kl_to_reference
from verl.errors import ConfigError
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.tiny import make_policy, unit_stats
from verl.samples import Samples
from verl.trainer.load_config import load_config
from verl.workers.learner import Learner, LearnerOptions
from verl.workers.old_log_probs import MOST_MISMATCH, MOST_OFF_POLICY, choose, mismatch_warning


@pytest.fixture
def checkpoint(tmp_path):
    """A tiny random policy on disk, with tokens that are likelier than others: probabilities as after training."""
    policy = make_policy(tmp_path / "policy", TINY, {"tiny": unit_stats(7, 8)}, proprio_dim=8)
    with torch.no_grad():
        policy.language_model.lm_head.weight.mul_(8)
    policy.save_pretrained(tmp_path / "policy")
    return str(tmp_path / "policy")


def changed(path: str, setting: str, *, learner="float32", rollout="float32", lora=0, micro=2) -> LearnerOptions:
    """A learner's options beside a rollout in dtype ``rollout``."""
    given = options(path)
    fsdp = dataclasses.replace(given.actor.fsdp_config, dtype=learner)
    actor = dataclasses.replace(
        given.actor, recompute_log_prob=setting, fsdp_config=fsdp, ppo_epochs=2, ppo_micro_batch_size=micro
    )
    model = dataclasses.replace(given.model, lora_rank=lora, enable_gradient_checkpointing=lora > 0)  # as h100_1 has it
    return dataclasses.replace(given, actor=actor, model=model, rollout_dtype=rollout)


def rolled_out(path: str, weights: dict[str, torch.Tensor], dtype: torch.dtype) -> Samples:
    """As a rollout worker makes them: the learner's weights, also of adapters, in its own dtype, in passes of one."""
    policy = OpenVLAOFTPolicy.from_pretrained(path, dtype=dtype)
    if any(".lora_" in name for name in weights):
        policy.add_lora(rank=4, alpha=32)
    policy.load_state_dict(weights)
    batch = samples(path, 9)
    torch.manual_seed(1)
    rows = [policy.predict(batch.images[i : i + 1], batch.instructions[:1], batch.proprio[i : i + 1]) for i in range(9)]
    batch.tokens = np.concatenate([row.tokens.numpy() for row in rows])
    batch.old_log_probs = np.concatenate([row.log_probs.numpy() for row in rows])
    return batch


# What the means of |ratio - 1| and of the mismatch are over when nothing is recomputed.
LINES = {"bf16-rollout": 1e-3, "bf16-learner": 1e-3}
KINDS = {
    "bf16-rollout": {"rollout": "bfloat16"},
    "bf16-learner": {"lora": 4, "learner": "bfloat16"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_recomputed_the_first_ratio_is_1_and_otherwise_it_is_not(kind, checkpoint):
    """Also with adapters that have learned something; the mismatch is measured either way, and ``auto`` recomputes."""
    metrics, moved = {}, {}
    for setting in ("never", "auto"):
        made = Learner(changed(checkpoint, setting, **KINDS[kind]), 0, 1, f"127.0.0.1:{free_port()}")
        made.update(samples(checkpoint, 9), 0)  # else adapters are 0, and merging them changes nothing
        batch = rolled_out(checkpoint, made.weights(), getattr(torch, KINDS[kind].get("rollout", "float32")))
        before = batch.old_log_probs.copy()
        metrics[setting], moved[setting] = made.update(batch, 1), made.weights()
        assert np.array_equal(batch.old_log_probs, before)  # what others hold is not changed
        made.close()
    never, auto = metrics["never"], metrics["auto"]
    assert (never["recomputed"], auto["recomputed"]) == (0, 1)
    assert auto["first_ratio_off_max"] == 0 == auto["first_ratio_off"]
    assert LINES[kind] < never["first_ratio_off"] < never["first_ratio_off_max"]
    assert LINES[kind] < auto["mismatch"] < auto["mismatch_max"] and auto["mismatch_kl"] >= 0
    assert any(not torch.equal(moved["never"][name], tensor) for name, tensor in moved["auto"].items())


def test_adapters_are_played_as_they_are_trained(checkpoint):
    """bfloat16 on both sides: the ratio starts at 1 without recomputing. Merged, it was off by more than 0.001."""
    given = changed(checkpoint, "never", lora=4, rollout="bfloat16", learner="bfloat16")
    made = Learner(given, 0, 1, f"127.0.0.1:{free_port()}")
    made.update(samples(checkpoint, 9), 0)
    metrics = made.update(rolled_out(checkpoint, made.weights(), torch.bfloat16), 1)
    made.close()
    assert metrics["recomputed"] == 0 and metrics["first_ratio_off"] < 1e-4


@pytest.mark.parametrize("lora", [0, 4])
def test_alike_nothing_is_recomputed_and_the_update_is_the_same_bit_for_bit(lora, checkpoint):
    """float32 on both sides, with adapters too: ``auto`` is ``never``; ``always`` differs by rounding."""
    given, results, moved = samples(checkpoint, 9), {}, {}
    for setting in ("never", "auto", "always"):
        made = Learner(changed(checkpoint, setting, lora=lora), 0, 1, f"127.0.0.1:{free_port()}")
        results[setting], moved[setting] = made.update(given, 0), made.weights()
        made.close()
    assert results["auto"] == results["never"] and results["auto"]["recomputed"] == 0
    for name, tensor in moved["auto"].items():
        assert torch.equal(tensor, moved["never"][name]), name
        assert torch.allclose(tensor, moved["always"][name], atol=1e-5), name
    assert results["auto"]["first_ratio_off_max"] < 1e-4 and results["auto"]["mismatch_max"] < 1e-4
    assert mismatch_warning(results["auto"]) is None
    assert results["always"]["first_ratio_off_max"] == 0


def test_the_mismatch_is_that_of_the_log_probabilities_given(checkpoint):
    """Wrong by 0.1 everywhere but in replayed samples: mean, largest and KL say so; those keep what they have."""
    batch = samples(checkpoint, 9)
    batch.old_log_probs = batch.old_log_probs + np.float32(0.1)
    batch.imitation[:4] = 1
    batch.old_log_probs[:4] = 7.0
    made = Learner(changed(checkpoint, "always"), 0, 1, f"127.0.0.1:{free_port()}")
    made.policy.train()
    own, _ = made._with_own_log_probs(batch, [np.arange(5), np.arange(5, 9)])
    metrics = made.update(batch, 0)
    made.close()
    assert (own.old_log_probs[:4] == 7).all()
    assert np.allclose(own.old_log_probs[4:], samples(checkpoint, 9).old_log_probs[4:], atol=1e-4)
    assert metrics["mismatch"] == pytest.approx(0.1, abs=1e-3) == metrics["mismatch_max"]
    k3 = float(kl_to_reference(torch.tensor(0.1), torch.tensor(0.0)))
    assert metrics["mismatch_kl"] == pytest.approx(k3, rel=0.05)


def test_a_mismatch_is_told_over_a_line_that_is_lower_where_it_is_in_the_ratio():
    metrics = {"recomputed": 0.0, "mismatch_kl": 2 * MOST_MISMATCH, "mismatch_max": 0.5}
    assert "recompute_log_prob=auto" in mismatch_warning(metrics)
    assert mismatch_warning({**metrics, "recomputed": 1.0}) is None
    assert "dtypes" in mismatch_warning({**metrics, "recomputed": 1.0, "mismatch_kl": 2 * MOST_OFF_POLICY})
    assert mismatch_warning({**metrics, "mismatch_kl": MOST_MISMATCH / 2}) is None


def _rank(rank: int, world: int, port: int, path: str, target: str) -> None:
    made = Learner(changed(path, "auto", rollout="bfloat16"), rank, world, f"127.0.0.1:{port}")
    metrics = made.update(samples(path), 0)
    weights = made.weights()
    if rank == 0:
        torch.save((weights, metrics), target)
    made.close()


def test_two_ranks_recompute_what_one_does(checkpoint, tmp_path):
    """7 samples, micro-batches of 2: one rank is short; passes and their collectives match all the same."""
    given = samples(checkpoint)
    mp.start_processes(_rank, (2, free_port(), checkpoint, str(tmp_path / "two")), nprocs=2, start_method="spawn")
    two, second = torch.load(tmp_path / "two", weights_only=True)
    made = Learner(changed(checkpoint, "auto", rollout="bfloat16"), 0, 1, f"127.0.0.1:{free_port()}")
    first = made.update(given, 0)
    assert max(float((tensor - two[name]).abs().max()) for name, tensor in made.weights().items()) < 2e-5
    made.close()
    assert second["first_ratio_off_max"] == 0 and second["recomputed"] == 1
    for name in ("mismatch", "mismatch_max", "mismatch_kl"):
        assert first[name] == pytest.approx(second[name], rel=0.05, abs=1e-9)


@pytest.mark.parametrize(
    ("rollout", "device", "learner", "on", "recompute", "word"),
    [
        ("float32", None, "float32", "cpu", False, "alike"),
        ("float32", "cpu", "float32", "cpu", False, "alike"),
        ("float32", "cuda:0", "float32", "cuda", False, "alike"),
        ("bfloat16", None, "float32", "cuda", True, "bfloat16, the learner in float32"),
        ("float32", None, "bfloat16", "cuda", True, "float32, the learner in bfloat16"),
        ("bfloat16", None, "bfloat16", "cuda", True, "how many share"),
        ("float32", "cpu", "float32", "cuda", True, "on cpu, the learner on cuda"),
    ],
)
def test_auto_recomputes_where_anything_differs_and_says_what(rollout, device, learner, on, recompute, word):
    given = (rollout, device, learner, on)
    choice = choose("auto", *given)
    assert choice.recompute is recompute and word in choice.reason
    assert choose("always", *given).recompute and not choose("never", *given).recompute


def test_another_setting_is_refused():
    with pytest.raises(ConfigError, match=r"recompute_log_prob='sometimes': allowed are auto, always, never"):
        load_config(["actor_rollout_ref.actor.recompute_log_prob=sometimes"])
