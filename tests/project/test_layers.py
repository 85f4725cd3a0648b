"""The layers: who may import whom, and what an import may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("shm_bridge", "evo_vlac", "sidecar", "verl")
# verl may import evo_vlac: a policy made of VLAC needs the critic's prompts, parsing and model code, and demonstrations
# are read and written in one place. It may not import sidecar, which runs elsewhere, perhaps in another environment;
# nor may evo_vlac know of transport, serving or training.
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


def test_model_code_needs_no_more_of_evo_vlac_than_its_core():
    """What critic and policy share: a policy that imports it gets no command line, no training, no upstream names."""
    core = {"evo_vlac.checkpoint", "evo_vlac.convert", "evo_vlac.device", "evo_vlac.engine", "evo_vlac.errors"}
    core |= {"evo_vlac.images", "evo_vlac.model"}
    for path in (ROOT / "evo_vlac" / "model").rglob("*.py"):
        froms = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        names = {f"{one.module}.{alias.name}" for one in froms for alias in one.names}
        ours = {".".join(name.split(".")[:2]) for name in names if name.startswith("evo_vlac.")}
        assert ours <= core, f"{path.relative_to(ROOT)} imports {ours - core}"


def test_one_file_knows_the_layout_of_demonstrations():
    """All reading and writing of HDF5 is there, so that what one command writes the others read."""
    users = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "h5py" in imported(path)]
    assert [str(path.relative_to(ROOT)) for path in users] == ["evo_vlac/datasets/hdf5.py"]


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
