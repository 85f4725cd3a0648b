"""The preflight's judgement of made-up machines: what is too small or missing is named, with what to change."""

from __future__ import annotations

import dataclasses

import pytest

from evo_vlac.model_shape import VLAC_2B
from evo_vlac.weight_files import weight_bytes
from verl.models.openvla_oft.errors import CheckpointError
from verl.preflight import checks, machine
from verl.preflight.checks import Check, core_line, device_lines, quick_checks
from verl.preflight.line import BAD, GOOD, LOOK, Line
from verl.preflight.machine import Card, Machine, container, read_cards, this_machine
from verl.preflight.memory import machine_lines, planned_lines, reckon
from verl.trainer import ray_store
from verl.trainer.load_config import load_config
from verl.trainer.memory_shapes import critic_shape, policy_shape

GB = 1e9
H100 = Card("NVIDIA H100 80GB HBM3", 79.6 * 2**30, 79.0 * 2**30)
NODE = Machine(
    cores=96,
    memory=1000 * GB,
    memory_free=900 * GB,
    shm=500 * GB,
    shm_free=500 * GB,
    cards=(H100,) * 8,
    driver="570.1",
    torch="2.13.0",
    torch_cuda="12.9",
    torch_cards=8,
)


@pytest.fixture(scope="module")
def eight():
    config, _ = load_config(["env=libero", "hardware=h100_8"])
    return config, reckon(config, published=True)[0]


def said(lines: list[Line], name: str) -> Line:
    (line,) = [line for line in lines if line.name == name]
    return line


def test_a_node_of_eight_is_well(eight):
    config, plan = eight
    for line in [*machine_lines(config, plan, NODE), *device_lines(config, NODE), core_line(config, NODE)]:
        assert line.state == GOOD, line


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"memory_free": 100 * GB}, "main memory of a node", ("free 100.0 of 1000.0", "checkpoint of learner")),
        ({"shm": 0.064 * GB, "shm_free": 0.064 * GB}, "/dev/shm of a node", ("--shm-size=", "critic.overlap=false")),
        ({"cards": (H100, Card("NVIDIA L4", 24 * GB, 23 * GB))}, "a card", ("NVIDIA L4", "rollout's weights")),
        ({"cards": (H100, dataclasses.replace(H100, free=20 * GB))}, "a card", ("free 20.0", "somebody else holds")),
    ],
)
def test_what_is_too_small_is_named_with_what_takes_most(eight, change, name, words):
    config, plan = eight
    line = said(list(machine_lines(config, plan, dataclasses.replace(NODE, **change))), name)
    assert line.state == BAD
    for word in words:
        assert word in line.said


def test_a_preset_that_no_80_gb_card_holds_is_told_without_the_card():
    config, _ = load_config(
        ["env=libero", "hardware=h100_1", "actor_rollout_ref.model.lora_rank=0"]  # all weights on one card
    )
    line = said(list(planned_lines(config, reckon(config, published=True)[0])), "a card")
    assert line.state == BAD and "fsdp_config" in line.said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"torch_cuda": None, "torch": "2.13.0+cpu", "torch_cards": 0}, ("8 GPU(s)", "built for the CPU")),
        ({"torch_cards": 0}, ("driver 570.1", "CUDA 12.9", "sees none")),
        ({"torch_cards": 0, "cards": (), "visible": ""}, ("CUDA_VISIBLE_DEVICES=''", "0 GPU(s) are seen")),
        ({"torch_cards": 0, "visible": "9"}, ("CUDA_VISIBLE_DEVICES='9'",)),
        ({"torch_cards": 4}, ("trainer.n_gpus_per_node=8", "4 GPU(s) are seen")),
        ({"problem": "nvidia-smi: no answer", "torch_cards": 0}, ("nvidia-smi: no answer", "0 GPU(s) are seen")),
    ],
)
def test_cards_that_torch_cannot_use_are_told(eight, change, words):
    line = said(list(device_lines(eight[0], dataclasses.replace(NODE, **change))), "devices")
    assert line.state == BAD
    for word in words:
        assert word in line.said


def test_few_cores_are_only_told(eight):
    assert core_line(eight[0], dataclasses.replace(NODE, cores=8)).state == LOOK


CPU_TORCH = {"torch_cuda": None, "torch": "2.13.0+cpu", "torch_cards": 0}
NO_CARDS: dict[str, object] = {"torch_cards": 0, "cards": ()}
BROKEN = {"problem": "nvidia-smi: no answer"}


@pytest.mark.parametrize(
    ("override", "change", "words"),
    [
        pytest.param("trainer.n_gpus_per_node=0", CPU_TORCH, "built for the CPU", id="none asked, CPU build"),
        pytest.param("trainer.n_gpus_per_node=0", {**NO_CARDS, "visible": ""}, "no GPU", id="none asked, hidden"),
        pytest.param("trainer.n_gpus_per_node=0", BROKEN, "no answer", id="none asked, no answer"),
        pytest.param("trainer.n_gpus_per_node=null", {**NO_CARDS, "visible": ""}, "no GPU", id="what is there, hidden"),
        pytest.param("trainer.n_gpus_per_node=null", {**NO_CARDS, **BROKEN}, "0 GPU", id="what is there, no answer"),
        pytest.param("trainer.ray_address=auto", NO_CARDS, "8, but 0 GPU", id="a cluster's head"),
        pytest.param("trainer.n_gpus_per_node=1", {"torch_cards": 1, "cards": ()}, "1 GPU", id="no nvidia-smi"),
        pytest.param("trainer.n_gpus_per_node=8", {**BROKEN, "cards": ()}, "8 GPU", id="all are seen, no answer"),
    ],
)
def test_what_a_run_accepts_is_not_bad(override, change, words):
    config, _ = load_config(["env=libero", "hardware=h100_8", override])
    (line,) = device_lines(config, dataclasses.replace(NODE, **change))
    assert line.state != BAD and words in line.said


CARDS = (
    "NVIDIA H100, 80GB, 81559, 81000, 570.1, 0, GPU-5a1c\nNVIDIA H100, 80GB, 81559, 500, 570.1, 1, GPU-77e0\n"
    "NVIDIA L4, 23034, 400, 570.1, 2, GPU-9c1f\n"
)


def test_nvidia_smis_lines_are_read():
    cards, driver, problem = read_cards(CARDS)
    assert (len(cards), driver, problem) == (3, "570.1", None)
    assert cards[1].free == 500 * 2**20 and cards[0].name == "NVIDIA H100, 80GB"
    assert "MIG" in str(read_cards("NVIDIA H100, [N/A], [N/A], 570.1, 0, GPU-5a1c\n")[2])


@pytest.mark.parametrize(("visible", "free"), [("1", [500]), ("GPU-77e0,GPU-9", [500, 400]), ("", []), ("-1", [])])
def test_only_the_cards_that_this_process_is_given_count(visible, free):
    """Somebody else works on the others."""
    cards, driver, _ = read_cards(CARDS, visible)
    assert [card.free / 2**20 for card in cards] == free and driver == "570.1"


def test_the_plan_is_of_the_gpus_that_torch_sees(monkeypatch):
    """``n_gpus_per_node=null`` on a shared node: two of the eight are ours."""
    asked = []
    monkeypatch.setattr(checks, "this_machine", lambda: dataclasses.replace(NODE, torch_cards=2))
    monkeypatch.setattr(checks, "reckon", lambda config, gpus: asked.append(gpus) or reckon(config, gpus))
    config, _ = load_config(["trainer.n_gpus_per_node=null"])
    next(one for one in quick_checks(config) if one.name == "memory").run()
    assert asked == [2]


def test_a_name_that_begins_with_a_tilde_is_a_name():
    """Not another user's home, whom nobody knows here."""
    folder = "~backup-of-nobody"
    assert weight_bytes(f"{folder}/policy") == 0
    models = [f"actor_rollout_ref.model.path={folder}/policy", f"critic.sidecar.config.model={folder}/critic"]
    config, _ = load_config(["env=libero", "hardware=h100_8", *models])
    assert "as published" in reckon(config, published=True)[1]
    with pytest.raises(CheckpointError):
        policy_shape(folder)
    assert critic_shape(folder) == VLAC_2B


def cgroup(folder, limit, used, cache, old=False):
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if old else ("memory.max", "memory.current")
    for name, value in zip(names, (limit, used)):
        (folder / name).write_text(f"{value}\n")
    kind = "total_inactive_file" if old else "inactive_file"
    (folder / "memory.stat").write_text(f"anon 1\n{kind} {cache}\n")


@pytest.mark.parametrize("old", [False, True], ids=["version 2", "version 1"])
def test_the_smallest_limit_above_a_process_counts_and_cached_files_are_free(tmp_path, monkeypatch, old):
    """A batch system's limit is on a slice in the middle; a checkpoint that was read once fills the cache."""
    root = tmp_path / "memory" if old else tmp_path
    cgroup(root, 2**63 if old else "max", 900, 0, old)
    cgroup(root / "job", 100, 90, 60, old)
    cgroup(root / "job" / "step", 500, 80, 60, old)
    own = tmp_path / "own"
    own.write_text("4:cpu,memory:/job/step\n0::/\n" if old else "0::/job/step\n")
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "OWN_CGROUPS", own)
    assert container() == (100, 70)
    own.write_text("0::/\n")
    assert container() == ((2**63, float(2**63) - 900) if old else (float("inf"), float("inf")))


def test_this_machine_says_what_is_there():
    there = this_machine()
    assert 0 < there.memory_free <= there.memory and 0 <= there.shm_free <= there.shm and there.cores > 0


def test_a_store_of_our_own_is_as_large_as_what_goes_through_it(monkeypatch, eight):
    """An update's pictures went to files: it had 256 MiB whatever the run was. It leaves half of /dev/shm to others."""
    free = dataclasses.make_dataclass("Shm", ["f_bavail", "f_frsize"])
    monkeypatch.setattr(ray_store.os, "statvfs", lambda _: free(20_000, 2**20))
    assert ray_store.own_store_bytes(1e6) == 256 * 2**20
    assert ray_store.own_store_bytes(2.8e9) == 2.8e9 * ray_store.ROOM
    assert ray_store.own_store_bytes(1e12) == 10_000 * 2**20


def test_a_missing_part_of_the_checkpoint_is_a_line(tmp_path, monkeypatch):
    """A shard that the index names and that is not there: found without loading anything."""
    from verl.models.openvla_oft.tiny import TinySize, make_policy, unit_stats

    shape = TinySize(image=28, patch=14, vision_dim=12, vision_heads=2, depth=2, hidden=16, layers=1, heads=2, mlp=16)
    policy = make_policy(tmp_path, shape, {"robosuite_lift": unit_stats(7, 8)}, proprio_dim=8)
    from verl.models.openvla_oft import checkpoint

    checkpoint.write(tmp_path, policy.state_dict(), shard_size="40KB")
    config, _ = load_config([f"actor_rollout_ref.model.path={tmp_path}"])
    check = next(one for one in quick_checks(config) if one.name == "policy")
    assert [line.state for line in check.run()] == [GOOD]
    gone = sorted(tmp_path.glob("model-*.safetensors"))[1]
    gone.unlink()
    (line,) = check.run()
    assert line.state == BAD and gone.name in line.said


def test_an_error_that_is_not_ours_is_not_hidden():
    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Check("x", broken).run()
