"""The learner under FSDP2: ranks agree with one rank, updates follow the advantage, checkpoints are exact."""

from __future__ import annotations

import dataclasses
import socket
import time

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.tiny import TinySize, make_policy, unit_stats
from verl.samples import Samples
from verl.trainer.load_config import load_config
from verl.workers.learner import Learner, LearnerOptions, give_back

TINY = TinySize(image=32, patch=16, vision_dim=24, vision_heads=2, depth=2, hidden=32, layers=2, heads=2, mlp=48)


def options(path: str, **changes) -> LearnerOptions:
    config, _ = load_config(
        ["actor_rollout_ref.actor.ppo_micro_batch_size=2", "actor_rollout_ref.actor.ppo_mini_batch_size=5"]
    )
    model = dataclasses.replace(config.model, path=path)
    made = LearnerOptions(model, config.actor, config.algorithm, "tiny", False, 1.0, 0, 1, "float32", None)
    return dataclasses.replace(made, **changes)


@pytest.fixture
def checkpoint(tmp_path):
    """A tiny random policy on disk."""
    make_policy(tmp_path / "policy", TINY, {"tiny": unit_stats(7, 8)}, proprio_dim=8)
    return str(tmp_path / "policy")


def samples(path: str, count: int = 7) -> Samples:
    """Observations, and tokens sampled by the policy itself; odd samples were good, even ones bad."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (count, 1, 32, 32, 3), dtype=np.uint8)
    proprio = rng.normal(size=(count, 8)).astype(np.float32)
    policy = OpenVLAOFTPolicy.from_pretrained(path)
    torch.manual_seed(0)
    output = policy.predict(images, ["lift the red cube"] * count, proprio)
    good = np.where(np.arange(count) % 2, 1.0, -1.0).astype(np.float32)[:, None]
    mask = np.ones((count, 56), np.float32)
    mask[-1, 21:] = 0
    return Samples(
        images,
        proprio,
        ["lift the red cube"] * count,
        output.tokens.numpy(),
        output.log_probs.numpy(),
        mask,
        good * mask,
        np.zeros(count, np.float32),
        np.zeros(count, np.float32),
        np.arange(count),
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def handed(learner: Learner, batch: Samples, step: int) -> Samples:
    """As a run hands samples over: the outline to all ranks, to each the pictures that it wants, two at a time."""
    outline = batch.outline()
    wanted = learner.wants(outline, step)
    for first in range(0, len(wanted), 2):
        learner.take_pictures(first, batch.images[wanted[first : first + 2]])
    return outline


def _rank(rank: int, world: int, port: int, path: str, target: str, steps: int) -> None:
    learner = Learner(options(path), rank, world, f"127.0.0.1:{port}")
    for step in range(steps):
        metrics = learner.update(handed(learner, samples(path), step), step)
    weights = learner.weights()
    if rank == 0:
        torch.save((weights, metrics), target)
    learner.save(f"{target}-saved")
    until_written(learner)
    learner.close()


def until_written(learner: Learner) -> None:
    deadline = time.monotonic() + 60
    while not learner.written():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_pictures_in_pieces_make_the_same_update_to_the_bit(learner, checkpoint):
    """Weights and metrics; what was handed over is gone afterwards."""
    learner.save(f"{checkpoint}-saved")
    until_written(learner)
    whole = learner.update(samples(checkpoint), 1)
    weights = learner.weights()
    learner.load(f"{checkpoint}-saved")
    outline = handed(learner, samples(checkpoint), 1)
    assert learner.update(outline, 1) == whole
    assert all(torch.equal(tensor, weights[name]) for name, tensor in learner.weights().items())
    with pytest.raises(LookupError, match="was not given"):
        learner.update(outline, 1)


def test_two_ranks_make_the_update_of_one(checkpoint, tmp_path, learner):
    """Odd sample counts, a short rank, a masked tail: the weights after two updates are equal, and one goes on from
    what two have saved, each its shards."""
    arguments = (2, free_port(), checkpoint, str(tmp_path / "two"), 2)
    mp.start_processes(_rank, args=arguments, nprocs=2, start_method="spawn")
    two, second = torch.load(tmp_path / "two", weights_only=True)
    for step in range(2):
        first = learner.update(samples(checkpoint), step)
    one = learner.weights()
    largest = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert largest < 2e-5, largest
    assert abs(first["grad_norm"] - second["grad_norm"]) < 1e-4
    assert abs(first["entropy"] - second["entropy"]) < 1e-4

    third = learner.update(samples(checkpoint), 2)
    moved = learner.weights()
    learner.load(str(tmp_path / "two-saved"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in learner.weights().items())
    again = learner.update(samples(checkpoint), 2)
    assert abs(third["grad_norm"] - again["grad_norm"]) < 1e-4
    assert max(float((moved[name] - tensor).abs().max()) for name, tensor in learner.weights().items()) < 2e-5


@pytest.fixture
def learner(checkpoint):
    made = Learner(options(checkpoint), 0, 1, f"127.0.0.1:{free_port()}")
    yield made
    made.close()


def test_an_update_makes_good_tokens_likelier(learner, checkpoint):
    """Log-probabilities rise where the advantage is positive and fall where it is negative; the first ratio is 1."""
    batch = samples(checkpoint)

    def log_probs():
        with torch.no_grad():
            return learner.policy.evaluate(
                batch.images, batch.instructions, batch.proprio, torch.from_numpy(batch.tokens)
            ).log_probs.numpy()

    assert np.allclose(log_probs(), batch.old_log_probs, atol=1e-5)
    for step in range(3):
        learner.update(batch, step)
    change = (log_probs() - batch.old_log_probs) * batch.mask
    assert change[1::2].sum() > 0 > change[0::2].sum()


@pytest.mark.parametrize("kind", ["grpo", "gae", "lora"])
def test_saved_and_loaded_it_goes_on_bit_for_bit(kind, checkpoint, tmp_path):
    """Weights and optimizer come back exactly, though training went on while they were written; another learner, other
    weights in it, then gives the same bits. The published layout in the checkpoint loads."""
    given = options(checkpoint)
    changes = {
        "gae": {"algorithm": dataclasses.replace(given.algorithm, adv_estimator="gae")},
        "lora": {"model": dataclasses.replace(given.model, lora_rank=2)},
        "grpo": {},
    }
    given = dataclasses.replace(given, **changes[kind])
    batch, saved = samples(checkpoint), str(tmp_path / "saved")
    batch.returns += 0.5
    first = Learner(given, 0, 1, f"127.0.0.1:{free_port()}")
    first.update(batch, 0)
    first.save(saved)
    expected_metrics, expected = first.update(batch, 1), first.weights()
    until_written(first)
    first.close()

    second = Learner(given, 0, 1, f"127.0.0.1:{free_port()}")
    second.update(batch, 5)
    second.load(saved)
    exported = OpenVLAOFTPolicy.from_pretrained(tmp_path / "saved" / "policy", value_head=kind == "gae")
    with torch.no_grad():
        ours = second.policy.evaluate(batch.images, batch.instructions, batch.proprio, torch.from_numpy(batch.tokens))
        theirs = exported.evaluate(batch.images, batch.instructions, batch.proprio, torch.from_numpy(batch.tokens))
    assert torch.allclose(ours.log_probs, theirs.log_probs, atol=1e-5)
    if kind == "gae":
        assert torch.allclose(ours.values, theirs.values, atol=1e-6) and ours.values.abs().max() > 0
    assert second.update(batch, 1) == expected_metrics
    for name, tensor in second.weights().items():
        assert torch.equal(tensor, expected[name]), name
    second.close()


def test_the_value_head_learns_the_returns(checkpoint):
    """``gae``: its loss falls and its values order good and bad samples; imitated samples teach it nothing."""
    given = options(checkpoint)
    gae = dataclasses.replace(given.algorithm, adv_estimator="gae")
    actor = dataclasses.replace(given.actor, optim=dataclasses.replace(given.actor.optim, value_lr=1e-2))
    made = Learner(dataclasses.replace(given, algorithm=gae, actor=actor), 0, 1, f"127.0.0.1:{free_port()}")
    batch = samples(checkpoint)
    batch.returns = (np.arange(7) % 2).astype(np.float32)
    losses = [made.update(batch, step)["value_loss"] for step in range(15)]
    assert losses[-1] < 0.2 * losses[0], losses
    with torch.no_grad():
        values = made.policy.evaluate(
            batch.images, batch.instructions, batch.proprio, torch.from_numpy(batch.tokens)
        ).values.numpy()
    assert values[1::2].min() > values[::2].max()
    batch.imitation[:] = 1
    assert made.update(batch, 20)["value_loss"] == 0
    made.close()


def test_a_gradient_that_is_not_finite_is_no_step(checkpoint):
    """Weights stay, the step is counted as skipped, and the warm-up does not go on for it."""
    given = options(checkpoint)
    optim = dataclasses.replace(given.actor.optim, warmup_steps=100)
    actor = dataclasses.replace(given.actor, optim=optim, ppo_mini_batch_size=7, ppo_epochs=1)
    made = Learner(dataclasses.replace(given, actor=actor), 0, 1, f"127.0.0.1:{free_port()}")
    before = {name: tensor.clone() for name, tensor in made.weights().items()}
    broken = samples(checkpoint)
    broken.advantages[0, 0] = np.nan
    metrics = made.update(broken, 0)
    assert (metrics["steps"], metrics["steps_skipped"]) == (0, 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.weights().items())
    metrics = made.update(samples(checkpoint), 1)
    assert (metrics["steps"], metrics["steps_skipped"]) == (1, 0)
    assert metrics["lr"] == pytest.approx(given.actor.optim.lr / 100)
    made.close()


def test_a_cards_memory_is_given_back_after_an_update(learner, checkpoint, monkeypatch):
    """When all of it is done: torch kept what gradients and activations had used, and the rollout had not got it."""
    told: list[tuple[str, int]] = []
    monkeypatch.setattr("verl.workers.learner.give_back", lambda device: told.append((device.type, learner.updates)))
    learner.update(samples(checkpoint), 0)
    assert told == [("cpu", learner.updates)] and learner.updates > 0


def test_only_a_card_has_memory_to_give_back(monkeypatch):
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    give_back(torch.device("cpu"))
    assert not emptied
    give_back(torch.device("cuda", 0))
    assert emptied
