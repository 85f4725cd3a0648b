"""What processes take before they have loaded anything, in bytes: measured, or said to be reckoned.

Measured on Linux, Python 3.11, torch 2.13 without CUDA, 26 November 2026: anonymous memory (``Pss_Anon`` of
/proc/PID/smaps_rollup) of a process of the kind that has imported what it needs. Code that is mapped from files is
shared by all processes, and the system can take it back: it is not in the plan.
"""

from __future__ import annotations

MIB = float(2**20)
DRIVER = 384 * MIB
LEARNER = 365 * MIB
ROLLOUT = 360 * MIB
SUPERVISOR = 21 * MIB
SERVICE = 300 * MIB
SIDECAR_HOST = 61 * MIB
SIMULATOR = {"robosuite": 150 * MIB, "libero": 950 * MIB}  # one process, its frames apart; Mesa draws in main memory
OTHER_SIMULATOR = 150 * MIB  # of one's own: nobody knows
CAMERA_PIXEL = 0.0
RAY = 420 * MIB  # gcs, raylet, agents, monitors
RAY_IDLE = 0.0

# Reckoned, not measured here: no GPU was at hand.
CUDA_CONTEXT = 0.5e9  # of a process on its card: context and kernels
NCCL = 1.0e9  # of a learner among others: NCCL's buffers
CUDA_HOST = 2.0e9  # in main memory, of a process that uses CUDA
