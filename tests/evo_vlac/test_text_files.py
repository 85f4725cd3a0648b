"""Text files of other systems are read for what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from evo_vlac.text_files import decode_text, read_text, texts_as_written

TEXT = "lève le cube\nnun"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"], ids=str
)
def test_encodings(tmp_path: Path, encoding: str) -> None:
    """With a byte order mark or without."""
    (tmp_path / "t.txt").write_bytes(TEXT.replace("\n", "\r\n").encode(encoding))
    assert read_text(tmp_path / "t.txt") == TEXT


def test_scripts_other_than_latin() -> None:
    """UTF-8 and UTF-16 of any script; an empty file is an empty text."""
    assert decode_text("提起方块".encode()) == "提起方块"
    assert decode_text("提起方块".encode("utf-16")) == "提起方块"
    assert decode_text(b"") == "" and decode_text(b"\x81") == "\ufffd"


def test_texts_that_look_like_numbers_and_dates() -> None:
    """Only at the keys of texts, in groups too; a group that is none, or is missing, is left to others to refuse."""
    text = "a: {name: 007, day: 2026-11-26, count: 012}\nrun: 1e5\nb: 3\nc: {name: null}\n"
    tree = yaml.safe_load(text)
    texts_as_written(tree, yaml.load(text, yaml.BaseLoader), ("a.name", "a.day", "run", "b.name", "c.name", "d.name"))
    assert tree == {"a": {"name": "007", "day": "2026-11-26", "count": 10}, "run": "1e5", "b": 3, "c": {"name": None}}
