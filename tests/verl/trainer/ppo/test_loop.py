"""An update is counted when it was made; what is done every so many updates is done once for each count."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from verl.episode import EpisodeLost
from verl.errors import RunFailedError
from verl.launch import interrupt
from verl.trainer.load_config import load_config
from verl.trainer.ppo import groups, rollouts
from verl.trainer.ppo.fleet_statistics import FleetStatistics
from verl.trainer.ppo.loop import Trainer
from verl.trainer.ppo.schedule import Schedule

MADE = {"steps": 2.0, "steps_skipped": 0.0, "recomputed": 0.0, "mismatch_kl": 0.0, "mismatch_max": 0.0}
NOT_FINITE = {**MADE, "steps": 0.0, "steps_skipped": 2.0}


class FakeFleet:
    """Plays every request at once. ``signal[n]``: whether the n-th training group's rollouts differ."""

    def __init__(self, make_episode, signal: list[bool]) -> None:
        self.make_episode, self.signal, self.statistics = make_episode, signal, FleetStatistics()

    def load_weights(self, learners, told) -> None: ...

    def run(self, requests, finished, given_up, refill):
        queue = list(requests)
        while queue:
            request = queue.pop(0)
            good = request.training and self.signal[request.group] and request.episode % 2 == 0
            finished.append(
                self.make_episode(
                    request.episode, steps=8, score=float(good), group=request.group, training=request.training
                )
            )
            queue.extend(refill(finished[-1].request.group))
            yield finished[-1]


class FakeCheckpoints:
    def __init__(self) -> None:
        self.last, self.best, self.saved = None, None, []

    def save(self, step, learners, state, arrays) -> None:
        self.last = step
        self.saved.append((step, state, arrays))

    def log_sizes(self) -> dict[str, int]:
        return {}

    def tick(self) -> None: ...

    def wait(self) -> None: ...

    def mark_best(self, step: int) -> None:
        self.best = step


@pytest.fixture
def make_trainer(make_episode):
    """A trainer whose workers and learners are played by the test; ``learnt``: what each update was asked with."""

    def make(signal: list[bool], *overrides: str, results=()) -> Trainer:
        config, _ = load_config(
            [
                "data.n_samples=2",
                "data.train_batch_size=1",
                "data.val_batch_size=2",
                "trainer.videos=0",
                f"trainer.total_episodes={2 * len(signal)}",
                "trainer.val_before_train=false",
                *overrides,
            ]
        )
        rows: list[tuple[int, dict]] = []
        recorder = SimpleNamespace(
            log=lambda step, metrics: rows.append((step, metrics)),
            episode=lambda *_: None,
            state=dict,
            rows=rows,
            restore=lambda _: None,
        )
        progress = SimpleNamespace(
            stage=lambda *_: None,
            episode=lambda *_: None,
            evaluated=lambda *_: None,
            note=lambda *_: None,
            share=lambda _: None,
        )
        sidecars = SimpleNamespace(phase=lambda _: None, state=dict, restore=lambda _: None)
        fleet, outcomes, learnt = FakeFleet(make_episode, signal), list(results), []

        def learn(samples, rollout):
            learnt.append((rollout, samples))
            return outcomes.pop(0) if outcomes else MADE

        learners = SimpleNamespace(update=learn, actors=[])
        trainer = Trainer(
            config, Schedule(config.data, 1), fleet, learners, sidecars, recorder, progress, FakeCheckpoints()
        )
        trainer.learnt = learnt
        return trainer

    return make


def evaluations(trainer: Trainer) -> list[int]:
    return [step for step, metrics in trainer.recorder.rows if "val/success" in metrics]


@pytest.fixture(autouse=True)
def one_group_a_rollout(monkeypatch):
    """No group is started in the place of one without a signal: such a rollout has no update."""
    monkeypatch.setattr(groups, "MOST_OVERSAMPLING", 1)


def test_a_rollout_without_a_signal_is_no_update(make_trainer):
    """Counts, metrics, names of checkpoints and evaluations are of updates made, each once; draws are by rollout."""
    signal = [False, True, False, False, True, True, False]
    trainer = make_trainer(signal, "trainer.save_freq=1", "trainer.test_freq=2")
    trainer.fit()
    assert (trainer.counts.updates, trainer.counts.rollouts, trainer.counts.skipped) == (3, 7, 4)
    assert [rollout for rollout, _ in trainer.learnt] == [2, 5, 6]
    assert [step for step, *_ in trainer.checkpoints.saved] == [1, 2, 3]
    assert evaluations(trainer) == [2, 3]
    skipped = [metrics["actor/skipped"] for _, metrics in trainer.recorder.rows if "actor/skipped" in metrics]
    assert skipped == [1, 1, 2, 3, 3, 3, 4]
    _, state, _ = trainer.checkpoints.saved[1]
    assert (state["updates"], state["rollouts"]) == (2, 5)


def test_what_the_last_checkpoint_takes_is_the_checkpoints(make_trainer, monkeypatch):
    """The run ends when it is on the disk; the table at its end says what that took."""
    trainer = make_trainer([True])
    timed, stages, waited = type(trainer.counts).timed, [], []

    @contextmanager
    def told(counts, stage):
        stages.append(stage)
        with timed(counts, stage):
            yield
        stages.pop()

    monkeypatch.setattr(type(trainer.counts), "timed", told)
    trainer.checkpoints.wait = lambda: waited.append(list(stages))
    trainer.fit()
    assert waited == [["checkpoint"]]


def test_the_limit_of_updates_counts_those_made(make_trainer):
    trainer = make_trainer([False, True, False, True, True], "trainer.total_training_steps=2")
    trainer.fit()
    assert (trainer.counts.updates, trainer.counts.rollouts) == (2, 4)


def test_without_any_signal_the_run_ends_with_its_episodes(make_trainer):
    """No update, one checkpoint (of the weights it began with) and one evaluation."""
    trainer = make_trainer(
        [False] * 5,
        "trainer.total_training_steps=3",
        "trainer.save_freq=1",
        "trainer.test_freq=1",
        "trainer.val_before_train=true",
    )
    trainer.fit()
    assert (trainer.counts.updates, trainer.counts.rollouts, trainer.counts.episodes) == (0, 5, 10)
    assert [step for step, *_ in trainer.checkpoints.saved] == [0] and evaluations(trainer) == [0]


def test_an_update_without_a_finite_gradient_is_none(make_trainer):
    trainer = make_trainer([True, True, True], "trainer.save_freq=1", results=[MADE, NOT_FINITE, MADE])
    trainer.fit()
    assert (trainer.counts.updates, trainer.counts.skipped) == (2, 1)
    assert [step for step, *_ in trainer.checkpoints.saved] == [1, 2]


def test_two_rollouts_between_the_same_updates_draw_differently(make_trainer, monkeypatch):
    """Rewards dealt out at random, with no update made: the key is the rollout's number, also after a resume."""
    drawn = []
    monkeypatch.setattr(rollouts, "shuffle_rewards", lambda episodes, rng: (drawn.append(rng.random()), episodes)[1])
    trainer = make_trainer([False] * 6, "critic.shuffle=true")
    trainer.fit()
    assert trainer.counts.updates == 0 and len(set(drawn)) == 6
    (_, state, arrays), *_ = trainer.checkpoints.saved
    resumed = make_trainer([False] * 8, "critic.shuffle=true", "trainer.val_before_train=true")
    resumed.restore(state, arrays)
    resumed.fit()
    assert len(set(drawn)) == 8 and resumed.counts.rollouts == 8 and evaluations(resumed) == [0]  # at its end


def test_an_evaluation_that_lost_a_state_for_good_has_no_success(make_trainer, monkeypatch):
    """Of what is left the share would be that of the states on which the simulator does not fail."""
    trainer = make_trainer([True])

    def run(requests, finished, given_up, refill):
        given_up.append(EpisodeLost(requests[0], "the simulator died"))
        return iter(())

    monkeypatch.setattr(trainer.fleet, "run", run)
    with pytest.raises(RunFailedError, match="1 of 2 evaluation episodes were lost twice: the simulator died"):
        trainer.evaluate()


def test_curves_show_each_rollouts_critic_and_an_audited_evaluation_has_figures(make_trainer):
    """Precision of the rollout alone: a critic that has become worse is not hidden by what it was."""
    trainer = make_trainer([True, True], "critic.audit_val=true")
    trainer.rollouts.audit.total.both = 98  # it has been right before
    shown = []
    trainer.progress.episode = lambda _, audit: shown.append(audit)
    trainer.fit()
    live = [audit for audit in shown if audit is not None]
    assert len({id(audit) for audit in live}) == 2 and trainer.rollouts.audit not in live
    rows = [metrics["critic/precision"] for _, metrics in trainer.recorder.rows if "critic/precision" in metrics]
    assert rows == [0.0, 0.0]  # one done each, no success
    shown = [metrics for _, metrics in trainer.recorder.rows if "val/success" in metrics]
    assert all({"val/critic_precision", "val/critic_recall"} <= set(metrics) for metrics in shown)
    assert sum(trainer.summary()["confusion_in_evaluation"].values()) == 2
    assert make_trainer([True]).summary()["confusion_in_evaluation"] == {}


@pytest.fixture
def stop(monkeypatch):
    """Asks this process to stop, as the launcher does."""
    before = {number: signal.getsignal(number) for number in interrupt.SIGNALS}
    monkeypatch.setattr(interrupt, "_asked", [])
    interrupt.install()
    yield lambda: signal.raise_signal(signal.SIGINT)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_stop_in_a_rollout_leaves_a_checkpoint_of_the_moment_before_it(make_trainer, monkeypatch, stop):
    trainer = make_trainer([True] * 4)
    play = trainer.fleet.run

    def run(requests, *others):
        for episode in play(requests, *others):
            if episode.request.training and trainer.counts.updates == 2:
                stop()
            yield episode

    monkeypatch.setattr(trainer.fleet, "run", run)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    ((step, state, _),) = trainer.checkpoints.saved
    assert (step, state["updates"], state["rollouts"], state["episodes"]) == (2, 2, 2, 4)
    assert state["schedule"]["next_group"] == 2 and trainer.schedule.next_group == 3


def test_a_stop_in_an_update_lets_it_finish_and_saves_it(make_trainer, monkeypatch, stop):
    trainer = make_trainer([True] * 4)
    learn = trainer.learners.update
    monkeypatch.setattr(trainer.learners, "update", lambda *call: (stop(), learn(*call))[1])
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    ((step, state, _),) = trainer.checkpoints.saved
    assert (step, state["updates"], state["rollouts"], len(trainer.learnt)) == (1, 1, 1, 1)


def test_a_stop_for_which_no_time_is_left_saves_no_half_update(make_trainer, monkeypatch, stop):
    """The learners are somewhere in it: what they hold is of no moment."""
    trainer = make_trainer([True] * 4, "trainer.stop_timeout_s=0")
    monkeypatch.setattr(trainer.learners, "update", lambda *call: stop())
    trainer.progress.note = (said := []).append
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert trainer.checkpoints.saved == []
    assert said == ["no checkpoint of update 0: Ctrl-C came twice, or trainer.stop_timeout_s=0 were over"]


def test_a_stop_after_a_checkpoint_makes_no_other(make_trainer, monkeypatch, stop):
    trainer = make_trainer([True] * 4, "trainer.save_freq=1")
    save = trainer.checkpoints.save
    monkeypatch.setattr(trainer.checkpoints, "save", lambda *call: (save(*call), stop()))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert [step for step, *_ in trainer.checkpoints.saved] == [1]
