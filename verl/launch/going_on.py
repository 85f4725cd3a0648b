"""What a user whose run was ended wants to know: whether it can go on, and how."""

from __future__ import annotations

from pathlib import Path


def how_to_go_on(folder: Path) -> str:
    """A line about the run in ``folder``."""
    if (folder / "checkpoints" / "last").exists():
        return (
            f"to go on from its last checkpoint: the same command with trainer.run_id={folder.name} "
            "trainer.resume_mode=auto"
        )
    return "it cannot go on: it had made no checkpoint yet (trainer.save_freq)"
