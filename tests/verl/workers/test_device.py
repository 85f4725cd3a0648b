"""Which device an actor takes: what was asked for it, not what it sees; a GPU that torch does not see is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from verl.errors import DeviceError
from verl.models.openvla_oft.tiny import TinySize, make_policy, unit_stats
from verl.trainer.assemble import learner_options, rollout_options
from verl.trainer.load_config import load_config
from verl.workers import learner as learner_module
from verl.workers import rollout as rollout_module
from verl.workers.device import given_device
from verl.workers.learner import Learner
from verl.workers.old_log_probs import choose
from verl.workers.rollout import RolloutWorker

TINY = TinySize(image=32, patch=16, vision_dim=24, vision_heads=2, depth=2, hidden=32, layers=2, heads=2, mlp=48)


class Reached(Exception):
    """So far it has come, on this device."""


def torch_sees(monkeypatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


@pytest.fixture
def made(monkeypatch, tmp_path):
    """``made(kind, *overrides)``: the device with which an actor of that kind begins to load its policy."""
    path = tmp_path / "policy"
    make_policy(path, TINY, {"tiny": unit_stats(7, 8)}, proprio_dim=8)

    def load(*given, device, **more):
        raise Reached(device)

    monkeypatch.setattr(rollout_module, "POLICIES", {"openvla-oft": type("Policy", (), {"from_pretrained": load})})
    monkeypatch.setattr(learner_module, "sharded_policy", lambda *given: load(device=given[-2]))
    monkeypatch.setattr(learner_module.dist, "is_initialized", lambda: True)

    def make(kind: str, gpus: float, *overrides: str) -> torch.device:
        share = f"actor_rollout_ref.rollout.gpus_per_worker={gpus}"
        config, _ = load_config([f"actor_rollout_ref.model.path={path}", share, *overrides])
        with pytest.raises(Reached) as caught:
            if kind == "rollout":
                RolloutWorker(rollout_options(config, "run"))
            else:
                Learner(dataclasses.replace(learner_options(config), gpus=gpus), 0, 1, "127.0.0.1:1")
        return caught.value.args[0]

    return make


@pytest.mark.parametrize("kind", ["rollout", "learner"])
def test_who_was_given_no_gpu_takes_none(monkeypatch, made, kind):
    """Ray hides no card from it: every worker and learner of a node would go onto the first."""
    torch_sees(monkeypatch, 8)
    assert made(kind, 0.0) == torch.device("cpu")
    assert made(kind, 0.4) == torch.device("cuda", 0)


@pytest.mark.parametrize("kind", ["rollout", "learner"])
def test_a_gpu_that_torch_does_not_see_is_refused(monkeypatch, made, kind):
    """It trained 7.5 B on the CPU without a word."""
    torch_sees(monkeypatch, 0)
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match=r"gave this actor 0\.4 GPU.*2\.13\.0\+cpu.*NVIDIA driver.*install") as caught:
        made(kind, 0.4)
    assert "\n" not in str(caught.value)


def test_a_device_by_name_is_that_or_an_error(monkeypatch):
    """The CPU beside GPUs; a card that is not there is refused before anything is loaded."""
    torch_sees(monkeypatch, 2)
    assert given_device(0.0, "cpu") == torch.device("cpu")
    assert given_device(0.0, "cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match=r"rollout\.device=cuda:2: torch sees 2 GPU\(s\) here, cuda:0 to cuda:1"):
        given_device(0.0, "cuda:2")


def test_a_learner_knows_that_the_rollout_is_on_the_cpu(monkeypatch):
    """With a GPU for itself and none for the workers, old log-probabilities come from another device: recomputed."""
    for share, expected in (("0.0", True), ("0.5", False)):
        config, _ = load_config([f"actor_rollout_ref.rollout.gpus_per_worker={share}"])
        device = learner_options(config).rollout_device
        assert choose("auto", "float32", device, "float32", "cuda").recompute is expected
