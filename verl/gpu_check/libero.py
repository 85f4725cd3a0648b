"""A LIBERO step at the size that the published checkpoints see: physics, and the picture of 256 px after it."""

from __future__ import annotations

import os
import time

import numpy as np
import torch

SUITE = "libero_spatial"


def libero(device: torch.device, small: bool) -> dict[str, float]:
    """The first environment process of a worker. Needs hf-libero, its assets and EGL."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])
    from verl.envs.factory import create_environment

    steps = 4 if small else 100
    environment = create_environment({"name": "libero", "suite": SUITE})
    camera, random = environment.cameras[0], np.random.default_rng(0)
    picture = np.empty(camera.shape, np.uint8)
    try:
        start = time.perf_counter()
        environment.reset(0)
        first = time.perf_counter() - start
        environment.reset(1)
        again = time.perf_counter() - start - first
        physics, drawing = [], []
        for _ in range(steps):
            begin = time.perf_counter()
            environment.step(random.uniform(-1, 1, 7).astype(np.float32))
            between = time.perf_counter()
            environment.render(camera.name, picture)
            physics.append(between - begin)
            drawing.append(time.perf_counter() - between)
    finally:
        environment.close()
    step, render = sorted(physics)[steps // 2], sorted(drawing)[steps // 2]
    return {
        "first_reset_s": first,
        "reset_s": again,
        "physics_ms": 1e3 * step,
        "render_ms": 1e3 * render,
        "steps_per_s": 1 / (step + render),
    }
