"""The direct engine over its model code: the phases, and what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from evo_vlac.queries import critic_query
from sidecar.config import Config, DirectConfig, MemoryConfig
from sidecar.engines.direct import load_direct
from sidecar.errors import CheckpointError
from tests.support.critic_frames import random_frames
from tests.support.published_layout import write_published

FRAMES = random_frames(10)


def test_leaving_and_coming_back_changes_no_answer(critic_path: Path) -> None:
    """UPDATE drops the caches; ROLLOUT gives the same answers."""
    engine = load_direct(Config(run_id="x", model=str(critic_path)))
    references = {"reference": FRAMES[4:10], "first": FRAMES[0]}
    keys = [*(("reference", i) for i in range(6)), *(("frame", i) for i in (0, 0, 1))]
    queries = [critic_query(FRAMES[0], FRAMES[1], "lift the red cube", keys=keys, **references)]
    before = engine.answer(queries)[0].tokens
    assert engine.memory_bytes()["feature_cache"] > 0 and engine.memory_bytes()["prefix_cache"] > 0
    engine.offload()
    assert engine.memory_bytes()["feature_cache"] == engine.memory_bytes()["prefix_cache"] == 0
    engine.restore()
    after = engine.answer(queries)[0].tokens
    assert [one.logprob for one in after] == pytest.approx([one.logprob for one in before], abs=1e-5)
    engine.close()
    assert engine.memory_bytes()["feature_cache"] == engine.memory_bytes()["device"] == 0


def test_the_configuration_reaches_the_model_code(critic_path: Path) -> None:
    """Every key of ``direct`` and of the caches."""
    memory = MemoryConfig(feature_cache_mb=2, prefix_cache_mb=3)
    direct = DirectConfig(chunk_images=1, force_number=True)
    runner = load_direct(Config(run_id="x", model=str(critic_path), direct=direct, memory=memory)).runner
    assert (runner.limits.feature_bytes, runner.limits.prefix_bytes) == (2 << 20, 3 << 20)
    assert runner.limits.chunk_images == 1 and runner.decoder.force_number


def test_a_converted_copy_lies_where_the_configuration_says(tmp_path: Path) -> None:
    """A published checkpoint is served from its copy; where none can be written, the error names the model."""
    published = write_published(tmp_path / "vlac")
    load_direct(Config(run_id="x", model=str(published), direct=DirectConfig(converted_dir=str(tmp_path / "copies"))))
    assert len(list((tmp_path / "copies").iterdir())) == 1
    (tmp_path / "file").write_text("")
    blocked = Config(run_id="x", model=str(published), direct=DirectConfig(converted_dir=str(tmp_path / "file")))
    with pytest.raises(CheckpointError, match=f"model={published}: .*cannot be written"):
        load_direct(blocked)
