"""Trials in processes of their own: one that hangs, or is killed for memory, is a line and not the end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from verl.limited import run_limited
from verl.preflight.line import BAD, Line, bad

GRACE_S = 15.0  # for a trial to clean up after SIGTERM
TOLD = 3  # last lines of what a dead trial said
MARK = "preflight-line "


@dataclass(frozen=True, slots=True)
class Step:
    """A trial: ``python -m verl.preflight.trials TRIAL ARGUMENT...``, within ``limit_s`` seconds."""

    name: str
    trial: str
    limit_s: float


def run_step(step: Step, arguments: Sequence[str], environment: dict[str, str] | None = None) -> list[Line]:
    """What the trial has said; if it died or was too slow, that."""
    command = [sys.executable, "-m", "verl.preflight.trials", step.trial, *arguments]
    started = time.monotonic()
    ended = run_limited(command, step.limit_s, environment or {}, GRACE_S)
    said = f"{ended.output}\n{ended.errors}"
    if ended.code is None:
        return [bad(step.name, f"not done within {step.limit_s:.0f} s; {_last(said)}")]
    lines = read_lines(ended.output)
    if ended.code and not any(line.state == BAD for line in lines):
        lines.append(bad(step.name, f"{_ending(ended.code)}; {_last(said)}"))
    took = time.monotonic() - started
    return [Line(line.name, line.state, f"{line.said} ({took:.0f} s)") for line in lines]


def say(line: Line) -> None:
    """For a trial: tells the preflight a line."""
    sys.stdout.write(MARK + json.dumps([line.name, line.state, line.said]) + "\n")
    sys.stdout.flush()


def read_lines(said: str) -> list[Line]:
    """What :func:`say` has written, among what else a trial's libraries print."""
    return [Line(*json.loads(one.removeprefix(MARK))) for one in said.splitlines() if one.startswith(MARK)]


def _ending(code: int) -> str:
    return f"ended by signal {-code}" + (" (out of memory?)" if code == -9 else "") if code < 0 else f"exit code {code}"


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(MARK)]
    return "it said: " + " | ".join(lines[-TOLD:]) if lines else "it said nothing"
