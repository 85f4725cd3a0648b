"""What processes take before they have loaded anything, in bytes: measured, or said to be reckoned.

Measured on Linux, Python 3.11, torch 2.13 without CUDA, 2 cores, 26 November 2026 (``studies/plan_against_run.py``):
anonymous memory (``Pss_Anon`` of /proc/PID/smaps_rollup) of a process that has imported what it needs and, where that
is said, has worked for a while: the C library keeps much of what was freed.
"""

from __future__ import annotations

MIB = float(2**20)
DRIVER = 411 * MIB  # with its records open
VIDEO = 57 * MIB  # while it writes one
LEARNER = 365 * MIB
ROLLOUT = 360 * MIB
SUPERVISOR = 21 * MIB
SERVICE = 365 * MIB  # after some hundred answers, weights, caches and activations apart
SIDECAR_HOST = 62 * MIB
LAUNCHER = 28 * MIB  # launch.sh's guard, and what cleans up should that be killed
SIMULATOR = {"robosuite": 571 * MIB, "libero": 950 * MIB}  # after some episodes; Mesa draws, in main memory
NEW_SIMULATOR = {"robosuite": 160 * MIB}  # before the first one, where that is known
OTHER_SIMULATOR = 571 * MIB  # of one's own: nobody knows
RAY = 300 * MIB  # its own processes: gcs, raylet, agents, monitors
PORT_FINDER = 355 * MIB  # a task's process: it imports what the learners do, and ends when all has been loaded
CODE = 410 * MIB  # of all processes together: libraries that are mapped from their files; the system can take it back
CUDA_CONTEXT = 0.74e9  # of a process on its card: context, kernels, workspaces; on an H200 (docs/hardware.md)

# Reckoned, not measured.
NCCL = 1.0e9  # of a learner among others: its buffers
CUDA_HOST = 2.0e9  # in main memory, of a process that uses CUDA
