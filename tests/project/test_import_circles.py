"""No import circle between files of a package, nor between its sibling folders.

Imports inside functions and under TYPE_CHECKING count: a circle that is only hidden is still two files that cannot be
understood, or changed, one without the other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("shm_bridge", "evo_vlac", "sidecar", "verl")


def imports(package: str) -> dict[str, set[str]]:
    """The modules of a package, and which others of them each imports."""
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / package).rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in files.items()}
    return {
        name: {found for found in named(path) if found in modules} - {name}
        | {f"{found.rpartition('.')[0]}" for found in named(path) if found not in modules} & modules.keys() - {name}
        for name, path in modules.items()
    }


def named(path: Path) -> Iterator[str]:
    """Dotted names that a file imports; ``from a import b`` names ``a.b``, which may be a module or a name of ``a``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """A circle of the graph, its first node again at its end; empty where there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for following in sorted(graph[node]):
            if found := walk(following, [*path, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := walk(node, []))), [])


def folders(graph: Mapping[str, set[str]], parent: str) -> dict[str, set[str]]:
    """The folders of ``parent`` that hold modules, and which of their siblings each imports."""

    def folder(module: str) -> str | None:
        """The sibling that a module lies in: a folder has modules below it."""
        if not module.startswith(parent + "."):
            return None
        name = ".".join(module.split(".")[: parent.count(".") + 2])
        return name if any(other.startswith(name + ".") for other in graph) else None

    siblings: dict[str, set[str]] = {name: set() for module in graph if (name := folder(module)) is not None}
    for module, imported in graph.items():
        own = folder(module)
        if own is not None:
            siblings[own] |= {found for other in imported if (found := folder(other)) not in (None, own)}
    return siblings


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_between_files(package: str) -> None:
    """Each file can be understood before those that import it."""
    assert circle(imports(package)) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_circle_between_folders(package: str) -> None:
    """Nor does a folder need a sibling that needs it."""
    graph = imports(package)
    for parent in sorted({module.rpartition(".")[0] for module in graph} - {""}):
        assert circle(folders(graph, parent)) == [], parent


def test_a_circle_is_found() -> None:
    """The search itself, over files and over folders."""
    graph = {"p": set(), "p.a.x": {"p.b.y"}, "p.b.y": set(), "p.b.z": {"p.a.w"}, "p.a.w": set()}
    assert circle(graph) == [] and circle(folders(graph, "p")) == ["p.a", "p.b", "p.a"]
    assert circle({**graph, "p.b.y": {"p.a.x"}}) == ["p.a.x", "p.b.y", "p.a.x"]
