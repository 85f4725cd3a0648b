"""Training and evaluation: ``python -m verl.trainer.main_ppo [--config FILE] key=value ...``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from verl.config import Config
from verl.errors import ConfigError, VerlError
from verl.trainer import interrupt
from verl.trainer.load_config import load_config
from verl.trainer.preflight import preflight
from verl.trainer.run_folder import RunFolder, new_run_id
from verl.trainer.watchdog import watching

logger = logging.getLogger("verl")
DEFAULTS = Path(__file__).parent / "config" / "ppo_trainer.yaml"


def main(arguments: list[str] | None = None) -> int:
    """Returns the process's exit code: 0 well, 1 failed, 2 a mistake in the configuration, 130 interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m verl.trainer.main_ppo",
        description="Train or evaluate a policy on a critic's verdicts.",
        epilog=f"All keys, their defaults and meanings: {DEFAULTS}",
    )
    parser.add_argument("--config", help="a YAML file with any part of the configuration")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parsed = parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        config, tree = load_config(parsed.overrides, parsed.config)
        preflight(config)
        folder = RunFolder(
            config.trainer.default_local_dir,
            config.trainer.run_id or new_run_id(),
            config.trainer.resume_mode != "disable",
        )
    except VerlError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    _log_to(folder.file("logs", "driver.log"))
    folder.file("config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return _run(config, tree, folder, console)


def _log_to(path: Path) -> None:
    logging.basicConfig(
        filename=path,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )


def _run(config: Config, tree: dict[str, Any], folder: RunFolder, console: Console) -> int:
    interrupt.install()
    try:
        with watching(console.print, partial(_end_at_once, folder, console), config.trainer.stall_timeout_s):
            _train(config, tree, folder, console)
        return 0
    except KeyboardInterrupt:
        console.print("interrupted: everything was stopped")
        return 130
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except Exception as error:
        logger.exception("the run failed")
        print(  # noqa: T201
            f"error: {_reason(error)}\n  the whole story: {folder.file('logs')}", file=sys.stderr
        )
        return 1


def _end_at_once(folder: RunFolder, console: Console, reason: str) -> None:
    """In the watchdog's thread: the main one cannot be reached. Whoever started this process cleans up."""
    logger.critical("the run is ended: %s", reason)
    console.show_cursor()
    print(f"error: {reason}\n  the whole story: {folder.file('logs')}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(1)


def _reason(error: BaseException) -> str:
    """The innermost error of ours, without Ray's remote traceback."""
    cause = getattr(error, "cause", None)
    return _reason(cause) if isinstance(cause, BaseException) else f"{error}" or type(error).__name__


def _train(config: Config, tree: dict[str, Any], folder: RunFolder, console: Console) -> None:
    # torch and Ray take seconds to import: a mistake in the configuration is told before
    import ray

    from verl.trainer.assemble import Run
    from verl.trainer.checkpoint import find_checkpoint, resume, rewind
    from verl.trainer.cluster import start_ray
    from verl.trainer.progress import Progress
    from verl.trainer.recorder import Recorder
    from verl.trainer.report.table import print_summary

    started = time.monotonic()
    checkpoint = find_checkpoint(config.trainer, folder)
    console.print(f"run {folder.run_id}, {folder.path}")
    recorder = Recorder(config, folder, tree, rewind(folder, checkpoint))
    try:
        with Progress(console, config.trainer.total_episodes) as progress:
            progress.stage("starting Ray, the sidecar and the policy", None)
            start_ray(config, folder.file("logs"))
            with Run(config, folder, recorder, progress) as run:
                trainer = run.start()
                progress.note(f"ready after {time.monotonic() - started:.0f} s")
                trainer.time_s["start"] = time.monotonic() - started
                if checkpoint is not None:
                    resume(trainer, checkpoint)
                    progress.note(f"resumed after update {trainer.updates} from {checkpoint}")
                trainer.fit()
        summary = recorder.finish(trainer)
        print_summary(console, summary)
        console.print(f"curves, videos, metrics: {folder.path}")
    finally:
        recorder.close()
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main())
