"""Our own engine: the model code is :mod:`evo_vlac.model`; here it reads the configuration and leaves the GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from evo_vlac.engine import Answer, Query
from evo_vlac.errors import EvoVlacError
from evo_vlac.model import loading
from evo_vlac.model.runner import Limits, ModelRunner
from sidecar.config import Config, MemoryConfig
from sidecar.engines.offload import WeightOffload
from sidecar.engines.quantized import quantize
from sidecar.errors import CheckpointError, EngineUnavailableError


class DirectEngine:
    """``runner``: answers. ``weights``: of its model, for the phases."""

    name = "direct"
    slots = 1
    mixes = False
    remote = False

    def __init__(self, runner: ModelRunner, weights: WeightOffload) -> None:
        self.runner, self.weights = runner, weights

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """See :class:`sidecar.engines.base.SidecarEngine`. Raises torch's out-of-memory error."""
        return self.runner.answer(queries)

    def forget(self) -> None:
        """Drops what is known of frames and prompts."""
        self.runner.forget()

    def offload(self) -> None:
        self.forget()
        self.weights.offload()

    def restore(self) -> None:
        self.weights.restore()

    def memory_bytes(self) -> Mapping[str, int]:
        return {**self.weights.bytes(), **self.runner.cache_bytes()}

    def close(self) -> None:
        self.runner.close()
        self.weights.free()


def load_direct(config: Config) -> DirectEngine:
    """The engine for ``config.model``. Raises CheckpointError, EngineUnavailableError, MemoryBudgetError."""
    assert config.model is not None  # the configuration holds it
    direct, (device, dtype) = config.direct, place(config.device, config.dtype)
    try:
        loaded = loading.load(config.model, device, dtype, config.adapter, direct.converted_dir)
    except EvoVlacError as error:
        raise CheckpointError(f"model={config.model}: {error}") from None
    quantize(loaded.model, direct.quantize)
    limits = Limits(_bytes(config.memory.feature_cache_mb), _bytes(config.memory.prefix_cache_mb), direct.chunk_images)
    runner = loading.build_runner(loaded, limits, compiled=direct.compile, force_number=direct.force_number)
    return direct_engine(runner, config.memory)


def place(device: str, dtype: str) -> tuple[torch.device, torch.dtype]:
    """Where and in what a model runs. Raises EngineUnavailableError where there is no such device."""
    try:
        return loading.place(device, dtype)
    except EvoVlacError as error:
        raise EngineUnavailableError(f"device={device}: {error}") from None


def direct_engine(runner: ModelRunner, memory: MemoryConfig) -> DirectEngine:
    """The engine around ``runner``, within the memory budget. Raises MemoryBudgetError."""
    budget = None if memory.budget_gb is None else int(memory.budget_gb * 1e9)
    return DirectEngine(runner, WeightOffload(runner.backbone.model, runner.backbone.device, budget))


def _bytes(mib: float) -> int:
    return int(mib * 2**20)
