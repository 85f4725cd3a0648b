"""From a name in the configuration to an engine, loaded. The heavy imports happen here, after everything cheap is
checked."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

from evo_vlac import checkpoint
from evo_vlac.engine import Engine
from evo_vlac.errors import EvoVlacError, OutOfMemoryError
from evo_vlac.halving import is_out_of_memory
from sidecar.config import Config
from sidecar.engines.base import PlainEngine, SidecarEngine
from sidecar.engines.devices import check_vllm_on_a_cpu
from sidecar.errors import CheckpointError, EngineUnavailableError, NoRoomError, SidecarError

_PATIENCE = 0.8  # of health.batch_s: what a remote engine waits for its server in all
_NEEDS = {"direct": ("torch", "transformers"), "swift": ("swift",), "vllm": ("vllm",)}
LOCAL = tuple(_NEEDS)  # engines that load a model here


def check(config: Config) -> None:
    """What can be wrong before anything heavy is imported: the checkpoint's files, missing packages.

    Raises EngineUnavailableError, CheckpointError.
    """
    check_packages(config)
    check_checkpoint(config)
    check_adapter(config)


def check_packages(config: Config) -> None:
    """Whether what the engine imports is installed; imports nothing."""
    for package in _NEEDS.get(config.engine, ()):
        if importlib.util.find_spec(package) is None:
            raise EngineUnavailableError(f"engine={config.engine}: the package {package} is not installed here")
    if config.engine == "vllm" and config.device == "cpu":
        check_vllm_on_a_cpu()
    if config.engine == "direct" and config.direct.quantize and "cpu" in (config.devices or config.device).split(","):
        raise EngineUnavailableError(f"direct.quantize={config.direct.quantize}: for a GPU; allowed on the CPU: null")
    if config.engine == "direct" and config.direct.quantize and importlib.util.find_spec("torchao") is None:
        raise EngineUnavailableError(
            f"direct.quantize={config.direct.quantize}: the package torchao is not installed here"
        )


def check_checkpoint(config: Config) -> None:
    """Whether ``model`` is a checkpoint folder, for an engine that loads one."""
    if config.engine not in _NEEDS:
        return
    assert config.model is not None  # the configuration holds it
    try:
        checkpoint.inspect(config.model)
    except EvoVlacError as error:
        raise CheckpointError(f"model={config.model}: {error}") from None


def check_adapter(config: Config) -> None:
    """Whether ``adapter`` is one, and the engine takes one."""
    if config.adapter is None:
        return
    if config.engine not in ("direct", "swift"):
        raise EngineUnavailableError(f"adapter={config.adapter}: engine={config.engine} takes none; merge it first")
    try:
        checkpoint.check_adapter(config.adapter)
    except EvoVlacError as error:
        raise CheckpointError(f"adapter={config.adapter}: {error}") from None


def uses_cuda(config: Config) -> bool:
    """Whether the engine will hold memory of a CUDA device of this machine."""
    if config.engine not in _NEEDS or config.device == "cpu":
        return False
    if config.devices is not None:
        return config.devices == "all" or "cuda" in config.devices
    import torch

    return bool(torch.cuda.is_available())


def load(config: Config) -> SidecarEngine:
    """The engine that ``config.engine`` names.

    Raises CheckpointError, EngineUnavailableError, MemoryBudgetError, NoRoomError.
    """
    if config.devices is not None:
        return _load_replicas(config, config.devices)
    if config.engine == "fixed":
        from sidecar.engines.fixed import FixedEngine

        return FixedEngine(config.fixed)
    if config.engine == "openai":
        from sidecar.engines.openai import OpenaiEngine
        from sidecar.engines.openai_servers import OpenaiServers

        kind = OpenaiServers if len(config.openai.urls) > 1 else OpenaiEngine
        return kind(config.openai, patience_s=_PATIENCE * config.health.batch_s)
    try:
        return _load_local(config)
    except SidecarError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if is_out_of_memory(error):
            raise NoRoomError(f"model={config.model}: no room for it on device={config.device}: {reason}") from error
        raise CheckpointError(f"model={config.model}: cannot be loaded by engine={config.engine}: {reason}") from error


def _load_replicas(config: Config, devices: str) -> SidecarEngine:
    """A process for each device; in this one where there is one only."""
    from sidecar.engines.devices import named
    from sidecar.engines.replicas import ReplicaEngine

    found = named(devices)
    if len(found) == 1:
        return load(replace(config, devices=None, device=found[0]))
    return ReplicaEngine(config, found)


def _load_local(config: Config) -> SidecarEngine:
    if config.engine == "direct":
        from sidecar.engines.direct import load_direct

        return load_direct(config)
    if config.engine == "vllm":
        from sidecar.engines.vllm import VllmEngine

        return VllmEngine(config)
    return _load_swift(config)


def _load_swift(config: Config) -> SidecarEngine:
    from evo_vlac.swift_engine import SwiftEngine

    assert config.model is not None
    try:
        engine: Engine = SwiftEngine(
            config.model,
            device=config.device,
            dtype=config.dtype,
            max_batch_size=config.batch.max_size,
            adapter=config.adapter,
        )
        return PlainEngine(engine)
    except OutOfMemoryError:
        raise
    except EvoVlacError as error:
        raise CheckpointError(f"model={config.model}: {error}") from error
