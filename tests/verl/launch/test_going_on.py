"""A run that was ended says how to go on."""

from __future__ import annotations

from pathlib import Path

from verl.launch.going_on import how_to_go_on


def test_with_a_checkpoint_the_command_is_said_and_without_one_that_there_is_none(tmp_path: Path) -> None:
    """The id is the folder's name."""
    folder = tmp_path / "mine"
    (folder / "checkpoints").mkdir(parents=True)
    assert "no checkpoint yet (trainer.save_freq)" in how_to_go_on(folder)
    (folder / "checkpoints" / "last").mkdir()
    assert "trainer.run_id=mine trainer.resume_mode=auto" in how_to_go_on(folder)
