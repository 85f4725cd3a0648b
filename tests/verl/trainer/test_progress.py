"""What a person reads while it works, in a log: a line when something has happened, none that says nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from rich.console import Console

from verl.trainer.progress import NO_DONES, Progress


def recorded(critic: bool = True) -> tuple[Progress, Console]:
    """A progress whose words are kept."""
    console = Console(record=True, width=200, highlight=False)
    return Progress(console, 100, critic), console


def played(done: bool) -> Any:
    """An episode of training."""
    return SimpleNamespace(
        end=SimpleNamespace(complete=done, env_success=False), request=SimpleNamespace(training=True)
    )


def test_environments_that_start_are_told_until_all_have_been_ready_once() -> None:
    """ "evaluation 0/16" stands for minutes otherwise; one that is replaced later is no news."""
    progress, console = recorded()
    with progress:
        progress.stage("evaluation", 16)
        progress.environments(0, 4)
        progress.environments(2, 4)
        assert progress.bar.tasks[-1].description == "evaluation: starting environments 2/4"
        progress.environments(4, 4)
        assert progress.bar.tasks[-1].description == "evaluation"
        progress.environments(3, 4)
        assert progress.bar.tasks[-1].description == "evaluation"
    assert console.export_text().count("4 environments ready after") == 1


def test_lost_episodes_are_told_as_they_happen_and_not_each_of_thousands() -> None:
    """The first one at once, then whenever their number has doubled."""
    progress, console = recorded()
    for tries in (0, 1, 1, 2, 3, 4, 7, 9):
        progress.lost(tries)
    text = console.export_text()
    assert [f"{n} episode" in text for n in (1, 2, 4, 9)] == [True] * 4 and text.count("lost so far") == 4


def test_rollouts_without_a_done_ask_about_the_critic_once() -> None:
    """Two in a row; a done starts the count again. Said below the second's own line."""
    progress, console = recorded()
    with progress:
        for done in (False, True, False, False, False):
            progress.stage("rollout", 1)
            progress.episode(played(done), SimpleNamespace(latency_ms=lambda percentile: 1.0))  # type: ignore[arg-type]
        progress.stage("update", None)
    text = console.export_text()
    assert text.count(NO_DONES[:40]) == 1 and text.partition(NO_DONES[:40])[0].count("rollout: ") == 4


def test_where_the_simulator_decides_nothing_is_said_of_the_critic() -> None:
    """`critic.enable=false`: neither that VLAC said done, nor a question what is wrong with it."""
    progress, console = recorded(critic=False)
    with progress:
        for _ in range(3):
            progress.stage("rollout", 1)
            progress.episode(played(False), None)
        progress.stage("update", None)
    text = console.export_text()
    assert text.count("the simulator says done in 0 of 1") == 3 and "VLAC" not in text and NO_DONES[:40] not in text


def test_what_is_noted_is_shown_as_it_is() -> None:
    """Square brackets of an error are no markup."""
    progress, console = recorded()
    progress.note("[Errno 28] No space left on device: '/runs/[x]'")
    assert "[Errno 28] No space left on device: '/runs/[x]'" in console.export_text()
