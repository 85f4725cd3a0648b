"""Building the native backend by hand: what is missing is said in one line."""

from __future__ import annotations

import importlib.util

import pytest

from shm_bridge import build_native


def test_without_cython_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Not a traceback."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert build_native.main() == 1
    assert capsys.readouterr().err == "error: Cython is missing: pip install -c setup/constraints.txt cython\n"


def test_a_failing_compiler_is_quoted(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """One without a compiler, too."""

    def fails(folder):
        raise FileNotFoundError("cc")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(build_native, "build", fails)
    assert build_native.main() == 1
    assert capsys.readouterr().err == "error: cc\n"
