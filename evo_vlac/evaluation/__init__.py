"""Judging data by a critic (screening), and a critic by data (evaluation, held-out episodes)."""

from __future__ import annotations

from evo_vlac.evaluation.evaluator import EvaluationOptions
from evo_vlac.evaluation.figures import Evaluation, evaluate
from evo_vlac.evaluation.screening import Row, ScreenOptions, Thresholds, screen
from evo_vlac.evaluation.screening_report import write_html

__all__ = [
    "Evaluation",
    "EvaluationOptions",
    "Row",
    "ScreenOptions",
    "Thresholds",
    "evaluate",
    "screen",
    "write_html",
]
