"""``./launch.sh preflight [--quick] [--plan] [--config FILE] [key=value ...]``: will this run work on this machine?

--quick looks without loading anything; --plan reckons the memory anywhere, without the machine and without
checkpoints. Exit code 0: yes; 1: a line says what to change; 2: the arguments are wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from verl.launch import interrupt

# Everything else takes seconds to import: it is imported where a Ctrl-C is told without a traceback.
if TYPE_CHECKING:
    from rich.console import Console

    from verl.config import Config
    from verl.preflight.line import Line
    from verl.preflight.steps import Step


def main(arguments: list[str] | None = None) -> int:
    interrupt.leave()  # the imports below take long enough for a Ctrl-C
    given = _parse(arguments)
    from rich.console import Console

    from verl.errors import VerlError
    from verl.models.openvla_oft.errors import PolicyError
    from verl.trainer.load_config import load_config

    console = Console(highlight=False, soft_wrap=True)
    try:
        config, _ = load_config(given.overrides, given.config)
        if given.plan:
            return show_plan(config, console)
        return look(config, console, given)
    except (VerlError, PolicyError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return interrupt.EXIT_CODE


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./launch.sh preflight",
        description="Looks at everything that a run needs, before anything is trained.",
        epilog="As ./launch.sh --plan env=libero hardware=h100_8: what that would take, reckoned anywhere.",
    )
    parser.add_argument("--quick", action="store_true", help="load nothing: seconds")
    parser.add_argument(
        "--plan", action="store_true", help="only the memory plan; models that are not here as published"
    )
    parser.add_argument("--config", help="a YAML file with any part of the configuration")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    return parser.parse_args(arguments)


def show_plan(config: Config, console: Console) -> int:
    """The tables and what follows from them."""
    from verl.preflight.line import BAD
    from verl.preflight.memory import planned_lines, reckon, table
    from verl.trainer.memory_plan import PLACES

    plan, models = reckon(config, published=True)
    console.print(models)
    for where in PLACES:
        if (shown := table(plan, where)) is not None:
            console.print(shown)
    lines = list(planned_lines(config, plan))
    tell(console, lines)
    return int(any(line.state == BAD for line in lines))


def look(config: Config, console: Console, given: argparse.Namespace) -> int:
    """Every check, then every trial whose ground is sound."""
    from verl.preflight.checks import quick_checks
    from verl.preflight.line import BAD
    from verl.preflight.steps import run_step

    told: list[Line] = []
    for check in quick_checks(config):
        with console.status(f"looking at: {check.name}"):
            lines = check.run()
        tell(console, lines)
        told += lines
    failed = {line.name for line in told if line.state == BAD}
    if not given.quick:
        repeated = [*(["--config", given.config] if given.config else []), *given.overrides]
        for step, needs, environment in steps(config):
            if failed & needs:
                continue
            with console.status(f"trying: {step.name} (at most {step.limit_s:.0f} s)"):
                lines = run_step(step, repeated, environment)
            tell(console, lines)
            told += lines
    count = sum(line.state == BAD for line in told)
    console.print("this run can start" if not count else f"{count} thing(s) to change", style="bold")
    return int(count > 0)


def steps(config: Config) -> Iterator[tuple[Step, set[str], dict[str, str]]]:
    """The trials: what each is, the lines that must not be bad for it, its environment variables."""
    from verl.envs.env_handle import THREADS
    from verl.preflight.steps import Step
    from verl.trainer.load_limits import LoadLimit, verdict_s

    every = {"policy", "environment", "devices"}
    yield Step("policy's pass", "policy", LoadLimit.of(config.model.path).seconds), every, {}
    yield Step("frame", "frame", 120.0), {"environment"}, THREADS
    critic = config.critic
    if critic.asked and critic.sidecar.start:
        limit_s = LoadLimit.of_critic(critic).seconds + verdict_s(critic) + 90.0
        yield Step("verdict", "verdict", limit_s), {"critic", "devices"}, {}
    yield Step("weights and collective", "cluster", 420.0), {"settings", "devices"}, {}


def tell(console: Console, lines: Iterable[Line]) -> None:
    """A line each, with a tick, an exclamation mark or a cross."""
    plain = not (console.encoding or "").lower().startswith("utf") or os.environ.get("TERM") == "dumb"
    marks = {"good": "+", "look": "!", "bad": "x"} if plain else {"good": "✓", "look": "!", "bad": "✗"}
    colours = {"good": "green", "look": "yellow", "bad": "red"}
    from rich.markup import escape

    for line in lines:
        mark = f"[{colours[line.state]}]{marks[line.state]}[/]"
        console.print(f"{mark} {escape(f'{line.name}: {line.said}')}")


if __name__ == "__main__":
    sys.exit(main())
