"""The proof's trainings: one for each arm and seed, by the recipe, each resumed where it was."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from studies.proof_verdicts import HOLD, THRESHOLD

ROOT = Path(__file__).resolve().parents[1]
ENV = "robosuite_tasks"
FRESH_SEED = 180_000  # of the evaluation states of every row
RECIPE = (
    "data.train_batch_size=5",
    "data.task_sampling=learnability",
    "algorithm.norm_adv_by_task=true",
    "trainer.total_episodes=1000",
    "trainer.test_freq=5",
)
OTHER_TASK = {  # what the policy is told, and what the critic is asked in that arm
    "lift the red cube": "push the red cube to the green cube",
    "lift the green cube": "lift the red cube",
    "stack the red cube on the green cube": "lift the green cube",
    "push the red cube to the green cube": "stack the red cube on the green cube",
}
ARMS: dict[str, tuple[str, ...]] = {
    "vlac": (),
    "simulator": ("critic.enable=false",),
    "shuffled": ("critic.shuffle=true",),
    "other_task": (f"critic.instructions=[{', '.join(f'[{told}, {asked}]' for told, asked in OTHER_TASK.items())}]",),
}


def trainings(folder: Path, model: Path, judge: Path, seeds: int, overrides: Sequence[str]) -> None:
    """Trains ``model``, with ``judge`` as the critic, in ``folder``. ``overrides``: ``key=value`` for all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for arm, keys in ARMS.items():
            run = folder / f"{arm}-{seed}"
            if (run / "summary.json").exists():
                continue
            command = [sys.executable, "-m", "verl.launch", f"env={ENV}", f"trainer.run_id={run.name}"]
            command += [f"trainer.default_local_dir={folder}", f"actor_rollout_ref.model.path={model}"]
            command += [f"data.seed={seed}", "trainer.save_freq=1", "trainer.videos=0", "data.val_batch_size=300"]
            command.append(f"data.val_seed={FRESH_SEED}")
            command += [f"critic.threshold={THRESHOLD}", f"critic.hold={HOLD}"]
            command += [f"critic.sidecar.config.model={judge}", *RECIPE, *keys, *overrides]
            if (run / "checkpoints").is_dir():
                command.append("trainer.resume_mode=auto")
            with (folder / f"{run.name}.log").open("ab") as log:
                subprocess.run(command, check=True, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
