"""``~`` at the beginning of a path; what is nobody's data; names that a library takes for patterns."""

from __future__ import annotations

from pathlib import Path

import pytest

from evo_vlac.paths import from_home, is_system, without_patterns


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only ``~`` itself is the home folder."""
    monkeypatch.setenv("HOME", "/home/me")
    assert from_home("~") == Path("/home/me") and from_home("~/a/~") == Path("/home/me/a/~")
    for name in ("~backup", "~nobody-is-called-so", "~$x", "a/~", "/~", ""):
        assert from_home(name) == Path(name)


@pytest.mark.parametrize("name", ["a.h5", "~a.h5", "Müller/a.h5", "a.b/c.h5", "$5.h5"])
def test_data_is_somebodys(name: str) -> None:
    """In folders with odd names, too; the root's own name does not count."""
    assert not is_system(Path("/.cache/set") / name, Path("/.cache/set"))


def test_a_file_for_libraries_that_read_patterns(tmp_path: Path) -> None:
    """Reached by a path without one; a plain path stays itself; nothing is left."""
    for folder in ("plain", "[new] a*"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_text(folder)
        with without_patterns(tmp_path / folder / "a.jsonl") as path:
            assert path.read_text() == folder and "[" not in str(path) and path.name == "a.jsonl"
            assert (path == tmp_path / folder / "a.jsonl") == (folder == "plain")
    assert not path.exists() and (tmp_path / "[new] a*/a.jsonl").is_file()
