"""Trajectories from the layouts people have: LeRobot, LIBERO / robomimic HDF5, folders of videos with a task file."""

from __future__ import annotations

from evo_vlac.datasets.open import FORMATS, open_dataset
from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory

__all__ = ["FORMATS", "DatasetOptions", "Trajectory", "open_dataset"]
