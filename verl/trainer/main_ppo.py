"""Training and evaluation: ``python -m verl.trainer.main_ppo [--config FILE] key=value ...``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl.launch import interrupt, words
from verl.launch.going_on import how_to_go_on
from verl.trainer import screen

# Everything else takes seconds to import: it is imported where a Ctrl-C or a mistake is told without a traceback.
if TYPE_CHECKING:
    from rich.console import Console

    from verl.config import Config
    from verl.launch.claim import IdClaim
    from verl.trainer.run_folder import RunFolder

logger = logging.getLogger("verl")
DEFAULTS = Path(__file__).parent / "config" / "ppo_trainer.yaml"


def main(arguments: list[str] | None = None) -> int:
    """Returns the process's exit code: 0 well, 1 failed, 2 a mistake or a run id in use, 130 interrupted."""
    words.take_over()
    interrupt.leave()
    screen.outlive_the_screen()
    code: object = 1
    try:
        code = _main(arguments)
        return code
    except KeyboardInterrupt:
        code = interrupt.EXIT_CODE
        return code
    except SystemExit as error:  # argparse's
        code = error.code
        raise
    finally:
        words.say("end", code=code)


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m verl.trainer.main_ppo",
        description="Train or evaluate a policy on a critic's verdicts.",
        epilog=f"All keys, their defaults and meanings: {DEFAULTS}",
    )
    parser.add_argument("--config", help="a YAML file with any part of the configuration")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parsed = parser.parse_intermixed_args(arguments)  # key=value on both sides of --config
    from rich.console import Console

    from verl.errors import VerlError
    from verl.launch.claim import claim_as_trainer, claimed_folder
    from verl.launch.run_id import new_run_id
    from verl.trainer.disk import full_disk
    from verl.trainer.load_config import load_config
    from verl.trainer.preflight import preflight
    from verl.trainer.run_folder import RunFolder

    with ExitStack() as owned:
        try:
            config, tree = load_config(parsed.overrides, parsed.config)
            preflight(config)
            trainer = config.trainer
            run_id = trainer.run_id or new_run_id()
            interrupt.install()
            claims = [claim_as_trainer(name) for name in _ids(config, run_id)]
            for claim in claims:
                owned.callback(claim.release)
            owned.enter_context(claimed_folder(RunFolder.place(trainer.default_local_dir, run_id)))
            folder = RunFolder(trainer.default_local_dir, run_id, trainer.resume_mode != "disable")
            _wait_for_predecessors(config, claims)
        except (VerlError, OSError) as error:  # also a folder that cannot be made
            print(f"error: {full_disk(error, Path.cwd()) or error}", file=sys.stderr)  # noqa: T201
            return 2
        _log_to(folder.file("logs", "driver.log"))
        words.say("folder", path=str(folder.path))
        return _run(config, tree, folder, Console(highlight=False))


def _ids(config: Config, run_id: str) -> list[str]:
    """The run's id, and that of its sidecar where it has another and is ours."""
    sidecar = config.critic.run_id
    return [run_id, sidecar] if sidecar and sidecar != run_id and config.critic.sidecar.start else [run_id]


def _wait_for_predecessors(config: Config, claims: list[IdClaim]) -> None:
    """A sidecar or an environment of an earlier run with this id, whose trainer was killed, is about to end."""
    if config.critic.sidecar.start:  # else the sidecar is somebody else's, and lives
        for claim in claims:
            claim.wait_vacant()


def _log_to(path: Path) -> None:
    logging.basicConfig(
        filename=path,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    logging.raiseExceptions = False  # a log on a full disk is no reason for tracebacks on the screen


def _run(config: Config, tree: dict[str, Any], folder: RunFolder, console: Console) -> int:
    import yaml

    from verl.errors import ConfigError
    from verl.trainer.critic_folder import in_force

    try:
        from verl.trainer.watchdog import watching

        rules = in_force(tree)
        told = "".join(f"# {rule}\n" for rule in rules)
        folder.file("config.yaml").write_text(told + yaml.safe_dump(tree, sort_keys=False))
        if rules:
            console.print(f"as {rules[0].file} asks: {', '.join(f'{rule.key}={rule.value}' for rule in rules)}")
        with watching(console.print, partial(_end_at_once, folder, console), config.trainer.stall_timeout_s):
            _train(config, tree, folder, console)
        return 0
    except KeyboardInterrupt:
        return _stopped(folder, console)
    except ConfigError as error:
        logger.error("%s", error)
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except Exception as error:
        logger.exception("the run failed")
        if not interrupt.asked():
            return _failed(error, folder)
        console.print(f"while it was stopping: {_reason(error, folder)}", markup=False)
        return _stopped(folder, console)


def _failed(error: Exception, folder: RunFolder) -> int:
    logs = folder.file("logs")
    story = f"\n  the whole story: {logs}" if logs.exists() else ""
    print(f"error: {_reason(error, folder)}{story}", file=sys.stderr)  # noqa: T201
    return 1


def _stopped(folder: RunFolder, console: Console) -> int:
    """By a person or a scheduler, or by the run itself, which then has an error to tell."""
    if (cause := interrupt.cause()) is not None:
        logger.error("the run was ended: %s", cause)
        code = _failed(cause, folder)
        console.print(how_to_go_on(folder.path), markup=False)
        return code
    logger.warning("interrupted")
    console.print(f"interrupted: everything was stopped; {how_to_go_on(folder.path)}", markup=False)
    return interrupt.EXIT_CODE


def _end_at_once(folder: RunFolder, console: Console, reason: str) -> None:
    """In the watchdog's thread: the main one cannot be reached. Whoever started this process cleans up."""
    logger.critical("the run is ended: %s", reason)
    console.show_cursor()
    print(f"error: {reason}\n  the whole story: {folder.file('logs')}", file=sys.stderr, flush=True)  # noqa: T201
    words.say("end", code=1)
    os._exit(1)


def _reason(error: BaseException, folder: RunFolder) -> str:
    """The innermost error of ours, without Ray's remote traceback; a full disk, a removed folder with its path."""
    from verl.trainer.disk import full_disk

    return full_disk(error, folder.path) or _innermost(folder.removed(error) or error)


def _innermost(error: BaseException) -> str:
    cause = getattr(error, "cause", None)
    return _innermost(cause) if isinstance(cause, BaseException) else f"{error}" or type(error).__name__


def _train(config: Config, tree: dict[str, Any], folder: RunFolder, console: Console) -> None:
    from verl.trainer import ray_wait
    from verl.trainer.assemble import Run
    from verl.trainer.checkpoint import find_checkpoint, rewind
    from verl.trainer.preflight import namesakes
    from verl.trainer.progress import Progress
    from verl.trainer.ray_arrivals import Arrivals
    from verl.trainer.ray_session import ray_session
    from verl.trainer.recorder import Recorder
    from verl.trainer.report.table import print_summary
    from verl.trainer.shm_watch import ShmWatch

    started = time.monotonic()
    console.print(f"run {folder.run_id}, {folder.path}")

    def note(text: str) -> None:
        logger.warning("%s", text)
        console.print(text, markup=False)

    for line in namesakes():
        note(line)
    checkpoint = find_checkpoint(config.trainer, folder, note)
    with ExitStack() as parts:
        recorder = Recorder(config, folder, tree, rewind(folder, checkpoint))
        parts.callback(recorder.close)
        with Progress(console, config.trainer.total_episodes, config.critic.enable) as progress:
            progress.stage("starting Ray", None)
            ids = _ids(config, folder.run_id)
            session = parts.enter_context(ray_session(config, ids, folder.file("logs")))
            parts.enter_context(ray_wait.looking(Arrivals(note, session).look))
            parts.enter_context(ray_wait.looking(folder.look))
            progress.stage("loading the policy and the critic", None)
            with Run(config, folder, recorder, progress) as run:
                watch = parts.enter_context(ShmWatch(ids, note, run.lost))
                parts.enter_context(ray_wait.looking(watch.look))
                trainer = run.start()
                progress.note(f"ready after {time.monotonic() - started:.0f} s")
                trainer.counts.time_s["start"] = time.monotonic() - started
                if checkpoint is not None:
                    trainer.resume(checkpoint)
                    progress.note(f"resumed after update {trainer.counts.updates} from {checkpoint}")
                trainer.fit()
        summary = recorder.finish(trainer.summary())
        print_summary(console, summary)
        console.print(f"curves, videos, metrics: {folder.path}")


if __name__ == "__main__":
    sys.exit(main())
