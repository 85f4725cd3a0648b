"""How long loading may take follows the size of the checkpoint."""

from __future__ import annotations

from pathlib import Path

from verl.trainer.load_limits import LEAST_S, LoadLimit


def test_seven_billion_parameters_have_more_time_than_a_small_policy(tmp_path: Path) -> None:
    """Weights count, in any of the published formats; other files do not."""
    (tmp_path / "proprio_projector--5_checkpoint.pt").write_bytes(bytes(100))
    (tmp_path / "tokenizer.json").write_bytes(bytes(1000))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(15 * 10**9)  # a sparse file: takes no room
    large = LoadLimit.of(tmp_path)
    assert large.size == 15 * 10**9 + 100
    assert large.seconds == LEAST_S + large.size / 25e6
    assert str(large) == f"it loads 15.0 GB from {tmp_path}"
    assert LoadLimit.of(tmp_path / "not-here").seconds == LEAST_S
