"""Settings about devices that cannot work together: refused before Ray starts, by key, with what is allowed."""

from __future__ import annotations

import logging

import pytest

from evo_vlac import gpu_node
from verl.errors import ConfigError
from verl.trainer.device_pairs import check_devices
from verl.trainer.load_config import load_config
from verl.trainer.preflight import preflight

ROLLOUT = "actor_rollout_ref.rollout."
DEVICES = "+critic.sidecar.config.devices"
LINE = "this node has 8 GPU(s), and torch sees none: torch 2.13.0+cpu is not a CUDA build"


def configured(*overrides: str):
    return load_config(list(overrides))[0]


@pytest.mark.parametrize("preset", ["laptop", "h100_1", "h100_8", "h100_2x8"])
def test_every_preset_passes(preset):
    check_devices(configured(f"hardware={preset}", "env=libero"))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trainer.nnodes=2"], r"trainer\.nnodes=2 with trainer\.ray_address=null.*auto"),
        (
            ["hardware=laptop", f"{ROLLOUT}device=null", f"{ROLLOUT}gpus_per_worker=0.4"],
            r"gpus_per_worker=0\.4 with trainer\.n_gpus_per_node=0.*allowed is 0",
        ),
        (["trainer.n_gpus_per_node=0", f"{ROLLOUT}device=cuda"], r"device=cuda with trainer\.n_gpus_per_node=0"),
        (["hardware=h100_1", f"{ROLLOUT}device=cpu"], r"device=cpu with .*gpus_per_worker=0\.4"),
        (["hardware=h100_8", f"{ROLLOUT}device=cuda:1"], r"device=cuda:1 with .*as cuda:0; allowed is null"),
        ([f"{ROLLOUT}gpus_per_worker=1.5"], r"gpus_per_worker=1\.5.*whole"),
        (["hardware=h100_8", "actor_rollout_ref.actor.fsdp_config.world_size=9"], r"world_size=9: 8 GPU"),
        (["hardware=h100_8", f"{ROLLOUT}gpus_per_worker=0.5"], r"leaves each learner 0\.5 of a GPU"),
        (["hardware=h100_8", f"{ROLLOUT}workers=20"], r"8 GPU\(s\) are not enough"),
        (
            ["critic.sidecar.per=gpu", "critic.sidecar.config.engine=openai"],
            r"critic\.sidecar\.per=gpu with critic\.sidecar\.config\.engine=openai.*allowed is node",
        ),
        (
            ["hardware=h100_2x8", "critic.sidecar.per=node", "critic.sidecar.config.device=cuda:8"],
            r"sidecar\.config\.device=cuda:8 with trainer\.n_gpus_per_node=8.*allowed are cuda:0 to cuda:7",
        ),
        (["hardware=h100_2x8", f"{DEVICES}='cuda:3,cuda:11'"], r"devices=cuda:3,cuda:11 with .*to cuda:7"),
    ],
    ids=["nodes", "share", "gpu", "cpu", "card", "part", "ranks", "halves", "shares", "critic", "seen", "all seen"],
)
def test_a_pair_that_cannot_work_is_one_line(overrides, words):
    """With the key, and by the preflight, where a mistake costs a moment."""
    with pytest.raises(ConfigError, match=words) as caught:
        preflight(configured(*overrides))
    assert "\n" not in str(caught.value)


def test_gpus_that_torch_does_not_see_are_refused_where_the_run_would_take_them(monkeypatch, caplog):
    """An environment on a shared disk, set up where no GPU was. With 0 GPUs asked, or on a cluster, it is a line."""
    monkeypatch.setattr(gpu_node, "unseen", lambda: LINE)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"n_gpus_per_node=None: this node has 8 GPU.*0 computes on the CPU"):
        preflight(configured("trainer.n_gpus_per_node=null"))
    with caplog.at_level(logging.WARNING):
        preflight(configured("trainer.n_gpus_per_node=0"))
    assert LINE in caplog.text
