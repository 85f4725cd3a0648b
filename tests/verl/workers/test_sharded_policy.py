"""A learner's shard is read from the files row by row: the whole policy is never in its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from verl.models.openvla_oft.tiny import TinySize, make_policy, unit_stats

SIZE = TinySize(image=32, patch=16, vision_dim=24, vision_heads=2, depth=2, hidden=384, layers=12, heads=4, mlp=2048)
WORLD, RANK = 8, 3
MB = 2**20

# Rank RANK of WORLD, alone: torch's "fake" process group, with collectives that do nothing.
SCRIPT = """
import json, sys, threading, time
import torch, torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
from verl.trainer.load_config import load_config
from verl.workers.sharded_policy import sharded_policy

def held():  # memory of its own, without pages of the files
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("RssAnon"))

def watch():
    while not done.is_set():
        peak[0] = max(peak[0], held())
        time.sleep(0.005)

path, world, rank, lora, dtype, target = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5], sys.argv[6]
dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=world)
keys = [f"actor_rollout_ref.model.path={path}", f"actor_rollout_ref.model.lora_rank={lora}",
        f"actor_rollout_ref.actor.fsdp_config.dtype={dtype}"]
config, _ = load_config(keys)
torch.set_num_threads(1)
torch.manual_seed(0)
given = (config.model, config.actor.fsdp_config, "tiny", False, False, None, None, torch.device("cpu"), world)
before, done, peak = held(), threading.Event(), [0]
watcher = threading.Thread(target=watch)
watcher.start()
policy = sharded_policy(*given)
done.set()
watcher.join()
local = {n: t.to_local() if hasattr(t, "to_local") else t for n, t in policy.state_dict().items()}
shard = sum(t.numel() * t.element_size() for t in local.values())
print(json.dumps({"peak": peak[0] - before, "shard": shard}))
torch.save(local, target)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """35 million parameters: 70 MB of bfloat16 in shards, as checkpoints are published."""
    folder = tmp_path_factory.mktemp("policy")
    make_policy(folder, SIZE, {"tiny": unit_stats(7, 8)}, proprio_dim=8)
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def load_as_a_rank(folder: Path, target: Path, world: int, rank: int, lora: int = 0, dtype: str = "float32") -> dict:
    command = [sys.executable, "-c", SCRIPT, *map(str, (folder, world, rank, lora, dtype, target))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {**json.loads(done.stdout.splitlines()[-1]), "local": torch.load(target, weights_only=True)}


def test_a_rank_holds_its_shard_and_reads_its_rows(published: Path, tmp_path: Path) -> None:
    """At its peak less than half of the whole policy in float32, and the values are the files'."""
    loaded = load_as_a_rank(published, tmp_path / "shard", WORLD, RANK)
    whole = load_file(published / "model.safetensors")
    assert loaded["peak"] < loaded["shard"] + 40 * MB < sum(t.numel() * 4 for t in whole.values()) / 2, loaded["peak"]
    for name, local in loaded["local"].items():
        rows = whole[name].float().chunk(WORLD)
        expected = rows[RANK] if len(rows) > RANK else whole[name][:0].float()
        assert torch.equal(local, expected), name


def test_what_adapters_freeze_is_kept_in_the_learners_dtype(published: Path, tmp_path: Path) -> None:
    """bfloat16: it is cast to that for each pass anyway. Adapters are float32, drawn as peft draws them."""
    loaded = load_as_a_rank(published, tmp_path / "shard", 1, 0, lora=4, dtype="bfloat16")
    whole = load_file(published / "model.safetensors")
    name = "language_model.model.layers.3.mlp.up_proj"
    local = loaded["local"]
    assert local[f"{name}.base_layer.weight"].dtype == torch.bfloat16
    assert torch.equal(local[f"{name}.base_layer.weight"], whole[f"{name}.weight"])
    down, up = local[f"{name}.lora_A.default.weight"], local[f"{name}.lora_B.default.weight"]
    assert down.dtype == up.dtype == torch.float32 and not up.any()
    assert down.std().item() == pytest.approx(1 / 4, rel=0.1)
    assert local["lora_scaling"].item() == 32 / 4
