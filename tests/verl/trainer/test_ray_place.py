"""A long TMPDIR, as batch systems have it, does not keep Ray from starting."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from ray._common.utils import get_default_ray_temp_dir
from ray._private.utils import validate_socket_filepath

from verl.trainer.ray_place import LONGEST, shorten_temp_folder


@pytest.mark.parametrize("length", [8, 39, 40, 90])
def test_rays_sockets_have_a_path_that_is_short_enough(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, length: int
) -> None:
    """Whatever TMPDIR is; one that does is left alone."""
    temporary = "/tmp/".ljust(length, "x")
    monkeypatch.setenv("TMPDIR", temporary)
    monkeypatch.setattr(tempfile, "tempdir", temporary)
    monkeypatch.setenv("RAY_TMPDIR", "")  # so that what is set here is undone
    del os.environ["RAY_TMPDIR"]
    shorten_temp_folder()
    chosen = get_default_ray_temp_dir()
    validate_socket_filepath(chosen.removesuffix("/ray") + LONGEST)
    assert ("RAY_TMPDIR" in os.environ) == (length + len(LONGEST) > 107)


def test_a_folder_that_the_user_has_named_for_ray_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAY_TMPDIR is Ray's own way to say it."""
    monkeypatch.setenv("RAY_TMPDIR", "/scratch/ray")
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 90)
    shorten_temp_folder()
    assert os.environ["RAY_TMPDIR"] == "/scratch/ray"
