"""What actors have in their environment on every node, also on one that was started with nothing."""

from __future__ import annotations

import os

import ray
from ray.cluster_utils import Cluster

from verl.trainer.actor_environment import for_actors
from verl.trainer.cluster import start_ray
from verl.trainer.load_config import load_config

SET = {
    "LIBERO_ASSETS": "/data/libero/assets",
    "SIDECAR_PYTHON": "/opt/critic/bin/python",
    "NCCL_SOCKET_IFNAME": "ens3",
    "GLOO_SOCKET_IFNAME": "ens3",
    "MUJOCO_GL": "egl",
    "HF_HOME": "/data/hf",
    "WANDB_MODE": "offline",
    "OUR_CRITICS_KEY": "k",
}
STORE = 80 * 2**20


def test_what_matters_goes_along_and_what_says_what_a_node_is_stays():
    """The folders of modules, and the key of a critic elsewhere, by its name."""
    given = {
        **SET,
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "3",
        "HOME": "/root",
        "PYTHONPATH": "/a",
        "SLURM_JOB_ID": "7",
    }
    assert for_actors(given, "OUR_CRITICS_KEY") == {**SET, "PYTHONPATH": f"{os.getcwd()}:/a"}
    assert "OUR_CRITICS_KEY" not in for_actors(given)


def test_an_actor_on_a_node_with_an_empty_environment_has_them(monkeypatch):
    """LIBERO's assets, the sidecar's interpreter, what names the network: none of it was there."""
    for name in SET:
        monkeypatch.delenv(name, raising=False)
    kept = dict(os.environ)
    node = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    try:
        for name in set(os.environ) - {"PATH", "VLAC_TEST_MARK"}:
            monkeypatch.delenv(name)
        made.add_node(**node, resources={"second": 1})
        for name, value in {**kept, **SET}.items():
            monkeypatch.setenv(name, value)
        overrides = ["critic.sidecar.config.engine=openai", "+critic.sidecar.config.openai.api_key_env=OUR_CRITICS_KEY"]
        start_ray(load_config([f"trainer.ray_address={made.address}", *overrides])[0])
        look = ray.remote(num_cpus=0, resources={"second": 1})(lambda: dict(os.environ))
        there = ray.get(look.remote(), timeout=120)
    finally:
        ray.shutdown()
        made.shutdown()
    assert {name: there.get(name) for name in SET} == SET
    assert "HOME" not in there, "the node's own was empty"
