"""The hand-over of weights: from every rank its shard, in the rollout's dtype; LoRA as adapters; the lost are told.

Ray is a stand-in here that calls at once; with Ray itself: ``tests/verl/trainer/test_hand_over.py``.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from ray.exceptions import ActorDiedError, GetTimeoutError

from tests.verl.workers.test_learner import TINY, free_port, options, samples
from verl.errors import WeightsError
from verl.models.openvla_oft import OpenVLAOFTPolicy, lora
from verl.models.openvla_oft.tiny import make_policy, unit_stats
from verl.workers import weight_receiver, weight_transfer
from verl.workers.learner import Learner
from verl.workers.weight_receiver import WeightReceiver
from verl.workers.weight_transfer import Receiver

BUCKET = 4096


class Answer:
    """What a call gives, when it is asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def get(self, timeout: float | None = None) -> None:
        if self.error is not None:
            raise self.error


STAND_IN = SimpleNamespace(put=lambda value: value.copy(), get=lambda call, timeout=None: call.get(timeout))


def taker(take) -> SimpleNamespace:
    """A worker's handle: calls ``take(number, pieces, payload)`` at once."""

    def remote(*arguments) -> Answer:
        error = take(*arguments)
        return Answer(error if isinstance(error, Exception) else None)

    return SimpleNamespace(take_weights=SimpleNamespace(remote=remote))


@pytest.fixture
def checkpoint(tmp_path):
    """A tiny random policy on disk."""
    make_policy(tmp_path / "policy", TINY, {"tiny": unit_stats(7, 8)}, proprio_dim=8)
    return str(tmp_path / "policy")


@pytest.fixture
def make_learner(monkeypatch, checkpoint):
    """A learner of one rank, whose rollouts are in bfloat16."""
    monkeypatch.setattr(weight_transfer, "ray", STAND_IN)
    made = []

    def make(**changes) -> Learner:
        given = dataclasses.replace(options(checkpoint), rollout_dtype="bfloat16", **changes)
        made.append(Learner(given, 0, 1, f"127.0.0.1:{free_port()}"))
        return made[-1]

    yield make
    for learner in made:
        learner.close()


def receiver(policy: torch.nn.Module) -> WeightReceiver:
    return WeightReceiver(policy, torch.bfloat16, torch.device("cpu"))


def _rank(rank: int, port: int, path: str, target: str) -> None:
    weight_transfer.ray = STAND_IN
    learner = Learner(dataclasses.replace(options(path), rollout_dtype="bfloat16"), rank, 2, f"127.0.0.1:{port}")
    learner.update(samples(path), 0)
    sent: list = []
    lost = learner.hand_over(1, [Receiver(0, taker(lambda *one: sent.append(one)), None)], BUCKET)
    assert not lost
    weights = learner.weights()
    torch.save((sent, weights), f"{target}-{rank}")
    learner.close()


def test_two_ranks_send_their_shards_and_a_worker_has_the_policy(checkpoint, tmp_path):
    """About half of it each, in 16-bit words and small buckets; a part is refused, the whole equals the gathered."""
    target = str(tmp_path / "rank")
    mp.start_processes(_rank, (free_port(), checkpoint, target), nprocs=2, start_method="spawn")
    (first, weights), (second, _) = (torch.load(f"{target}-{rank}", weights_only=False) for rank in range(2))
    policy = OpenVLAOFTPolicy.from_pretrained(checkpoint, dtype=torch.bfloat16)
    taking, total = receiver(policy), sum(tensor.numel() for tensor in policy.state_dict().values())
    sizes = [sum(words.nbytes for *_, words in sent) for sent in (first, second)]
    assert sum(sizes) == 2 * total and min(sizes) > 0.9 * total
    assert max(words.nbytes for *_, words in (*first, *second)) <= BUCKET
    for number, pieces, words in first:
        taking.take(number, pieces, words)
    with pytest.raises(WeightsError, match=f"hand-over 1 of weights is not complete: {sizes[1] // 2} numbers"):
        taking.check_whole()
    for bucket in second:
        taking.take(*bucket)
    taking.check_whole()
    for name, tensor in policy.state_dict().items():
        assert torch.equal(tensor, weights[name].bfloat16()), name


def _rank_with_cards(rank: int, port: int, path: str, target: str) -> None:
    weight_transfer.ray = STAND_IN
    weight_transfer.ON_CARD_BYTES = BUCKET
    weight_transfer.share_tensor = lambda flat: (None, (flat.clone(), *[None] * 6))
    learner = Learner(dataclasses.replace(options(path), rollout_dtype="bfloat16"), rank, 2, f"127.0.0.1:{port}")
    sent: list = []
    there = [Receiver(index, taker(lambda *one, index=index: sent.append((index, *one))), index) for index in range(2)]
    assert not learner.hand_over(1, there[1:], BUCKET) and bool(sent) == (rank == 1)
    sent.clear()
    assert not learner.hand_over(2, there, BUCKET)
    weights = learner.weights()
    torch.save((sent, weights), f"{target}-{rank}")
    learner.close()


def test_on_a_card_in_common_the_learner_there_sends_all_of_it(checkpoint, tmp_path, monkeypatch):
    """Gathered, and handed over in that card's memory (here a stand-in for CUDA IPC), to the workers there alone; the
    other rank takes part in gathering, also where no worker is beside it."""
    target = str(tmp_path / "rank")
    mp.start_processes(_rank_with_cards, (free_port(), checkpoint, target), nprocs=2, start_method="spawn")
    monkeypatch.setattr(weight_receiver, "shared_tensor", lambda flat, *rest: flat)
    for rank in range(2):
        sent, weights = torch.load(f"{target}-{rank}", weights_only=False)
        policy = OpenVLAOFTPolicy.from_pretrained(checkpoint, dtype=torch.bfloat16)
        taking = receiver(policy)
        for index, *bucket in sent:
            assert index == rank
            taking.take(*bucket)
        taking.check_whole()
        if rank == 0:
            expected = weights
        for name, tensor in policy.state_dict().items():
            assert torch.equal(tensor, expected[name].bfloat16()), name


def test_a_worker_that_dies_or_takes_nothing_is_told_and_the_others_have_all(make_learner, checkpoint):
    """Later buckets are not sent to it; its time follows the size."""
    learner, policy = make_learner(), OpenVLAOFTPolicy.from_pretrained(checkpoint, dtype=torch.bfloat16)
    taking, calls = receiver(policy), {0: 0, 1: 0}

    def failing(index: int, error: Exception):
        def take(*bucket) -> Exception:
            calls[index] += 1
            return error

        return Receiver(index, taker(take), None)

    there = Receiver(2, taker(taking.take), None)
    lost = learner.hand_over(7, [failing(0, ActorDiedError()), failing(1, GetTimeoutError("late")), there], BUCKET)
    assert set(lost) == {0, 1} and "died while it took weights" in lost[0]
    assert "did not take 0 MiB of weights within 60 s" in lost[1]
    assert max(calls.values()) <= weight_transfer.IN_FLIGHT
    taking.check_whole()
    for name, tensor in policy.state_dict().items():
        assert torch.equal(tensor, learner.weights()[name].bfloat16()), name


def log_probs(policy: torch.nn.Module, batch) -> np.ndarray:
    with torch.no_grad():
        found = policy.evaluate(batch.images, batch.instructions, batch.proprio, torch.from_numpy(batch.tokens))
    return found.log_probs.double().numpy().ravel()


def test_lora_is_played_as_it_is_trained(make_learner, checkpoint):
    """Small deltas, a rollout in bfloat16: its log-probabilities move with the learner's. Merged they would not.

    Only adapters and small heads travel.
    """
    given = options(checkpoint)
    fsdp = dataclasses.replace(given.actor.fsdp_config, dtype="bfloat16")
    learner = make_learner(
        model=dataclasses.replace(given.model, lora_rank=4, lora_alpha=4),
        actor=dataclasses.replace(given.actor, fsdp_config=fsdp),
    )
    policy = OpenVLAOFTPolicy.from_pretrained(checkpoint, dtype=torch.bfloat16)
    policy.add_lora(rank=4, alpha=4)
    batch, taking, names = samples(checkpoint, 40), receiver(policy), set()

    def take(number: int, pieces, words) -> None:
        names.update(piece.name for piece in pieces)
        taking.take(number, pieces, words)

    there = [Receiver(0, taker(take), None)]
    learner.hand_over(1, there, BUCKET)
    before = log_probs(learner.policy, batch), log_probs(policy, batch)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in learner.policy.named_parameters():
            if ".lora_B" in name:
                parameter.to_local().copy_(1e-4 * torch.randn(parameter.shape, generator=generator))
    learner.hand_over(2, there, BUCKET)
    taking.check_whole()
    assert names and all(".lora_" in name or name.startswith("proprio_projector") for name in names)
    moved = log_probs(learner.policy, batch) - before[0]
    played = log_probs(policy, batch) - before[1]
    merged = OpenVLAOFTPolicy.from_pretrained(checkpoint, dtype=torch.bfloat16)
    merged.load_state_dict(lora.merged(learner.weights()))
    rounded = log_probs(merged, batch) - before[1]
    assert np.corrcoef(moved, played)[0, 1] > 0.99
    assert np.corrcoef(moved, rounded)[0, 1] < 0.9, "else the deltas are not small"
