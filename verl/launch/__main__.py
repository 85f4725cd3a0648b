"""``python -m verl.launch``: the training with a guard around it. ``launch.sh`` ends here."""

from __future__ import annotations

import sys

from verl.launch.guard import run_guarded
from verl.trainer.run_folder import new_run_id


def main(arguments: list[str]) -> int:
    """Runs ``verl.trainer.main_ppo`` under a run id known here, and cleans up behind it."""
    given = [a.partition("=")[2] for a in arguments if a.startswith("trainer.run_id=")]
    run_id = given[-1] if given else new_run_id()
    extra = [] if given else [f"trainer.run_id={run_id}"]
    return run_guarded([sys.executable, "-m", "verl.trainer.main_ppo", *arguments, *extra], run_id)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
