"""An outage is no verdict: over the real bridge, with a sidecar that fails, is slow or cannot be read when told to."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from shm_bridge import Kind, Lane, Reply, Server, Status, Verdict
from tests.verl.critic import critic_config
from tests.verl.envs.fake_env import FakeEnv
from tests.verl.envs.test_critic_link import Sidecar, drive, pool_of, run_id, start, training  # noqa: F401 (fixtures)
from verl.envs.critic_link import CriticLink, is_reply
from verl.episode import EpisodeEnd, EpisodeLost, EpisodeRequest
from verl.errors import CriticBridgeError, InvalidVerdictError, QuestionFailedError, SidecarLostError


def play(run_id: str, episodes: int = 1, **keys: Any) -> list[EpisodeEnd | EpisodeLost]:  # noqa: F811
    with pool_of(run_id, **keys) as pool:
        for number in range(episodes):
            pool.submit(training(number))
        return sorted(drive(pool, episodes), key=lambda end: end.request.episode)


@pytest.mark.parametrize("done_at", [11, 10**6])
def test_what_an_outage_delays_it_does_not_change(run_id: str, start: Any, done_at: int) -> None:  # noqa: F811
    """Every question fails for 1.5 s: all are asked again, and each episode ends as if nothing had been."""
    start(done_at, "down=1.5")
    ends = play(run_id, 3)
    for end in ends:
        assert isinstance(end, EpisodeEnd)
        steps, complete, score = (11, True, 1.0) if done_at == 11 else (20, False, 0.2)
        assert (end.steps, end.complete, end.score) == (steps, complete, pytest.approx(score))
        assert end.invalid == 0 and len(end.asked) == steps and np.isfinite(end.probabilities).all()
    assert ends[0].outages > 0, "counted as what it was"
    assert ends[0].latencies_us.max() > 1_000_000, "the latency is from the first asking to the reply"


def test_an_outage_without_an_end_ends_the_run_and_names_the_question(run_id: str, start: Any) -> None:  # noqa: F811
    """No zero, no endless loop: after ``verdict_timeout_s`` a typed error, with lane, task and step."""
    start(11, "down=1000")
    started = time.monotonic()
    with pytest.raises(
        SidecarLostError, match=r"verdict_timeout_s=2 s.*lane '\S+-0.1', task 'task 0': the DONE question about step 1 "
    ):
        play(run_id, timeout_s=2.0)
    assert time.monotonic() - started < 15


def test_a_question_that_fails_while_others_are_answered_ends_the_run(run_id: str, start: Any) -> None:  # noqa: F811
    """It is the question, not the sidecar: named after ``max_failures`` tries, long before any time-out."""
    start(10**6, "fails=7", "pause=0.05")
    with pool_of(run_id, 2, max_failures=3, timeout_s=60.0) as pool:
        pool.submit(training(0))
        for number in range(1, 30):  # in the other lane: what the sidecar answers all the while
            pool.submit(EpisodeRequest(number, 0, 1, number, training=True))
        with pytest.raises(QuestionFailedError, match=r"DONE question about step 7 of task 'task 0' failed 3 times"):
            drive(pool, 30)


def test_a_slow_critic_is_back_pressure_and_no_fault(run_id: str, start: Any) -> None:  # noqa: F811
    """20 dones and a value list at 0.2 s each, with a time-out of 1 s: the sidecar gets on, so nothing is lost."""
    start(10**6, "pause=0.2")
    with pool_of(run_id, timeout_s=1.0) as pool:
        pool._silence_s = 4.0
        for number in range(2):
            pool.submit(training(number))
        ends = drive(pool, 2)
        assert pool.replaced == 0
    assert all(isinstance(end, EpisodeEnd) and end.score == pytest.approx(0.2) for end in ends)


def test_a_value_list_with_holes_counts_and_they_are_counted(run_id: str, start: Any) -> None:  # noqa: F811
    """One of three pairs unreadable: the held list pays its last value."""
    start(10**6, f"holes={1 / 3}")
    (end,) = play(run_id, invalid="drop")
    assert isinstance(end, EpisodeEnd)
    assert (end.score, end.value_holes, end.invalid) == (pytest.approx(0.2), 1, 0)


@pytest.mark.parametrize("policy", ["not_done", "drop", "stop"])
def test_an_unreadable_reply_is_the_policys_matter(run_id: str, start: Any, policy: str) -> None:  # noqa: F811
    """INVALID is asked once and goes to ``critic.invalid``; a dropped episode says that another try is useless."""
    start(11, "text=5")
    if policy == "stop":
        with pytest.raises(InvalidVerdictError, match="step 5"):
            play(run_id, invalid=policy)
        return
    (end,) = play(run_id, invalid=policy)
    if policy == "drop":
        assert isinstance(end, EpisodeLost) and end.dropped and end.verdicts >= 5
    else:
        assert isinstance(end, EpisodeEnd)
        assert (end.steps, end.invalid, end.outages, end.score) == (11, 1, 0, 1.0)


def test_an_evaluation_goes_on_without_its_audit(run_id: str, start: Any) -> None:  # noqa: F811
    """The critic decides nothing there: an outage for good costs the audit, not the episode."""
    start(11, "down=1000")
    with pool_of(run_id, timeout_s=1.0, audit_val=True, env={"success_at": 13}) as pool:
        pool.submit(EpisodeRequest(0, -1, 0, 0, training=False))
        (end,) = drive(pool, 1)
    assert isinstance(end, EpisodeEnd) and (end.steps, end.score) == (13, 1.0)


def verdict(status: Status, valid: bool, values: list[float] | None = None) -> Verdict:
    array = None if values is None else np.array(values, np.float32)
    return Verdict(1, Kind.VALUE, 0, 3, False, 0.0, 1.0, valid, status, array, 1, 0, 0, 1, 1)


def test_only_the_models_word_is_a_reply() -> None:
    """Of the five statuses two are; a list that cannot be is an error, not a number."""
    for status in Status:
        assert is_reply(verdict(status, False), 0) is (status in (Status.OK, Status.INVALID))
    assert is_reply(verdict(Status.OK, True, [0, 1]), 2)
    for impossible in ([0.0], [0.0, float("nan")], None):
        with pytest.raises(CriticBridgeError, match="impossible value list for 2 frames"):
            is_reply(verdict(Status.OK, True, impossible), 2)


def test_the_earliest_frame_is_waited_for_and_the_oldest_question_is_named(
    run_id: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when it was asked again, with a later ticket than the others: by its step, and since its first asking."""
    waited: list[int] = []
    wait = Lane.wait
    monkeypatch.setattr(
        Lane, "wait", lambda lane, ticket, timeout: [waited.append(ticket), wait(lane, ticket, 0.01)][1]
    )
    with Server.create(run_id) as server:
        server.set_ready(True)
        env = FakeEnv({})
        link = CriticLink(critic_config(run_id), env.cameras[0], 8, "order", lambda: None)
        try:
            link.begin(1, "task")
            for step in range(4):
                link.draw(env, step)
            for step in (1, 2, 3):
                link.ask_done(step)
            link.ask_value(3, 1)
            server.answer(server.poll()[0], Reply(valid=False, status=Status.FAILED))
            assert link.wait() == [] and link.outages == 1, "it pauses; the next one is waited for"
            assert "DONE question about step 1 is open, after 1 failures" in link._oldest()[1]
            while not (again := server.poll()):
                assert link.wait() == []
            assert again[0].steps == (1,) and link.wait() == [] and waited[-1] == again[0].ticket
            server.answer(again[0], Reply())
            (reply,) = link.wait()
            assert reply.step == 1 and "DONE question about step 2 is open)" in link._oldest()[1]
            link.end()
            assert link._oldest()[1] == ""
        finally:
            link.close()
