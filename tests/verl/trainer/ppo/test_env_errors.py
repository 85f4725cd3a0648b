"""What environments raise is told at once, and an error that repeats ends the run."""

from __future__ import annotations

import pytest

from verl.episode import EpisodeLost, EpisodeRequest
from verl.errors import RunFailedError
from verl.trainer.ppo.env_errors import REPEATS, EnvErrors

STORY = (
    'Traceback (most recent call last):\n  File "mine.py", line {line}, in step\n    boom()\nValueError: at {step}\n'
)


def lost(episode: int, line: int = 12) -> EpisodeLost:
    """An episode in which the environment raised; the message differs from time to time."""
    story = STORY.format(line=line, step=episode)
    return EpisodeLost(EpisodeRequest(episode, 0, 0, 0, True), "environment process died", traceback=story)


def test_the_first_traceback_of_each_kind_is_told() -> None:
    """The whole of it, once; another place in the code is another kind."""
    said: list[str] = []
    errors = EnvErrors(said.append)
    for episode, line in ((1, 12), (2, 12), (3, 40)):
        errors.lost(lost(episode, line))
    assert len(said) == 2
    assert "episode 1" in said[0] and "boom()" in said[0] and "ValueError: at 1" in said[0] and "line 40" in said[1]


def test_an_error_that_repeats_ends_the_run_and_one_that_comes_now_and_then_does_not() -> None:
    """In a row, with no episode finished in between; a process that was killed has no traceback and does not count."""
    errors = EnvErrors(lambda text: None)
    for episode in range(3 * REPEATS):
        errors.lost(lost(episode))
        errors.finished()
    killed = EpisodeLost(EpisodeRequest(99, 0, 0, 0, True), "environment process died (signal 9)")
    for _ in range(3 * REPEATS):
        errors.lost(killed)
    for episode in range(REPEATS - 1):
        errors.lost(lost(episode))
    with pytest.raises(RunFailedError, match=r"3 times by environments, and no episode finished .*ValueError: at 7"):
        errors.lost(lost(7))
