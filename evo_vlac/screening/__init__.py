"""Screening demonstrations: which trajectories to keep, which of their steps to leave out."""

from __future__ import annotations

from evo_vlac.screening.report import write_html
from evo_vlac.screening.screen import Row, ScreenOptions, Thresholds, screen

__all__ = ["Row", "ScreenOptions", "Thresholds", "screen", "write_html"]
