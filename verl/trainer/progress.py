"""What a person sees while it runs: a live line on a terminal, a line a stage in a log."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import (
    Progress as Bar,
)
from rich.text import Text

from verl.episode import Episode
from verl.trainer.audit import Audit
from verl.trainer.report.table import counted

NO_DONES = (
    "two rollouts without a single done: does this critic know this task? See what it answers: "
    "python -m evo_vlac done --help, videos/ of this run, and critic.threshold"
)


class _Count(MofNCompleteColumn):
    """How much of how much, where that is known."""

    def render(self, task: Task) -> Text:
        return Text("") if task.total is None else super().render(task)


class Progress:
    """Use as a context manager. On a terminal the current stage is one live line; finished stages stay as text."""

    def __init__(self, console: Console, total_episodes: int, critic: bool = True) -> None:
        """``critic``: whether the critic decides in training; else the simulator does."""
        self.console, self.total_episodes, self.critic = console, total_episodes, critic
        self.bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Count(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[info]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task: TaskID | None = None
        self.name, self.seen, self.done, self.success, self.trained = "", 0, 0, 0, 0
        self.started = time.monotonic()
        self._ready = False  # all environments have been once
        self._lost = self._lost_told = self._rollouts_without_done = 0

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def stage(self, name: str, total: int | None) -> None:
        """A new stage begins: rollout, update, evaluation."""
        self._end_stage()
        self.name, self.seen, self.done, self.success = name, 0, 0, 0
        self.started = time.monotonic()
        self.task = self.bar.add_task(name, total=total, info="")

    def episode(self, episode: Episode, audit: Audit | None) -> None:
        """One more episode has ended."""
        self.seen += 1
        self.done += episode.end.complete
        self.success += episode.end.env_success
        self.trained += episode.request.training
        if audit is not None:
            info = f"VLAC: {self.done} done   verdict p50 {audit.latency_ms(50):.0f} ms"
        else:
            info = f"simulator: {counted(self.success, 'success', 'successes')}"
        if self._lost:
            info += f"   lost: {self._lost}"
        if self.task is not None:
            total = max(self.seen, self.bar.tasks[-1].total or 0)
            self.bar.update(self.task, advance=1, total=total, info=info)

    def environments(self, ready: int, total: int) -> None:
        """So many simulators stand. Said until all have once: nothing is played before the first does."""
        if self._ready or self.task is None:
            return
        self._ready = ready >= total
        where = "" if self._ready else f": starting environments {ready}/{total}"
        self.bar.update(self.task, description=f"{self.name}{where}")
        if self._ready:
            self.console.print(f"{counted(total, 'environment')} ready after {time.monotonic() - self.started:.0f} s")

    def lost(self, tries: int) -> None:
        """So many tries of episodes were lost so far. On the screen at the first, and whenever they have doubled."""
        self._lost = tries
        if tries >= max(1, 2 * self._lost_told):
            self._lost_told = tries
            self.console.print(f"{counted(tries, 'episode')} lost so far, played again; logs/driver.log says why")

    def share(self, done: float) -> None:
        """So much of the stage, 0 to 1, is done."""
        if self.task is not None:
            self.bar.update(self.task, info=f"{100 * done:.0f} %")

    def evaluated(self, success: float, episodes: int, states: int, updates: int) -> None:
        """An evaluation has ended: so many episodes, from so many initial states."""
        self._end_stage(quiet=True)
        size = f"{states} states" if episodes == states else f"{episodes} episodes from {states} states"
        self.console.print(
            f"evaluation after {counted(updates, 'update')}: {100 * success:.1f} % success by simulator ({size}, "
            f"{time.monotonic() - self.started:.0f} s)"
        )

    def note(self, text: str) -> None:
        """Something a person should know."""
        self.console.print(text, markup=False)

    def _end_stage(self, quiet: bool = False) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None
        if quiet or self.name != "rollout" or not self.seen:
            self.name = ""
            return
        who, took = "VLAC" if self.critic else "the simulator", time.monotonic() - self.started
        self.console.print(
            f"rollout: {self.trained}/{self.total_episodes} episodes, {who} says done in {self.done} of {self.seen}, "
            f"{took:.0f} s"
        )
        self._rollouts_without_done = 0 if self.done else self._rollouts_without_done + 1
        if self._rollouts_without_done == 2 and self.critic:
            self.console.print(NO_DONES)
        self.name = ""
