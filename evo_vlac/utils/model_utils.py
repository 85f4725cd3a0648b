"""Upstream's path to the model class; defined in :mod:`evo_vlac.compat.gac_model`."""

from __future__ import annotations

from evo_vlac.compat.device_map import to_device
from evo_vlac.compat.gac_model import GAC_model

__all__ = ["GAC_model", "to_device"]
