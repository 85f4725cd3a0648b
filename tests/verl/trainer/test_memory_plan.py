"""The memory plan: sums of formulas over published shapes, each preset within its machine."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from evo_vlac.model_shape import VLAC_2B
from sidecar.config import MemoryConfig
from verl.preflight.machine import this_machine
from verl.preflight.memory import machine_lines
from verl.trainer import memory_parts as parts
from verl.trainer.cluster import start_ray
from verl.trainer.load_config import CONFIG_FOLDER, load_config
from verl.trainer.memory_plan import CARD, HOST, PHASES, SHM, STORE, memory_plan
from verl.trainer.memory_shapes import critic_shape, policy_shape
from verl.trainer.ray_store import bucket_of
from verl.workers.weight_buckets import IN_FLIGHT, ON_CARD_BYTES

GB = 1e9
PRESETS = sorted(path.stem for path in (CONFIG_FOLDER / "hardware").glob("*.yaml"))


@pytest.fixture(scope="module")
def openvla():
    return policy_shape(None)


def planned(openvla, *overrides):
    config, _ = load_config(["env=libero", *overrides])
    return memory_plan(config, openvla, VLAC_2B)


def test_the_published_shapes_have_the_published_sizes(openvla):
    """OpenVLA-OFT: 7.54 B; the last block of each tower takes no part. VLAC-2B: 2.2 B."""
    assert round(openvla.parameters / GB, 2) == 7.54 and openvla.trained < openvla.parameters
    assert openvla.adapter_width * 32 == pytest.approx(110e6, rel=0.03)  # OpenVLA's LoRA of rank 32: 1.4 % of 7.5 B
    assert len(openvla.blocks) == 32 + 23 + 26 and openvla.root < 0.4 * GB
    assert round(VLAC_2B.parameters / GB, 1) == 2.2


def test_a_checkpoints_shape_is_that_of_its_files():
    """Of the shipped models: as many numbers as their files hold, but for a critic's norms and biases."""
    assert policy_shape("models/openvla-oft-tiny").parameters * 4 == pytest.approx(8_139_320, rel=0.01)
    assert critic_shape("models/vlac-tiny").parameters * 4 == pytest.approx(10_417_064, rel=0.02)


@pytest.mark.parametrize("suite", ["libero_spatial", "libero_10"])
@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "laptop"])
def test_every_preset_fits_80_gb_in_each_phase(openvla, preset, suite):
    """With a tenth of the card left for what the allocator cannot use."""
    plan = planned(openvla, f"hardware={preset}", f"data.task_suite_name={suite}")
    for phase in PHASES:
        assert plan.total(CARD, phase) < 0.9 * 80 * GB, phase
    assert plan.most(CARD) > 30 * GB, "the plan has left something out"
    assert plan.most(SHM) < 24 * GB, "docs/hardware.md: --shm-size=24g"
    assert plan.most(HOST) < 1000 * GB


def test_the_store_that_is_told_is_the_store_that_is_made(monkeypatch):
    """And what is on its way in it is what a hand-over lets on its way: the plan said 64 MiB a bucket, whatever the
    store's size, a run's start took no note of the weights, and made it of another size."""
    made = {}

    def init(**options):
        made.update(options)
        raise KeyboardInterrupt

    config, _ = load_config(["actor_rollout_ref.actor.fsdp_config.world_size=4", "trainer.n_gpus_per_node=0"])
    monkeypatch.setattr("ray.init", init)
    with mock.patch.dict(os.environ), pytest.raises(KeyboardInterrupt):
        start_ray(config)
    plan = memory_plan(config, policy_shape(None), VLAC_2B)
    (told,) = [line.said for line in machine_lines(config, plan, this_machine()) if line.name == "Ray's store"]
    assert f"{made['object_store_memory'] / GB:.2f} GB will be set aside" in told
    in_flight = 4 * IN_FLIGHT
    assert plan.most(SHM, STORE) == in_flight * bucket_of(made["object_store_memory"], in_flight)


def test_a_bucket_and_the_caches_are_those_of_the_code(openvla):
    """No number of the plan's own."""
    assert {f"{name}_cache_mb": mib for name, mib in parts.CACHES_MIB.items()} == {
        name: getattr(MemoryConfig(), name) for name in ("feature_cache_mb", "prefix_cache_mb")
    }
    plan = planned(openvla, "hardware=h100_8")
    (part,) = [part for part in plan.at(CARD) if part.what == "weights on their way"]
    assert part.update == IN_FLIGHT * ON_CARD_BYTES


def test_the_laptops_preset_needs_no_card_and_fits_8_gb():
    config, _ = load_config(["hardware=laptop"])
    plan = memory_plan(config, policy_shape(config.model.path), critic_shape(config.critic.sidecar.config["model"]))
    assert plan.most(CARD) == 0 and 2 * GB < plan.most(HOST) + plan.most(SHM) < 6 * GB


def test_what_is_said_of_memory_changes_the_plan(openvla):
    """Offloaded optimizers, adapters, larger micro-batches, checkpointing, one critic a node, a critic that stays."""
    eight = planned(openvla, "hardware=h100_8")

    def change(key, where=CARD, phase="update"):
        return (planned(openvla, "hardware=h100_8", key).total(where, phase) - eight.total(where, phase)) / GB

    actor = "actor_rollout_ref.actor"
    state = 8 * openvla.trained / 8 / GB
    assert change(f"{actor}.fsdp_config.optimizer_offload=false", phase="rollout") == pytest.approx(state)
    assert change(f"{actor}.fsdp_config.optimizer_offload=false", HOST) == pytest.approx(-8 * state)
    assert change(f"{actor}.fsdp_config.param_offload=true") < -7
    assert change(f"{actor}.ppo_micro_batch_size=16") == pytest.approx(2, abs=0.5)
    assert change("actor_rollout_ref.model.enable_gradient_checkpointing=false") > 15
    assert change("critic.sidecar.config.memory.on_update=keep") > 4.4
    assert change("critic.sidecar.per=node", HOST) < -7 * 4.4
    assert change("actor_rollout_ref.model.lora_rank=32", phase="rollout") > -8
    assert change("critic.overlap=false", SHM, "load") == pytest.approx(-eight.total(SHM, "load") / 2 / GB, rel=0.01)
    assert change("algorithm.kl_ctrl.kl_coef=0.1") == pytest.approx(4 * openvla.parameters / 8 / GB)
