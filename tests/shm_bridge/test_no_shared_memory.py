"""A machine without a usable /dev/shm: one error that says so, wherever the bridge is begun."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from shm_bridge import CameraSpec, Lane, LaneSpec, NoSharedMemory, Server
from shm_bridge.inspect import clean_run
from shm_bridge.liveness import locks

SPEC = LaneSpec(cameras=(CameraSpec("agentview", 16, 16),), frames=4)


def test_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a chroot, or a container without one: nothing is found there, and nothing can be made."""
    for module in ("names", "liveness.locks", "liveness.cleaning", "liveness.attachment", "memory.segment"):
        monkeypatch.setattr(f"shm_bridge.{module}.SHM", tmp_path / "nowhere")
    with pytest.raises(NoSharedMemory, match=r"/dev/shm cannot be used \(No such file or directory\)"):
        Server.create("nowhere")
    with pytest.raises(NoSharedMemory):
        Lane.attach("nowhere", SPEC, timeout=0.05)
    assert clean_run("nowhere") == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_it_cannot_be_written_to(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, "refused")

    monkeypatch.setattr(locks.os, "open", refuse)
    with pytest.raises(NoSharedMemory, match=r"/dev/shm cannot be used \(refused\)"):
        Server.create("test-refused")
