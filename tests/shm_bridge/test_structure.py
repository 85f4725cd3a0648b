"""The bridge's files stand in layers, and its own wheel holds them all."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.shm_bridge.conftest import ROOT

PACKAGE = ROOT / "shm_bridge"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
    if "build" not in path.relative_to(PACKAGE).parts  # what `pip install ./shm_bridge` leaves
}
Graph = dict[str, set[str]]


def module_of(name: str) -> str:
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def imports_of(path: Path) -> set[str]:
    """Of our own modules, wherever in the file: also in functions, also for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {module_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {module_of(f"{node.module}.{alias.name}") for alias in node.names}
    return found - {""}


def circles(graph: Graph) -> list[str]:
    """Names from which a way leads back to themselves."""
    found = []
    for start in graph:
        seen, ahead = set[str](), [start]
        while ahead:
            new = graph.get(ahead.pop(), set()) - seen
            seen |= new
            ahead += new
        if start in seen:
            found.append(start)
    return found


FILES: Graph = {name: imports_of(path) - {name, "shm_bridge"} for name, path in MODULES.items() if name != "shm_bridge"}


def test_no_file_is_in_a_circle_of_imports() -> None:
    assert len(FILES) > 40 and circles(FILES) == []


def test_no_folder_is_in_a_circle_of_imports() -> None:
    """Nor a file that stands beside the folders."""
    graph: Graph = {}
    for name, imported in FILES.items():
        own = name.split(".")[1]
        graph.setdefault(own, set()).update(other.split(".")[1] for other in imported)
        graph[own].discard(own)
    assert circles(graph) == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_its_own_wheel_has_every_folder() -> None:
    """pip install ./shm_bridge takes the packages that are listed there."""
    import tomllib

    listed = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(name for name, path in MODULES.items() if path.name == "__init__.py")
