"""``python -m verl.launch``: the training with a guard around it. ``launch.sh`` ends here."""

from __future__ import annotations

import sys

from verl.trainer import interrupt


def main(arguments: list[str]) -> int:
    """Runs ``verl.trainer.main_ppo`` under a run id known here, and cleans up after it; its exit code."""
    interrupt.leave()  # first: the imports below take long enough for a Ctrl-C
    from verl.errors import VerlError
    from verl.launch.claim import claim_as_launcher
    from verl.launch.guard import run_guarded
    from verl.trainer.run_folder import new_run_id

    given = [a.partition("=")[2] for a in arguments if a.startswith("trainer.run_id=")]
    run_id = given[-1] if given else new_run_id()
    extra = [] if given else [f"trainer.run_id={run_id}"]
    interrupt.install()
    try:
        claim = claim_as_launcher(run_id)
    except VerlError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return interrupt.EXIT_CODE
    try:
        return run_guarded([sys.executable, "-m", "verl.trainer.main_ppo", *arguments, *extra], claim)
    except KeyboardInterrupt:  # before the guard has taken the signals over
        return interrupt.EXIT_CODE
    finally:
        claim.release()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
