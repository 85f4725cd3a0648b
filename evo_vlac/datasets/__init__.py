"""Trajectories from the layouts people have: LeRobot, LIBERO / robomimic HDF5, folders of videos or pictures."""

from __future__ import annotations

from evo_vlac.datasets.open import FORMATS, Dataset, is_dataset, open_dataset, open_datasets
from evo_vlac.datasets.reading import Skipped
from evo_vlac.datasets.trajectory import DatasetOptions, Trajectory

__all__ = [
    "FORMATS",
    "Dataset",
    "DatasetOptions",
    "Skipped",
    "Trajectory",
    "is_dataset",
    "open_dataset",
    "open_datasets",
]
