"""The proof's trainings: one for each arm and seed, by the recipe, each resumed where it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from studies.proof_worlds import FRESH_SEED, OTHER_TASK, World

ROOT = Path(__file__).resolve().parents[1]
ARMS: dict[str, tuple[str, ...]] = {
    "vlac": (),
    "simulator": ("critic.enable=false",),
    "plain": ("critic.enable=false", "data.task_sampling=even", "algorithm.norm_adv_by_task=false"),
    "grpo": ("critic.enable=false", "algorithm.adv_estimator=grpo"),
    "failure": ("data.task_sampling=failure",),
    "shuffled": ("critic.shuffle=true",),
    "other_task": (f"critic.instructions=[{', '.join(f'[{told}, {asked}]' for told, asked in OTHER_TASK.items())}]",),
}


def trainings(
    world: World,
    folder: Path,
    model: Path,
    judge: Path,
    arms: Sequence[str],
    seeds: Iterable[int],
    overrides: Sequence[str],
) -> None:
    """Trains ``model``, with ``judge`` as the critic, in ``folder``. ``overrides``: ``key=value`` for all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for arm in arms:
            run = folder / f"{arm}-{seed}"
            if (run / "summary.json").exists():
                continue
            command = [sys.executable, "-m", "verl.launch", *world.keys, f"trainer.run_id={run.name}"]
            command += [f"trainer.default_local_dir={folder}", f"actor_rollout_ref.model.path={model}"]
            command += [f"data.seed={seed}", "trainer.save_freq=1", "trainer.videos=0"]
            command.append(f"data.val_seed={FRESH_SEED}")
            command += [f"critic.hold={world.hold}", f"critic.sidecar.config.model={judge}"]
            command += [*world.recipe, *ARMS[arm], *overrides]
            if (run / "checkpoints").is_dir():
                command.append("trainer.resume_mode=auto")
            with (folder / f"{run.name}.log").open("ab") as log:
                subprocess.run(command, check=True, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
