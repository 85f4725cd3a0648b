"""The layers: who may import whom, and what an import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("shm_bridge", "evo_vlac", "sidecar", "verl")
WITHOUT_CIRCLES = ("verl",)  # of PACKAGES
ALLOWED = {
    "shm_bridge": set(),
    "evo_vlac": set(),
    "sidecar": {"shm_bridge", "evo_vlac"},
    "verl": {"shm_bridge", "evo_vlac"},
}


def imported(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_go_one_way(package):
    """A package imports itself and what stands below it, nothing else of ours."""
    for path in (ROOT / package).rglob("*.py"):
        ours = imported(path) & set(PACKAGES) - {package}
        assert ours <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {ours - ALLOWED[package]}"


def test_the_bridge_needs_the_standard_library_numpy_and_posix_ipc_only():
    """What a foreign environment must have; benchmark peers are imported by name at run time where they are used."""
    for path in (ROOT / "shm_bridge").rglob("*.py"):
        if "bench" in path.parts or path.stem.startswith("bench") or path.name == "setup.py":  # the build's own
            continue
        foreign = imported(path) - set(sys.stdlib_module_names) - {"numpy", "posix_ipc", "shm_bridge"}
        assert not foreign, f"{path.relative_to(ROOT)} imports {foreign}"


def modules(package: str) -> dict[str, Path]:
    """All files of a package by module name; a folder's ``__init__.py`` has the folder's."""
    files = {path.relative_to(ROOT).with_suffix(""): path for path in (ROOT / package).rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path for name, path in files.items()}


def edges(files: Mapping[str, Path]) -> dict[str, set[str]]:
    """Which of ``files`` each of them imports, wherever the import stands: in functions, under TYPE_CHECKING."""
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: imports are absolute here"
                told = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= {one if one in files else str(node.module) for one in told}
        found[name] = (found[name] & set(files)) - {name}
    return found


def between_siblings(graph: Mapping[str, set[str]], folder: str) -> dict[str, set[str]]:
    """The same between what lies directly in ``folder``: each of its folders as one."""
    depth = folder.count(".") + 2
    inside: dict[str, set[str]] = {}
    for name, imports in graph.items():
        if name.startswith(f"{folder}."):
            ours = {".".join(one.split(".")[:depth]) for one in imports if one.startswith(f"{folder}.")}
            inside.setdefault(".".join(name.split(".")[:depth]), set()).update(ours)
    return {name: imports - {name} for name, imports in inside.items()}


def circle(graph: Mapping[str, set[str]]) -> list[str] | None:
    """One circle of ``graph``, its first name again at its end."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return None


@pytest.mark.parametrize("package", WITHOUT_CIRCLES)
def test_no_import_circle_between_files_or_sibling_folders(package):
    """Whoever reads a file or a folder needs what stands below it, never what stands beside it and needs it back."""
    files = modules(package)
    graph = edges(files)
    assert circle(graph) is None, "files import each other in a circle"
    for folder in [name for name, path in files.items() if path.name == "__init__.py"]:
        assert circle(between_siblings(graph, folder)) is None, f"in {folder} folders import each other in a circle"


def test_a_circle_is_seen_wherever_the_import_stands(tmp_path):
    """In a function, under TYPE_CHECKING, and between two folders whose files form none."""
    texts = {
        "a.one": "if TYPE_CHECKING:\n    from p.b.one import X\n",
        "a.two": "",
        "b.one": "",
        "b.two": "def f():\n    import p.a.two\n",
    }
    files = {"p": tmp_path / "__init__.py", "p.a": tmp_path / "a.py", "p.b": tmp_path / "b.py"}
    files |= {f"p.{name}": tmp_path / f"{name}.py" for name in texts}
    for name, path in files.items():
        path.write_text(texts.get(name.removeprefix("p."), ""))
    graph = edges(files)
    assert graph["p.a.one"] == {"p.b.one"} and circle(graph) is None
    assert set(circle(between_siblings(graph, "p")) or ()) == {"p.a", "p.b"}
    files["p.b.one"].write_text("from p.a import one\n")
    assert set(circle(edges(files)) or ()) == {"p.a.one", "p.b.one"}


@pytest.mark.parametrize("package", ["shm_bridge", "evo_vlac", "verl"])
def test_importing_a_package_does_not_import_torch(package):
    """An import is quick; torch comes with what needs it."""
    code = f"import sys, {package}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0


def test_the_prompts_are_the_published_ones_byte_for_byte():
    """The interface of the published checkpoints."""
    published = ROOT.parent / "shared" / "vlac" / "prompts.json"
    if not published.exists():
        pytest.skip("../shared/vlac/prompts.json is not there")
    assert (ROOT / "evo_vlac" / "prompts.json").read_bytes() == published.read_bytes()
