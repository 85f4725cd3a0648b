"""What a training writes for its sidecars."""

from __future__ import annotations

import pytest
import yaml

from sidecar.config_file import load
from verl.config import Config
from verl.errors import ConfigError
from verl.trainer.load_config import load_config
from verl.trainer.preflight import preflight
from verl.workers.sidecar_host import write_sidecar_settings


def configured(*overrides: str) -> Config:
    return load_config(list(overrides))[0]


@pytest.mark.parametrize(
    ("overrides", "devices"),
    [
        ([], None),
        (["critic.sidecar.per=gpu"], "all"),
        (["critic.sidecar.per=gpu", "trainer.n_gpus_per_node=3"], "cuda:0,cuda:1,cuda:2"),
        (["critic.sidecar.per=gpu", "+critic.sidecar.config.devices='cuda:4,cuda:5'"], "cuda:4,cuda:5"),
        (["hardware=h100_8"], ",".join(f"cuda:{i}" for i in range(8))),
        (["hardware=h100_2x8"], ",".join(f"cuda:{i}" for i in range(8))),
    ],
)
def test_a_critic_a_gpu_is_a_list_of_devices(tmp_path, overrides, devices):
    """Of the GPUs that the run has on a node; the sidecar takes the file as it is."""
    config = configured(*overrides)
    file = write_sidecar_settings(config.critic, "run", tmp_path / "sidecar.yaml", config.trainer.n_gpus_per_node)
    assert yaml.safe_load(file.read_text()).get("devices") == devices
    assert load(file).devices == devices


def test_a_critic_a_gpu_needs_gpus():
    """The line names the key, and what is allowed."""
    with pytest.raises(ConfigError, match=r"critic\.sidecar\.per=gpu: trainer\.n_gpus_per_node=0; allowed is node"):
        preflight(configured("hardware=laptop", "critic.sidecar.per=gpu"))


def test_another_word_is_refused():
    with pytest.raises(ConfigError, match=r"critic\.sidecar\.per='card': allowed are node, gpu"):
        configured("critic.sidecar.per=card")
