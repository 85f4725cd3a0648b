"""The environment variables that a run's actors have on every node of a cluster.

A Ray of our own inherits this process's. The nodes of a cluster have what they were started with, perhaps nothing; what
was set for the run goes with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

# What says where things lie, how nodes talk, how it is drawn and computed. Not what says what a node is: PATH, HOME,
# LD_LIBRARY_PATH, CUDA_VISIBLE_DEVICES, the batch system's own.
NAMES = (
    "CUDA_DEVICE_ORDER",
    "LIBERO_ASSETS",
    "LIBERO_CONFIG_PATH",
    "OMP_WAIT_POLICY",
    "PYOPENGL_PLATFORM",
    "PYTHONSAFEPATH",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
    "SIDECAR_PYTHON",
)
PREFIXES = (
    "EGL_",
    "FI_",  # libfabric and UCX: what NCCL may go through
    "GLOO_",
    "HF_",
    "HUGGINGFACE_",
    "MESA_",
    "MUJOCO_",
    "NCCL_",
    "PYTORCH_",
    "SHM_BRIDGE_",
    "TOKENIZERS_",
    "TORCH_",
    "TRANSFORMERS_",
    "UCX_",
    "VLLM_",
    "WANDB_",
    "__EGL_VENDOR_LIBRARY",
)


def for_actors(environment: Mapping[str, str] = os.environ, also: str | None = None) -> dict[str, str]:
    """Of ``environment``: what actors are to have; the folders of Python's modules first, this one's among them.

    Args:
        also: the name of one more variable, ``critic.sidecar.config.openai.api_key_env``.
    """
    chosen = {
        name: value for name, value in environment.items() if name in NAMES or name.startswith(PREFIXES) or name == also
    }
    modules = os.pathsep.join(filter(None, [os.getcwd(), environment.get("PYTHONPATH")]))
    return {**chosen, "PYTHONPATH": modules}
