"""``python -m verl.launch``: the training with a guard around it. ``launch.sh`` ends here."""

from __future__ import annotations

import sys
from itertools import pairwise

from verl.launch import interrupt


def main(arguments: list[str] | None = None) -> int:
    """Runs ``verl.trainer.main_ppo`` under a run id known here, and cleans up after it; its exit code."""
    interrupt.leave()  # first: the imports below take long enough for a Ctrl-C
    from verl.errors import VerlError
    from verl.launch.claim import claim_as_launcher
    from verl.launch.guard import run_guarded
    from verl.launch.run_id import new_run_id

    if arguments is None:
        arguments = sys.argv[1:]
    given = _given_run_id(arguments)
    run_id = given or new_run_id()
    extra = [] if given else [f"trainer.run_id={run_id}"]
    interrupt.install()
    try:
        claim = claim_as_launcher(run_id)
    except VerlError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return _interrupted()
    try:
        return run_guarded([sys.executable, "-m", "verl.trainer.main_ppo", *arguments, *extra], claim)
    except KeyboardInterrupt:  # before the guard has taken the signals over
        return _interrupted()
    finally:
        claim.release()


def _interrupted() -> int:
    sys.stderr.write(interrupt.NOTHING_STARTED)
    return interrupt.EXIT_CODE


def _given_run_id(arguments: list[str]) -> str | None:
    """From the command line, else from the ``--config`` file. What is wrong with that file the trainer will say."""
    import yaml

    from evo_vlac.text_files import read_text

    given = [a.partition("=")[2] for a in arguments if a.lstrip("+").startswith("trainer.run_id=")]
    if given:
        return given[-1]
    files = [b for a, b in pairwise(arguments) if a == "--config"]
    files += [a.partition("=")[2] for a in arguments if a.startswith("--config=")]
    try:
        written = yaml.load(read_text(files[-1]), yaml.BaseLoader)["trainer"]["run_id"]  # makes nothing but texts
        return None if written in ("", "~", "null") else str(written)
    except (IndexError, OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return None


if __name__ == "__main__":
    sys.exit(main())
