"""A published checkpoint (InternVLChatModel with InternLM2) straight into the model code."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from evo_vlac.convert import convert
from evo_vlac.engine import Answer, Query
from evo_vlac.errors import OutputError
from evo_vlac.model.loading import build_runner, load, place
from evo_vlac.queries import critic_query, done_query
from tests.support.critic_frames import random_frames
from tests.support.published_layout import write_published

TASK = "lift the red cube"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("published") / "vlac")


def answers(path: Path, queries: list[Query], copies: Path | None = None) -> list[Answer]:
    loaded = load(path, *place("cpu", "float32"), converted_dir=None if copies is None else str(copies))
    return build_runner(loaded).answer(queries)


def test_the_published_layout_is_converted_once(
    published: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model answers as a copy converted by hand; one line says where it is; the next start uses it."""
    frames = random_frames(3)
    queries = [done_query(frames[0], TASK), critic_query(frames[1], frames[2], TASK)]
    convert(published, tmp_path / "by hand")
    expected = answers(tmp_path / "by hand", queries)
    with caplog.at_level(logging.INFO, "evo_vlac"):
        first = answers(published, queries, tmp_path / "copies")
        again = answers(published, queries, tmp_path / "copies")
    assert first == again == expected and all(one.error is None for one in first)
    assert sum("published format" in record.message for record in caplog.records) == 1
    assert len(list((tmp_path / "copies").iterdir())) == 1


def test_a_changed_checkpoint_is_converted_anew(published: Path, tmp_path: Path) -> None:
    """The copy belongs to the files as they were; one that cannot be written is named."""
    answers(published, [], tmp_path / "copies")
    os.utime(published / "model.safetensors")
    answers(published, [], tmp_path / "copies")
    assert len(list((tmp_path / "copies").iterdir())) == 2
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        answers(published, [], tmp_path / "file")
