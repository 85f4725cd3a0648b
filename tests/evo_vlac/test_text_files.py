"""Text files of other systems are read for what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from evo_vlac.text_files import decode_text, read_text

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
