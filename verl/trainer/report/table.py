"""The short table at the end of a run, on the terminal."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from verl.trainer.audit import Confusion

MOST_TASKS = 12  # rows of the table


def wilson(successes: float, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a proportion (Wilson 1927, eq. 2)."""
    if trials == 0:
        return 0.0, 1.0
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


def percent(value: float | None) -> str:
    """``0.316`` as ``31.6 %``, an unknown as a dash."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def counted(count: int, one: str, many: str | None = None) -> str:
    """``1 update``, ``2 updates``."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def _success(summary: dict[str, Any], when: str) -> str:
    value = summary.get(f"success_{when}")
    if value is None:
        return "-"
    states = summary["eval_states"]  # episodes from one state are no independent trials
    low, high = wilson(value * states, states)
    return f"{percent(value)}  (95 %: {100 * low:.0f} to {100 * high:.0f}, n={states})"


def _by_task(shares: dict[str, float]) -> tuple[str, str]:
    """A line a task; of many those with the least success."""
    few = len(shares) <= MOST_TASKS
    shown = list(shares.items()) if few else sorted(shares.items(), key=lambda one: one[1])[:MOST_TASKS]
    heading = "  by task" if few else f"  the {MOST_TASKS} lowest of {len(shares)} tasks"
    return heading, "\n".join(f"{percent(share):>7}  {task}" for task, share in shown)


def _what_went_wrong(summary: dict[str, Any]) -> str:
    """Counts that are not zero; none of them became a reward."""
    named = {
        "outages": "questions asked again",
        "value_holes": "unreadable pairs of values",
        "episodes_given_up": "episodes given up",
    }
    counts = [f"{summary[key]} {name}" for key, name in named.items() if summary.get(key)]
    replaced = summary.get("replaced", {}).items()
    return ", ".join(counts + [f"{count} {name.replace('_', ' ')} replaced" for name, count in replaced if count])


def print_summary(console: Console, summary: dict[str, Any]) -> None:
    """What the run shows, in two small tables."""
    table = Table(title=f"run {summary['run_id']}", title_justify="left", show_header=False)
    if not summary["updates"] and not summary["episodes"]:  # val_only: there is one evaluation
        when = "before" if summary.get("success_before") is not None else "after"
        table.add_row("success by simulator", _success(summary, when))
    else:
        table.add_row("success by simulator, before", _success(summary, "before"))
        table.add_row("success by simulator, after", _success(summary, "after"))
    if len(by_task := summary.get("success_by_task", {})) > 1:
        table.add_row(*_by_task(by_task))
    if summary["episodes"]:
        without = summary.get("rollouts_without_update", 0)
        more = f" ({counted(without, 'rollout')} without a signal)" if without else ""
        table.add_row("training episodes", f"{summary['episodes']} in {counted(summary['updates'], 'update')}{more}")
        lost, dropped = summary.get("episodes_lost", 0), summary.get("episodes_dropped", 0)
        table.add_row("episodes lost, dropped", f"{lost} lost (played again), {dropped} dropped for a verdict")
    if not math.isnan(summary["verdict_p50_ms"]):
        table.add_row(
            "verdict latency",
            f"p50 {summary['verdict_p50_ms']:.1f} ms, p99 {summary['verdict_p99_ms']:.1f} ms"
            f" ({summary['verdicts']} verdicts, {summary['invalid_verdicts']} invalid)",
        )
    if wrong := _what_went_wrong(summary):
        table.add_row("what went wrong", wrong)
    where = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in summary["time_s"].items())
    table.add_row("where the time went", f"{where}; all {summary['wall_s']:.0f} s")
    if summary["episode_s"]:
        seconds = summary["episode_s"].items()
        stages = ", ".join(f"{name.replace('_', ' ')} {spent:.2f} s" for name, spent in seconds)
        table.add_row("a training episode", stages)
    console.print(table)
    _print_confusion(console, "training", summary["confusion"])
    _print_confusion(console, "evaluation", summary.get("confusion_in_evaluation", {}))


def _print_confusion(console: Console, kind: str, counts: dict[str, int]) -> None:
    """The critic's dones against the simulator's successes, of episodes of ``kind``; nothing without any."""
    if not sum(counts.values()):
        return
    confusion = Confusion(**counts)
    matrix = Table(title=f"critic against simulator, {kind} episodes", title_justify="left")
    for heading in ("", "simulator: success", "simulator: no"):
        matrix.add_column(heading)
    matrix.add_row("VLAC: done", str(confusion.both), str(confusion.false_done))
    matrix.add_row("VLAC: not done", str(confusion.missed), str(confusion.neither))
    console.print(matrix)
    console.print(f"done precision {percent(confusion.precision)}, recall {percent(confusion.recall)}")
