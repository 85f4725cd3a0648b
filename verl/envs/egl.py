"""Which card an environment's process draws on, and with what it drew.

EGL counts a node's devices in an order of its own, software renderers among them, and does not look at
CUDA_VISIBLE_DEVICES: left alone, every process draws on the first card that it finds. A container that was given a GPU
to compute on, and not to draw on, shows EGL no card at all; Mesa's software renderer then takes its place in silence.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re

from evo_vlac import gpu_node

logger = logging.getLogger(__name__)
DEVICE, VISIBLE = "MUJOCO_EGL_DEVICE_ID", "CUDA_VISIBLE_DEVICES"
CUDA_DEVICE_NV = 0x323A  # of the extension EGL_NV_device_cuda
SOFTWARE = re.compile("llvmpipe|softpipe|swrast|software", re.IGNORECASE)
_drawn: list[str] = []  # the renderer of the latest context


def take_card(card: int | None) -> None:
    """Has MuJoCo draw on a card by naming EGL's number of it, unless the user has named one.

    Args:
        card: CUDA's number of it on this node; None: no certain one.
    """
    if card is None or DEVICE in os.environ or os.environ.get("MUJOCO_GL", "egl") != "egl":
        return
    numbers = cuda_numbers()
    if card in numbers:
        os.environ[DEVICE] = str(numbers.index(card))
    else:
        logger.warning("EGL does not know GPU %d among its %d device(s)", card, len(numbers))


def cuda_numbers() -> list[int | None]:
    """CUDA's number of each of EGL's devices, None of one that is no card of NVIDIA's; all of the node's cards have
    theirs, whatever is hidden from CUDA in this process. Empty without EGL."""
    hidden = os.environ.pop(VISIBLE, None)
    try:
        from mujoco.egl import egl_ext as egl

        address = egl.eglGetProcAddress("eglQueryDeviceAttribEXT")
        kind = ctypes.CFUNCTYPE(egl.EGLBoolean, egl.EGLDeviceEXT, egl.EGLint, ctypes.POINTER(ctypes.c_ssize_t))
        ask, found = kind(address), []
        for device in egl.eglQueryDevicesEXT():
            number = ctypes.c_ssize_t(-1)
            known = ask(device, CUDA_DEVICE_NV, ctypes.byref(number)) and number.value >= 0
            found.append(number.value if known else None)
        egl.eglGetError()  # of devices that do not know the question: else the next call would be blamed
        return found
    except (ImportError, AttributeError, OSError, TypeError, RuntimeError) as error:  # the renderer's error says more
        logger.debug("EGL's devices cannot be asked: %s", error)
        return []
    finally:
        if hidden is not None:
            os.environ[VISIBLE] = hidden


def note_renderer() -> None:
    """Keeps the name of what draws in the GL context that is current."""
    from OpenGL import GL
    from OpenGL.error import Error

    try:
        name = GL.glGetString(GL.GL_RENDERER)
    except Error:
        return
    if name:
        _drawn[:] = [name.decode(errors="replace") if isinstance(name, bytes) else str(name)]


def renderer() -> str | None:
    """The name of what drew last in this process, as ``NVIDIA H100 80GB HBM3/PCIe/SSE2``; None: nothing of ours."""
    return _drawn[0] if _drawn else None


def software_beside_gpus(name: str) -> str | None:
    """A line where a software renderer draws on a node that has GPUs."""
    if SOFTWARE.search(name) is None or not (count := gpu_node.gpus()):
        return None
    return (
        f"environments are drawn in software ({name}) on a node with {count} GPU(s): the container was not given the "
        "graphics capability; start it with NVIDIA_DRIVER_CAPABILITIES=all, or graphics,compute,utility"
    )
