"""An engine that measures a card's free memory loads when learners and rollout workers have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from verl.trainer import assemble
from verl.trainer import cluster as cluster_module
from verl.trainer.load_config import load_config

VLLM = "critic.sidecar.config.engine=vllm"


class Host:
    """A sidecar's host that writes down what it is told, as Ray's handle of one."""

    def __init__(self, said: list[str]) -> None:
        self.load = SimpleNamespace(remote=lambda timeout: said.append("load"))
        self.wait_ready = SimpleNamespace(remote=lambda timeout: said.append("wait_ready"))
        self.start = SimpleNamespace(
            remote=lambda late=False: said.append("start, to load when asked" if late else "start")
        )


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``order(*overrides)``: in which order the parts of a run are started and waited for."""

    def run(*overrides: str) -> list[str]:
        said: list[str] = []
        config = load_config(list(overrides))[0]
        cluster: Any = cluster_module.Cluster.__new__(cluster_module.Cluster)
        cluster.config, cluster.nodes = config, [SimpleNamespace(sidecar=None)]
        cluster.make_host = lambda node: setattr(node, "sidecar", Host(said))
        cluster.learners = lambda options: said.append("learners") or [Learner()]
        monkeypatch.setattr(assemble, "Cluster", lambda *given: cluster)
        watch = SimpleNamespace(start=lambda *given: said.append("learners have loaded"))
        monkeypatch.setattr(assemble, "LearnerWatch", lambda *given: watch)
        fleet = SimpleNamespace(start=lambda: said.append("workers have loaded"))
        monkeypatch.setattr(assemble, "Fleet", lambda **given: fleet)
        monkeypatch.setattr(assemble, "Sidecars", lambda *given: None)
        monkeypatch.setattr(assemble.ray_wait, "get", lambda calls, *given: ["told"])
        monkeypatch.setattr(assemble.Run, "_tell_status_page", lambda self: said.append("all is ready") or stop())
        folder = SimpleNamespace(run_id="r", file=lambda *given: None)
        progress: Any = SimpleNamespace(note=print)
        made = assemble.Run(config, folder, None, progress)  # type: ignore[arg-type]
        with pytest.raises(StopIteration):
            made.start()
        return said

    return run


class Learner:
    why_recompute = SimpleNamespace(remote=lambda: None)


def stop() -> None:
    raise StopIteration


@pytest.mark.parametrize("override", [VLLM, "+critic.sidecar.config.memory.load=asked"], ids=["vllm", "told"])
def test_it_loads_last(order: Any, override: str) -> None:
    """vLLM, or any that is told to. Its process and its run are there before; it is ready in the end."""
    assert order(override) == [
        "start, to load when asked",
        "learners",
        "learners have loaded",
        "workers have loaded",
        "load",
        "all is ready",
    ]


@pytest.mark.parametrize("overrides", [[], [VLLM, "+critic.sidecar.config.vllm.kv_cache_gb=4"]])
def test_others_load_beside_each_other(order: Any, overrides: list[str]) -> None:
    """As vLLM does with a cache of a fixed size."""
    assert order(*overrides)[:3] == ["start", "wait_ready", "learners"]
