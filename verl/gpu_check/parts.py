"""The parts of the check: each a process with a limit, which prints JSON.

The critic's parts are :mod:`sidecar.bench`, run by the sidecar's interpreter ($SIDECAR_PYTHON, else this one): nothing
of the sidecar is imported here.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verl.gpu_check.sizes import CRITIC_BATCHES
from verl.limited import run_limited

ROOT = Path(__file__).resolve().parents[2]
SHOWN = 400  # characters of an error
MINUTES = 10.0


@dataclass(frozen=True, slots=True)
class Part:
    """``seconds``: its limit in a check of :data:`MINUTES`. ``command``: (device, shape) to a command; ``digest``: its
    JSON to figures."""

    seconds: float
    command: Callable[[str, str], list[str]]
    digest: Callable[[dict[str, Any]], dict[str, Any]]


def run_part(part: Part, device: str, shape: str, left: float, patience: float = 1.0) -> dict[str, Any]:
    """``s`` and ``figures``, or ``s`` and ``error``, one line.

    Args:
        left: seconds of the whole check.
        patience: times the part's own limit.
    """
    limit, start = min(patience * part.seconds, left), time.monotonic()

    def found(**result: Any) -> dict[str, Any]:
        return {"s": round(time.monotonic() - start, 1), **result}

    if limit <= 0:
        return found(error="not begun: the time for the whole check was used up (--minutes)")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = run_limited(part.command(device, shape), limit, {"PYTHONPATH": path})
    if ended.code is None:
        return found(error=f"not done within its {limit:.0f} s")
    if ended.code:
        return found(error=f"exit code {ended.code}: {reason(ended.errors)}")
    try:
        return found(figures=part.digest(last_json(ended.output)))
    except (ValueError, KeyError, IndexError) as error:
        return found(error=f"its output cannot be read ({error!r}): {ended.output[-SHOWN:]!r}")


def last_json(output: str) -> dict[str, Any]:
    """The last object that begins a line; libraries print what they like around it. Raises ValueError, IndexError."""
    begin = [found.start() for found in re.finditer(r"^\{", output, re.MULTILINE)][-1]
    read: dict[str, Any] = json.JSONDecoder().raw_decode(output, begin)[0]
    return read


def reason(errors: str) -> str:
    """The last exception's line, else the last line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (raised or lines or ["it said nothing"])[-1][:SHOWN]


def _measure(name: str) -> Callable[[str, str], list[str]]:
    return lambda device, shape: [sys.executable, "-m", "verl.gpu_check.measure", name, device, shape]


def _bench(engines: tuple[str, ...], *options: str) -> Callable[[str, str], list[str]]:
    """``options``: at the published shape; of the tiny one a small batch is asked once."""

    def command(device: str, shape: str) -> list[str]:
        python = os.environ.get("SIDECAR_PYTHON") or sys.executable
        asked = ("vlac-2b", *options) if shape == "published" else ("tiny", *_CASES, "--batch", "2", "--seconds", "0")
        return [python, "-m", "sidecar.bench", "--json", "--device", device, "--engines", *engines, "--random", *asked]

    return command


_CASES = ("--cases", "done", "critic_6_references")
_CRITIC = (*_CASES, "--batch", *map(str, CRITIC_BATCHES), "--seconds", "3")
_PHASES = ("--cases", "done", "--batch", "1", "--seconds", "0")


def _critic(report: dict[str, Any]) -> dict[str, float]:
    """Dones and pairs of the batch that is best; the straightforward way at its own best."""

    def best(case: str, engine: str, state: str = "cold") -> dict[str, Any]:
        keys = {"case": case, "engine": engine, "state": state}
        rows = [row for row in report["results"] if keys.items() <= row.items()]
        return max(rows, key=lambda row: float(row["verdicts_per_s"]))

    done, plain = best("done", "direct"), best("critic_6_references", "straightforward")["verdicts_per_s"]
    cold, warm = (best("critic_6_references", "direct", state) for state in ("cold", "warm"))
    return {
        "peak_tflops": report["peak_flops"] / 1e12,
        "dones_per_s": done["verdicts_per_s"],
        "done_batch": done["batch"],
        "done_share_of_peak": done["share_of_peak"],
        "dones_per_s_frames_seen": best("done", "direct", "warm")["verdicts_per_s"],
        "pairs_per_s": cold["verdicts_per_s"],
        "pair_times_straightforward": cold["verdicts_per_s"] / plain,
        "pair_times_straightforward_warm": warm["verdicts_per_s"] / plain,
        "same_verdicts": float(all(row["same_verdicts"] for row in report["results"])),
        **({"most_held_gb": report["device_gb"]} if "device_gb" in report else {}),
    }


def _phases(report: dict[str, Any]) -> dict[str, float]:
    return dict(report["phases"])


def _as_it_is(report: dict[str, Any]) -> dict[str, Any]:
    return report


MACHINE = Part(60, _measure("machine"), _as_it_is)  # not in the caller: its CUDA context would be on the card
PARTS = {
    "peak": Part(40, _measure("peak"), _as_it_is),
    "critic": Part(220, _bench(("direct", "straightforward"), *_CRITIC), _critic),
    "phases": Part(70, _bench(("direct",), *_PHASES), _phases),
    "policy": Part(130, _measure("policy"), _as_it_is),
    "weights": Part(70, _measure("weights"), _as_it_is),
    "libero": Part(60, _measure("libero"), _as_it_is),
    "plan": Part(60, _measure("plan"), _as_it_is),
}
