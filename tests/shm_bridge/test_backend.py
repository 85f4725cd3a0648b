"""Which backend a process uses, and that it says so where a native one is there and cannot be used."""

from __future__ import annotations

import importlib
import logging

import pytest

from shm_bridge import backend


@pytest.mark.parametrize(
    ("missing", "warned"), [("shm_bridge.native._native", False), ("shm_bridge.worker.of_an_older_tree", True)]
)
def test_a_native_backend_built_of_an_older_tree_is_named(
    missing: str, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not built is ordinary; built, but of files that have other names today, costs speed and must not go unseen."""

    def fail(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setenv("SHM_BRIDGE_NATIVE", "1")
    monkeypatch.setattr(importlib, "import_module", fail)
    backend.native.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert backend.native() is None
    finally:
        backend.native.cache_clear()
    assert ("python -m shm_bridge.build_native builds it anew" in caplog.text) is warned
