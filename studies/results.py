"""Where studies put their figures: a part of a JSON file, with its commit and date."""

from __future__ import annotations

import datetime
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def commit() -> str:
    """Of the checkout, short."""
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def enter(file: Path, part: str, figures: Any, **named: Any) -> None:
    """Puts ``figures`` into the file's ``part``: beside what is there where it is a mapping, else in its place.

    Args:
        named: other parts, likewise.
    """
    content = json.loads(file.read_text()) if file.exists() else {}
    for name, new in {part: figures, **named}.items():
        old = content.get(name)
        content[name] = {**old, **new} if isinstance(old, Mapping) and isinstance(new, Mapping) else new
        content.setdefault("measured", {})[name] = f"{datetime.date.today()}, {commit()}"
    file.write_text(json.dumps(content, indent=2) + "\n")
