"""A card that is full while an engine loads, in CUDA's and its libraries' words: no broken checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evo_vlac import swift_engine
from evo_vlac.errors import CheckpointError, OutOfMemoryError
from evo_vlac.halving import is_out_of_memory
from evo_vlac.swift_engine import SwiftEngine


@pytest.mark.parametrize(
    "text",
    ["CUDA error: out of memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"],
)
def test_a_model_that_does_not_fit_is_no_broken_checkpoint(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """torch has a class for its own allocator alone; the rest are RuntimeErrors."""
    fail_with(monkeypatch, RuntimeError(text))
    with pytest.raises(OutOfMemoryError, match=f"does not fit on cpu: {text[:20]}") as caught:
        SwiftEngine(checkpoint, device="cpu")
    assert is_out_of_memory(caught.value)


def test_another_failure_stays_what_it_is(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not worth another try."""
    fail_with(monkeypatch, RuntimeError("size mismatch for lm_head.weight"))
    with pytest.raises(CheckpointError, match="cannot be loaded: size mismatch"):
        SwiftEngine(checkpoint, device="cpu")


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def engine(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(swift_engine, "_quiet_swift", lambda: engine)
