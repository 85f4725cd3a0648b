"""Off-screen rendering of a MuJoCo model straight into a buffer that the caller owns.

    mjv_updateScene -> mjr_render (EGL) -> mjr_readPixels -> out        one write per pixel on the way to the critic

On a machine without a GPU the time goes into vertices: most of the arm's 200,000 triangles lie outside the picture, and
MuJoCo hands all of them to the driver. So geoms whose bounding box lies outside the camera's pyramid are left out.
That changes no pixel as long as nothing outside the picture is seen in it, so with shadows or reflections nothing is
left out.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from typing import Any

import numpy as np

from verl.envs import egl
from verl.envs.base import Camera
from verl.errors import ConfigError, RenderingUnavailableError

os.environ.setdefault("MUJOCO_GL", "egl")

HIDDEN_GROUP = 5  # a geom group that no default option shows
BACKDROP = ("mount0_pedestal_vis",)  # a third of all triangles for a strip behind the arm: drawn with effects only
INSTALL = "apt-get install -y libegl1 libgl1 libglx-mesa0 libegl-mesa0 libgles2"


class Renderer:
    """The cameras of one model. Used by one thread: the GL context is made current at every call.

    Args:
        model, data: ``mujoco.MjModel`` and ``mujoco.MjData`` of the simulation.
        cameras: what to render; ``camera.name`` is the name in the model.
        effects: shadows and reflections (three times the time of a picture without a GPU).
        samples: anti-aliasing samples a pixel, 0 switches it off.
    """

    def __init__(
        self, model: Any, data: Any, cameras: tuple[Camera, ...], *, effects: bool = False, samples: int = 4
    ) -> None:
        import mujoco

        self._mj, self._model, self._data = mujoco, model, data
        self._cameras = {camera.name: camera for camera in cameras}
        names = [model.camera(i).name for i in range(model.ncam)]
        for camera in cameras:
            if camera.name not in names:
                raise ConfigError(f"env.cameras: {camera.name!r} is not in the model; allowed are {', '.join(names)}")
        width, height = max(c.width for c in cameras), max(c.height for c in cameras)
        model.vis.quality.offsamples = samples
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        if not effects:
            model.vis.quality.shadowsize = 0  # 64 MB that nothing would be drawn into
        self._gl = _open_context(width, height)
        self._gl.make_current()
        egl.note_renderer()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._free = weakref.finalize(self, _free, self._context, self._gl)
        atexit.register(self._free)  # before EGL's own, which is older; finalize's own would come after it and complain
        self._scene = mujoco.MjvScene(model, 2000)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = int(effects)
        self._cull = not effects
        self._groups = model.geom_group.copy()
        if not effects:
            names = [model.geom(i).name for i in range(model.ngeom)]
            self._groups[[i for i, name in enumerate(names) if name in BACKDROP]] = HIDDEN_GROUP
        self._bounded = model.geom_rbound > 0  # planes have no bound
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        self._corners = model.geom_aabb[:, None, :3] + signs * model.geom_aabb[:, None, 3:]  # (ngeom, 8, 3)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[0] = 0  # collision shapes
        self._option.geomgroup[1] = 1  # what is meant to be seen
        self._perturb = mujoco.MjvPerturb()
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def render(self, camera: str, out: np.ndarray) -> None:
        """Draws ``camera`` into ``out``, (H, W, 3) uint8, C-contiguous; the lowest row of the picture comes first.

        Raises:
            ConfigError: an unknown camera, or a buffer of another shape or type.
        """
        spec = self._cameras.get(camera)
        if spec is None:
            raise ConfigError(f"camera {camera!r} is not rendered here; allowed are {', '.join(self._cameras)}")
        if out.shape != spec.shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ConfigError(f"camera {camera!r} needs a C-contiguous uint8 buffer {spec.shape}, got {out.shape}")
        number = self._model.camera(camera).id
        self._view.fixedcamid = number
        if self._cull:
            outside = self._outside(number, spec.width / spec.height)
            self._model.geom_group[:] = np.where(outside, HIDDEN_GROUP, self._groups)
        self._gl.make_current()
        mj = self._mj
        mj.mjv_updateScene(
            self._model, self._data, self._option, self._perturb, self._view, mj.mjtCatBit.mjCAT_ALL, self._scene
        )
        viewport = mj.MjrRect(0, 0, spec.width, spec.height)
        mj.mjr_render(viewport, self._scene, self._context)
        mj.mjr_readPixels(out, None, viewport, self._context)

    def _outside(self, camera: int, aspect: float) -> np.ndarray:
        """(ngeom,) bool: the bounding box lies wholly outside one of the pyramid's sides or behind the camera."""
        data, view = self._data, self._data.cam_xmat[camera].reshape(3, 3)  # camera frame: looks along -z
        turned = data.geom_xmat.reshape(-1, 3, 3)
        corners = np.einsum("gij,gcj->gci", turned, self._corners) + data.geom_xpos[:, None]
        x, y, z = np.moveaxis((corners - data.cam_xpos[camera]) @ view, -1, 0)  # each (ngeom, 8)
        half = np.tan(np.deg2rad(self._model.cam_fovy[camera]) / 2)
        reach_x, reach_y = -z * half * aspect, -z * half
        sides = (z > 0, x > reach_x, -x > reach_x, y > reach_y, -y > reach_y)
        outside = np.logical_or.reduce([side.all(axis=1) for side in sides])
        hidden: np.ndarray = outside & self._bounded
        return hidden

    def close(self) -> None:
        """Frees the GL context. Safe to call twice."""
        self._free()
        atexit.unregister(self._free)


def _free(context: Any, gl: Any) -> None:
    from OpenGL.error import GLError

    with contextlib.suppress(GLError):  # at exit somebody else may have ended the display already
        gl.make_current()
        context.free()
        gl.free()


def _open_context(width: int, height: int) -> Any:
    """An EGL (or, by ``MUJOCO_GL``, OSMesa) context.

    Raises:
        RenderingUnavailableError: naming the line that installs what is missing.
    """
    try:
        import mujoco

        return mujoco.GLContext(width, height)
    except (ImportError, AttributeError, OSError, RuntimeError, TypeError) as error:
        raise RenderingUnavailableError(
            f"no off-screen renderer (MUJOCO_GL={os.environ.get('MUJOCO_GL')}): {error}. Install it with: {INSTALL}"
        ) from error
