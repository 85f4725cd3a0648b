"""The proof's critic: of pictures and instructions alone, by films of experts and of play."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evo_vlac.tiny.model import TinyConfig, build_tiny_vlac
from evo_vlac.tiny.vision import LookConfig, learn_to_look
from evo_vlac.training.finetune import FinetuneConfig, finetune
from evo_vlac.training.pairs import PairConfig, Shares

SHARES = Shares(done=0.64, done_wrong_task=0.1, critic=0.14, reversed=0.05, stagnant=0.03, failed=0.04, describe=0.0)


def label_free(
    folder: Path,
    demos: Sequence[Path],
    play: Sequence[Path],
    steps: int,
    shares: Shares = SHARES,
    begin: Path | None = None,
    base: Path | None = None,
) -> Path:
    """Fine-tunes ``begin`` for ``steps``; None: ``base``, or a new one, that looks for half of them first. Nothing is
    chosen here, and no word of a simulator is read. Returns the folder of the checkpoint; what is there is not made
    again."""
    final: Path = folder / "training" / "final"
    if final.is_dir():
        return final
    if begin is None:
        begin = folder / "look"
        if base is None and not (folder / "base/model.safetensors").is_file():
            build_tiny_vlac(folder / "base", TinyConfig(seed=0))
        if not begin.is_dir():
            learn_to_look(
                base or folder / "base", [*demos, *play], begin, LookConfig(steps=steps // 2, label_free=True)
            )
    finetune(
        FinetuneConfig(
            model=begin,
            output=folder / "training",
            demos=tuple(demos),
            play=tuple(play),
            pairs=PairConfig(count=32 * steps, shares=shares, near=0.0, label_free=True),
            tuner="full",
            train_vision=True,
            steps=steps,
            batch_size=32,
            learning_rate=1e-3,
            threads=1,
            save_steps=100,
            resume=True,
        )
    )
    return final
