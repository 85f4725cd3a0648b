"""What this machine has: memory, /dev/shm, cards, drivers. Reads; judges nothing and holds nothing."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

SHM = Path("/dev/shm")
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
MEMORY_FILES = (  # of a cgroup, version 2 and 1: limit, use, and in memory.stat what of it the system would take back
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
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
        cards: those that CUDA_VISIBLE_DEVICES leaves to this process; ``visible``: its value.
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
    visible: str | None = None


def this_machine() -> Machine:
    """Asks the system, ``nvidia-smi`` and torch; starts no CUDA context."""
    import torch

    there = psutil.virtual_memory()
    limit, left = container()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    shm = os.statvfs(SHM)
    cards, driver, problem = _cards(visible)
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory=min(float(there.total), limit),
        memory_free=min(float(there.available), left),
        shm=float(shm.f_blocks * shm.f_frsize),
        shm_free=float(shm.f_bavail * shm.f_frsize),
        cards=cards,
        driver=driver,
        torch=str(torch.__version__),
        torch_cuda=torch.version.cuda,
        torch_cards=torch.cuda.device_count(),
        problem=problem,
        visible=visible,
    )


def container() -> tuple[float, float]:
    """The smallest limit of memory among this process's cgroups and those above them, and the least that is left below
    one, bytes; infinity without one. What the system would take back, files that were read once, counts as left."""
    limits = [(math.inf, math.inf), *filter(None, map(_limit, _cgroups()))]
    return min(most for most, _ in limits), min(left for _, left in limits)


def _cgroups() -> Iterator[Path]:
    """Folders of the process's cgroups and of those above; in a container the roots alone may be there."""
    yield from (CGROUPS, CGROUPS / "memory")
    with contextlib.suppress(OSError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "memory" in controllers.split(","):
                root = CGROUPS / "memory" if controllers else CGROUPS
                names = [name for name in path.split("/") if name]
                yield from (root.joinpath(*names[:count]) for count in range(1, len(names) + 1))


def _limit(folder: Path) -> tuple[float, float] | None:
    """Limit of one cgroup and what is left of it, bytes; None where there is none."""
    for limit, usage, takes_back in MEMORY_FILES:
        with contextlib.suppress(OSError, ValueError):  # ValueError: "max"
            most, used = float((folder / limit).read_text()), float((folder / usage).read_text())
            stat = dict(line.split(maxsplit=1) for line in (folder / "memory.stat").read_text().splitlines())
            return most, most - used + float(stat.get(takes_back, 0))
    return None


def _cards(visible: str | None) -> tuple[tuple[Card, ...], str | None, str | None]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return (), None, None
    query = ["--query-gpu=name,memory.total,memory.free,driver_version,index,uuid", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run([program, *query], capture_output=True, text=True, timeout=ASKED_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), None, f"nvidia-smi cannot be asked: {error}"
    if done.returncode:
        return (), None, f"nvidia-smi: {(done.stdout + done.stderr).strip().splitlines()[-1:] or 'no answer'}"
    return read_cards(done.stdout, visible)


def read_cards(text: str, visible: str | None = None) -> tuple[tuple[Card, ...], str | None, str | None]:
    """The cards, the driver, and what is wrong.

    Args:
        text: nvidia-smi's lines: name, MiB in all, MiB free, driver, index, uuid.
        visible: CUDA_VISIBLE_DEVICES, indices or beginnings of uuids: the cards that it leaves; None: all.
    """
    cards, driver = [], None
    named = None if visible is None else [word.strip() for word in visible.split(",") if word.strip()]
    for line in text.splitlines():
        name, total, free, driver, index, uuid = (word.strip() for word in line.rsplit(",", 5))
        if named is not None and not any(one == index or uuid.startswith(one) for one in named):
            continue
        if not (total.isdigit() and free.isdigit()):  # a card cut into instances by MIG says [N/A]
            return (), driver, f"nvidia-smi does not tell the memory of {name} ({total}): is it cut by MIG?"
        cards.append(Card(name, float(total) * 2**20, float(free) * 2**20))
    return tuple(cards), driver, None
