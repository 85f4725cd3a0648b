"""Each worker's environments draw on its card, by EGL's number of it; software beside GPUs is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from evo_vlac import gpu_node
from tests.verl.envs.test_pool import drive, request
from verl.envs import egl
from verl.envs.pool import EnvPool
from verl.trainer.ppo.renderers import Renderers
from verl.workers.advance import Advance
from verl.workers.device import card_number

MESA = "llvmpipe (LLVM 15.0.6, 256 bits)"


@pytest.fixture
def four_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose EGL counts its cards backwards, and lists a software renderer first; nothing is chosen yet."""
    monkeypatch.setattr(egl, "cuda_numbers", lambda: [None, 3, 2, 1, 0])
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setenv(egl.DEVICE, "")
    monkeypatch.delenv(egl.DEVICE)


@pytest.mark.parametrize(("card", "number"), [(0, "4"), (3, "1"), (7, None), (None, None)])
def test_a_card_is_named_by_egls_number(four_cards: None, card: int | None, number: str | None) -> None:
    """An unknown one is left to MuJoCo."""
    egl.take_card(card)
    assert egl.os.environ.get(egl.DEVICE) == number


def test_what_the_user_named_stays(four_cards: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As does another kind of drawing."""
    monkeypatch.setenv(egl.DEVICE, "2")
    egl.take_card(0)
    assert egl.os.environ[egl.DEVICE] == "2"
    monkeypatch.delenv(egl.DEVICE)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    egl.take_card(0)
    assert egl.DEVICE not in egl.os.environ


@pytest.mark.parametrize(
    ("device", "visible", "number"),
    [
        ("cpu", "3", None),
        ("cuda:0", "3", 3),
        ("cuda:1", "3,5", 5),
        ("cuda:1", None, 1),
        ("cuda:0", "GPU-8f1c2d3e-0000-1111-2222-333344445555", None),
        ("cuda:1", "3", None),
    ],
)
def test_a_workers_card_has_the_nodes_number(device: str, visible: str | None, number: int | None) -> None:
    """Ray shows a worker one card, which is cuda:0 there."""
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert card_number(torch.device(device), environment) == number


def test_egls_devices_can_be_asked() -> None:
    """In a process of its own, with cards hidden from CUDA; what is no card has no number, and drawing goes on."""
    code = (
        "import os\nfrom verl.envs import egl\nnumbers = egl.cuda_numbers()\n"
        "assert os.environ['CUDA_VISIBLE_DEVICES'] == '3'\n"
        "import mujoco\ncontext = mujoco.GLContext(8, 8)\ncontext.make_current()\negl.note_renderer()\n"
        "print(len(numbers), '/', egl.renderer(), flush=True)\nos._exit(0)"
    )
    environment = {**egl.os.environ, "CUDA_VISIBLE_DEVICES": "3", "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    count, _, name = done.stdout.partition(" / ")
    assert done.returncode == 0, done.stderr
    assert int(count) >= 1 and name.strip() not in ("", "None")


THREE_DEVICES = """
import ctypes
EGLBoolean, EGLDeviceEXT, EGLint = ctypes.c_uint, ctypes.c_void_p, ctypes.c_int
NUMBERS = {1: None, 2: 5, 3: 3}

@ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_ssize_t))
def ask(device, attribute, value):
    if attribute != 0x323A or NUMBERS[device] is None:
        return 0
    value[0] = NUMBERS[device]
    return 1

eglGetProcAddress = lambda name: ctypes.cast(ask, ctypes.c_void_p).value
eglQueryDevicesEXT = lambda: list(NUMBERS)
eglGetError = lambda: 0x3000
"""


def test_a_workers_environments_draw_on_its_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The number reaches their processes, EGL is asked there, and what was drawn with comes back."""
    (tmp_path / "mujoco" / "egl").mkdir(parents=True)
    for package in ("mujoco", "mujoco/egl"):
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "mujoco" / "egl" / "egl_ext.py").write_text(THREE_DEVICES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.delenv(egl.DEVICE, raising=False)
    pool = EnvPool({"name": "tests.verl.envs.drawn_env:DrawnEnv"}, None, 1, card=5)
    try:
        pool.submit(request(0))
        drive(pool, 1)
        assert pool.renderer == "device 1"
    finally:
        pool.close()


def test_software_beside_gpus_is_a_warning_that_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without GPUs there is nothing to say."""
    monkeypatch.setattr(gpu_node, "gpus", lambda: 8)
    told = egl.software_beside_gpus(MESA)
    assert told is not None and "NVIDIA_DRIVER_CAPABILITIES=all" in told and MESA in told
    assert egl.software_beside_gpus("NVIDIA H100 80GB HBM3/PCIe/SSE2") is None
    monkeypatch.setattr(gpu_node, "gpus", lambda: 0)
    assert egl.software_beside_gpus(MESA) is None


def test_the_name_is_logged_once_a_worker_and_the_warning_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Every report carries both."""
    caplog.set_level("INFO")
    told: list[str] = []
    renderers = Renderers(told.append)
    report: Any = Advance(renderer=MESA, renderer_warning="drawn in software")
    for worker in (0, 1, 0, 1):
        renderers.reported(worker, report)
    assert [line.split(":")[0] for line in caplog.messages] == ["rollout worker 0", "rollout worker 1"]
    assert told == ["rollout worker 0: drawn in software"]
