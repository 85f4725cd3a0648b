"""What this machine has: memory, /dev/shm, cards, drivers. Reads; judges nothing and holds nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psutil

SHM = Path("/dev/shm")
CGROUPS = Path("/sys/fs/cgroup")
ASKED_S = 20.0  # nvidia-smi on a node with eight cards takes some seconds when nothing holds the driver


@dataclass(frozen=True, slots=True)
class Card:
    """A GPU as its driver describes it; bytes."""

    name: str
    total: float
    free: float


@dataclass(frozen=True, slots=True)
class Machine:
    """Bytes; of memory the less of what the machine and what this container has.

    Attributes:
        driver: the NVIDIA driver's version; None where there is none.
        torch_cuda: CUDA of this torch; None: a build for the CPU. ``torch_cards``: the GPUs that it sees.
        problem: why the cards could not be asked; None where they could.
    """

    cores: int
    memory: float
    memory_free: float
    shm: float
    shm_free: float
    cards: tuple[Card, ...] = ()
    driver: str | None = None
    torch: str = ""
    torch_cuda: str | None = None
    torch_cards: int = 0
    problem: str | None = None
    environment: dict[str, str] = field(default_factory=dict)


def this_machine() -> Machine:
    """Asks the system, ``nvidia-smi`` and torch; starts no CUDA context."""
    import torch

    there = psutil.virtual_memory()
    limit, used = _container()
    shm = os.statvfs(SHM)
    cards, driver, problem = _cards()
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory=min(float(there.total), limit),
        memory_free=min(float(there.available), limit - used),
        shm=float(shm.f_blocks * shm.f_frsize),
        shm_free=float(shm.f_bavail * shm.f_frsize),
        cards=cards,
        driver=driver,
        torch=str(torch.__version__),
        torch_cuda=torch.version.cuda,
        torch_cards=torch.cuda.device_count(),
        problem=problem,
        environment={name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES", "MUJOCO_GL") if name in os.environ},
    )


def _container() -> tuple[float, float]:
    """Limit and use of this process's memory cgroup (version 2, then 1), bytes; infinity and 0 without one."""
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most = (CGROUPS / limit).read_text().strip()
            if most != "max":
                return float(most), float((CGROUPS / usage).read_text())
        except (OSError, ValueError):
            continue
    return float("inf"), 0.0


def _cards() -> tuple[tuple[Card, ...], str | None, str | None]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), None, None
    query = ["--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run([program, *query], capture_output=True, text=True, timeout=ASKED_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), None, f"nvidia-smi cannot be asked: {error}"
    if done.returncode:
        return (), None, f"nvidia-smi: {(done.stdout + done.stderr).strip().splitlines()[-1:] or 'no answer'}"
    return read_cards(done.stdout)


def read_cards(text: str) -> tuple[tuple[Card, ...], str | None, str | None]:
    """From nvidia-smi's lines (name, MiB in all, MiB free, driver): the cards, the driver, and what is wrong."""
    cards, driver = [], None
    for line in text.splitlines():
        name, total, free, driver = (word.strip() for word in line.rsplit(",", 3))
        if not (total.isdigit() and free.isdigit()):  # a card cut into instances by MIG says [N/A]
            return (), driver, f"nvidia-smi does not tell the memory of {name} ({total}): is it cut by MIG?"
        cards.append(Card(name, float(total) * 2**20, float(free) * 2**20))
    return tuple(cards), driver, None
