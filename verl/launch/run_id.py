"""The name of a run that was given none."""

from __future__ import annotations

import datetime
import secrets


def new_run_id() -> str:
    """Date, time and a random part: never twice."""
    return datetime.datetime.now().strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
