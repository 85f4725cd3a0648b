"""docs/troubleshooting.md quotes messages as the code says them: a user searches the page for what the screen shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SOURCES = [
    *(file for folder in ("shm_bridge", "evo_vlac", "sidecar", "verl") for file in (ROOT / folder).rglob("*.py")),
    ROOT / "tests" / "conftest.py",
]
FOREIGN = ("operator torchvision::nms does not exist",)  # said by a dependency
VARIABLE = re.compile(r"\$\w+|\$\{[^}]*\}")
FREE = re.compile(r"\.\.\.|\b[A-Z]\b")  # what stands for a number, a name, a reason


def headings() -> list[str]:
    """What is quoted at the head of an entry: bold, in backticks."""
    return [" ".join(quote.split()) for quote in re.findall(r"^\*\*`([^`]+)`\*\*", PAGE, re.MULTILINE)]


def messages() -> list[str]:
    """Each string of the source as one text; what is filled in is a gap."""
    found = []
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(v.value if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    found += [VARIABLE.sub("\0", file.read_text(encoding="utf-8")) for file in (ROOT / "setup").glob("*.sh")]
    return found


MESSAGES = messages()


@pytest.mark.parametrize("quote", [quote for quote in headings() if quote not in FOREIGN])
def test_each_quoted_message_is_in_the_source(quote: str) -> None:
    """Its words in their order; capitals and dots stand for what is filled in."""
    words = [part.strip(" :;()") for part in FREE.split(quote.removeprefix("error: "))]
    pattern = ".*".join(re.escape(part) for part in words if part)
    gaps = re.compile(pattern.replace(r"\ ", r"\s+"), re.DOTALL)
    assert any(gaps.search(message) for message in MESSAGES), quote


def test_there_are_quotes() -> None:
    """The test above sees them."""
    assert len(headings()) > 10
