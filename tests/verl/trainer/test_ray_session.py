"""Ray of our own: what it takes over is given back, and a start that is interrupted leaves no folder."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from ray._common.utils import get_default_ray_temp_dir

from verl.trainer import ray_session
from verl.trainer.load_config import load_config


def test_a_start_that_is_interrupted_leaves_no_session_folder(monkeypatch, tmp_path):
    """Ctrl-C while Ray starts: its folder is there, and nobody has been told its name. An earlier one stays."""
    config, _ = load_config([])
    session = Path(get_default_ray_temp_dir()) / f"session_2026-01-01_00-00-00_000000_{os.getpid()}"
    earlier = session.with_name(session.name.replace("2026", "2999"))
    earlier.mkdir(parents=True)

    def start(_):
        (session / "logs").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(ray_session, "start_ray", start)
    with pytest.raises(KeyboardInterrupt), ray_session.ray_session(config, [], tmp_path):
        raise AssertionError("not started")
    assert not session.exists() and earlier.exists()
    earlier.rmdir()


def test_sigterm_is_pythons_again_once_ray_has_started(tmp_path):
    """Ray's C++ code takes it over when it starts, and ends the process on the spot; in order is what was promised."""
    program = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from verl.launch import interrupt
        from verl.trainer.load_config import load_config
        from verl.trainer.ray_session import ray_session
        interrupt.install()
        try:
            with ray_session(load_config([])[0], [], Path({str(tmp_path)!r})):
                os.kill(os.getpid(), signal.SIGTERM)
                raise AssertionError("not interrupted")
        except KeyboardInterrupt:
            print("in order", flush=True)
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0 and "in order" in done.stdout, done.stderr
