"""Which devices replicas run on."""

from __future__ import annotations

import pytest

from sidecar.config import Config
from sidecar.config_file import load
from sidecar.engines.devices import alone, named
from sidecar.errors import ConfigError, EngineUnavailableError


def test_each_process_sees_one_card() -> None:
    """By its number, by its place among those that are visible, or none for a CPU."""
    assert alone("cuda:2", {"A": "1"}) == ("cuda:0", {"A": "1", "CUDA_VISIBLE_DEVICES": "2"})
    assert alone("cuda:1", {"CUDA_VISIBLE_DEVICES": "4, GPU-5"})[1]["CUDA_VISIBLE_DEVICES"] == "GPU-5"
    assert alone("cpu", {"CUDA_VISIBLE_DEVICES": "3"}) == ("cpu", {"CUDA_VISIBLE_DEVICES": ""})


@pytest.mark.parametrize("visible", ["", "7"])
def test_a_card_that_is_not_visible_is_refused(visible: str) -> None:
    with pytest.raises(EngineUnavailableError, match=f"cuda:1 is not among CUDA_VISIBLE_DEVICES={visible}"):
        alone("cuda:1", {"CUDA_VISIBLE_DEVICES": visible})


def test_all_is_every_cuda_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """That torch sees; a line where it sees none."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert named("all") == ("cuda:0", "cuda:1", "cuda:2")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(EngineUnavailableError, match="devices=all: torch sees no CUDA device"):
        named("all")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (["devices=cuda"], "devices='cuda': allowed: null, all, or a list as cuda:0,cuda:1"),
        (["devices=cpu,"], "devices='cpu,': allowed: null, all, or a list"),
        (["devices=all", "device=cpu"], "device='cpu': allowed: auto (devices=all says where)"),
        (["devices=all", "engine=openai", "openai.url=http://x"], "devices='all': allowed: null (engine=openai"),
    ],
)
def test_wrong_devices_name_the_key_and_what_is_allowed(keys: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(None, ["run_id=x", "engine=fixed", *keys])
    assert problem in str(error.value)


def test_a_list_is_taken() -> None:
    config = Config(run_id="x", engine="fixed", devices="cuda:0,cuda:3")
    assert config.devices is not None and named(config.devices) == ("cuda:0", "cuda:3")
