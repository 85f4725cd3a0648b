"""What the system says of NVIDIA's GPUs, beside what torch sees of them.

torch sees none where its build is the CPU's, where the driver is too old for its CUDA, or where the GPUs are hidden
from the process; ``torch.cuda.is_available()`` is False in each case, and code that asks only that takes the CPU.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

DEVICES = Path("/dev")
DRIVER = Path("/proc/driver/nvidia/version")
ASK_S = 20.0  # for nvidia-smi
CPU_BUILD = "+cpu"


def gpus() -> int:
    """How many GPUs of NVIDIA the system has, visible to this process or not."""
    found = sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in DEVICES.glob("nvidia*"))
    return found or _asked("-L").count("GPU ")


def driver() -> str:
    """The version of NVIDIA's driver."""
    try:
        found = re.search(r"\d+(\.\d+)+", DRIVER.read_text())
    except OSError:
        found = re.search(r"\d+(\.\d+)+", _asked("--query-gpu=driver_version", "--format=csv,noheader"))
    return found[0] if found else "of an unknown version"


def unseen(environment: Mapping[str, str] = os.environ) -> str | None:
    """A line where there are GPUs and torch sees none, with the reason and what to do; None where all is well, as where
    CUDA_VISIBLE_DEVICES hides them on purpose."""
    hidden = environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or not (count := gpus()):
        return None
    import torch

    return None if torch.cuda.is_available() else f"this node has {count} GPU(s), and torch sees none: {reason()}"


def cpu_build() -> str | None:
    """torch's version where it is the CPU build; None where it is another, or not installed. Does not import it."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None
    return version if version.endswith(CPU_BUILD) else None


def reason() -> str:
    """Why torch sees no GPU: its version and CUDA, the driver, and what CUDA says or what to install."""
    import torch

    version, visible = torch.__version__, os.environ.get("CUDA_VISIBLE_DEVICES")
    if torch.version.cuda is None:
        return f"torch {version} is not a CUDA build (NVIDIA driver {driver()}); {install(version)}"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        said = "CUDA says nothing of it"
    except (RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split())[:300]
    told = "" if visible is None else f", CUDA_VISIBLE_DEVICES={visible}"
    return f"torch {version} for CUDA {torch.version.cuda}, NVIDIA driver {driver()}{told}: {said}"


def install(version: str) -> str:
    """The command that puts the CUDA build of torch in the place of another."""
    plain = version.partition("+")[0]
    return f"install the CUDA build: {sys.executable} -m pip install --force-reinstall torch=={plain}"


def _asked(*arguments: str) -> str:
    """What nvidia-smi prints; nothing where there is none, or it fails."""
    if (command := shutil.which("nvidia-smi")) is None:
        return ""
    try:
        done = subprocess.run([command, *arguments], capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
