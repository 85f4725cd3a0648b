"""A node with GPUs of which torch sees none: noticed, with the versions that have to fit and what to install."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
import torch

from evo_vlac import gpu_node
from evo_vlac.device import resolve_device
from evo_vlac.errors import EngineError

VERSION = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57.02  Tue Jul 13 16:14:05 UTC 2021\n"


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Eight GPUs and their driver, as the kernel shows them; nothing is hidden from this process."""
    for name in (*(f"nvidia{i}" for i in range(8)), "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    (tmp_path / "version").write_text(VERSION)
    monkeypatch.setattr(gpu_node, "DEVICES", tmp_path)
    monkeypatch.setattr(gpu_node, "DRIVER", tmp_path / "version")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path


def is_a_cuda_build(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    """torch for CUDA 12.8, to which CUDA says ``error``."""

    def init() -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(torch, "__version__", "2.13.0+cu128")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "init", init)


def test_the_cpu_build_is_noticed_with_what_to_install(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment on a shared disk, made where no GPU was."""
    monkeypatch.setattr(torch, "__version__", "2.13.0+cpu")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert gpu_node.unseen() == (
        "this node has 8 GPU(s), and torch sees none: torch 2.13.0+cpu is not a CUDA build (NVIDIA driver 470.57.02); "
        f"install the CUDA build: {sys.executable} -m pip install --force-reinstall torch==2.13.0"
    )


def test_a_driver_that_is_too_old_is_told_with_both_versions(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with what hides GPUs from the process."""
    is_a_cuda_build(monkeypatch, "The NVIDIA driver on your system is too old (found version 11040).\nPlease update")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    told = gpu_node.unseen()
    assert told is not None and "\n" not in told
    for words in ("for CUDA 12.8", "driver 470.57.02", "CUDA_VISIBLE_DEVICES=3", "too old (found version 11040)"):
        assert words in told


def test_nothing_is_said_where_all_is_well(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GPUs that torch sees; that are hidden on purpose; that are not there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert gpu_node.unseen() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_node.unseen({"CUDA_VISIBLE_DEVICES": ""}) is None and gpu_node.unseen() is not None
    for path in node.glob("nvidia[0-9]"):
        path.unlink()
    monkeypatch.setenv("PATH", str(node))
    assert gpu_node.gpus() == 0 and gpu_node.unseen() is None


def test_nvidia_smi_is_asked_where_the_kernel_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' subsystem has no /dev/nvidia*."""
    command = tmp_path / "nvidia-smi"
    command.write_text(
        "#!/bin/sh\n"
        'case "$1" in -L) echo "GPU 0: NVIDIA H100 (UUID: GPU-1)"; echo "GPU 1: NVIDIA H100 (UUID: GPU-2)";;\n'
        '*) echo "570.86.10";; esac\n'
    )
    command.chmod(0o755)
    monkeypatch.setattr(gpu_node, "DEVICES", tmp_path / "none")
    monkeypatch.setattr(gpu_node, "DRIVER", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert gpu_node.gpus() == 2 and gpu_node.driver() == "570.86.10"


def test_an_engine_that_takes_the_cpu_beside_gpus_says_so(
    node: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The critic on device=auto; where a GPU is asked for by name, it is the error's reason."""
    is_a_cuda_build(monkeypatch, "no driver")
    with caplog.at_level(logging.WARNING):
        assert resolve_device("auto") == "cpu"
    assert "device=auto takes the CPU: this node has 8 GPU(s), and torch sees none" in caplog.text
    with pytest.raises(EngineError, match=r"cuda:0.*for CUDA 12\.8"):
        resolve_device("cuda:0")
