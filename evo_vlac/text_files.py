"""Text as people's systems write it: UTF-8 with and without a byte order mark, UTF-16, and Windows' cp1252."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

_MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decode_text(data: bytes) -> str:
    """The text: by its byte order mark; else UTF-16 where every other byte is 0 (no mark was written); else UTF-8; else
    cp1252, in which bytes that stand for nothing become U+FFFD. Line ends become ``\\n``."""
    return _decoded(data).replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: str | Path) -> str:
    """The text of a file; see :func:`decode_text`. Raises OSError."""
    return decode_text(Path(path).read_bytes())


def texts_as_written(tree: Any, written: Any, keys: Iterable[str]) -> None:
    """Puts back what YAML reads as a number or a date where a text is wanted: a folder 007, a run 2026-11-26.

    ``tree``: a YAML file, changed in place. ``written``: the same by ``yaml.BaseLoader``, which makes nothing but
    texts. ``keys``: those of texts, as ``group.name``.
    """
    for key in keys:
        *groups, name = key.split(".")
        group, own = tree, written
        for part in groups:
            group, own = (one.get(part) if isinstance(one, dict) else None for one in (group, own))
        if isinstance(group, dict) and isinstance(own, dict) and isinstance(group.get(name), int | float | date):
            group[name] = own.get(name, group[name])


def _decoded(data: bytes) -> str:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    if len(data) >= 4 and b"\0" in data:
        odd, even = data[1::2].count(0), data[::2].count(0)
        if max(odd, even) > len(data) // 4:
            return data.decode("utf-16-le" if odd > even else "utf-16-be", errors="replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
