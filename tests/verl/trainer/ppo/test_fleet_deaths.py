"""The fleet over real Ray actors that are killed: every request is answered once, or handed back as lost."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.own_ray import own_ray
from verl.episode import EpisodeLost, EpisodeRequest
from verl.errors import RunFailedError
from verl.trainer.heartbeat import reporting
from verl.trainer.ppo.fleet import MOST_FAILURES, Fleet
from verl.workers.advance import Advance
from verl.workers.work import Report, Work

pytestmark = pytest.mark.timeout(120)
REQUESTS = 10
BROKEN = 5  # the number of the episode that fails in every worker


@dataclass
class Ended:
    """Stands for an episode. ``pid``: the process that played it; ``weights``: what it had."""

    request: EpisodeRequest
    pid: int
    weights: str | None


class Player:
    """A rollout worker without policy and simulator: an episode begins in one call and ends in the next.

    ``deaths``: a folder; who finds the file that a moment is called after takes it away, and kills itself.
    """

    def __init__(self, deaths: str) -> None:
        self.deaths, self.work, self.weights = Path(deaths), Work(), None
        self.out: list[EpisodeRequest] = []

    def report(self) -> Report:
        return self.work.report()

    def load_weights(self, weights: str) -> None:
        self._die("loading")
        self.weights = weights

    def advance(self, requests: list[EpisodeRequest], seconds: float) -> Advance:
        ended, self.out = self.out, requests
        if ended:
            self._die("playing")  # episodes are out, and the call's report is not sent
        report = Advance(running=len(requests))
        for request in ended:
            if request.episode == BROKEN:
                report.lost.append(EpisodeLost(request, "the simulator died"))
            else:
                report.episodes.append(Ended(request, os.getpid(), self.weights))
        return report

    def _die(self, moment: str) -> None:
        try:
            (self.deaths / moment).unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def close(self) -> None:
        return


@pytest.fixture(scope="module", autouse=True)
def real_ray():
    with own_ray():
        yield


def make_fleet(deaths: Path, workers: int) -> Fleet:
    actor = reporting(Player)
    return Fleet(lambda index: actor.options(num_cpus=1).remote(str(deaths)), workers, 3, 60.0, 1.0, lambda: None)


def play(fleet: Fleet) -> tuple[list[Ended], list[EpisodeLost]]:
    """``REQUESTS`` episodes: those that ended, those that were given up."""
    requests = [EpisodeRequest(i, i // 2, 0, 0, True) for i in range(REQUESTS)]
    finished, given_up = [], []
    yielded = list(fleet.run(requests, finished, given_up, lambda group: []))
    assert yielded == finished
    return finished, given_up


@pytest.mark.parametrize("moment", ["playing", "loading"])
def test_a_killed_worker_loses_no_request_and_answers_none_twice(tmp_path: Path, moment: str) -> None:
    """What it had is played again, by a new process with the weights of all; what fails by itself is handed back."""
    fleet = make_fleet(tmp_path, workers=2)
    fleet.load_weights("first")
    (tmp_path / moment).touch()
    fleet.load_weights("second")
    finished, given_up = play(fleet)
    assert not (tmp_path / moment).exists(), "nobody was killed"
    assert sorted(one.request.episode for one in finished) == [i for i in range(REQUESTS) if i != BROKEN]
    assert [lost.request.episode for lost in given_up] == [BROKEN]
    assert {one.weights for one in finished} == {"second"}
    statistics = fleet.statistics
    assert statistics.workers_replaced == 1 and (statistics.lost_with_workers > 0) == (moment == "playing")
    assert len(fleet.workers) == 2
    fleet.close()


def test_workers_that_are_all_killed_end_the_run_with_the_reason(tmp_path: Path) -> None:
    """One worker, killed in its episodes as often as it is made, though it reports before: the run ends and says so."""
    fleet = make_fleet(tmp_path, workers=1)
    fleet.make = _mined(fleet.make, tmp_path / "playing")
    (tmp_path / "playing").touch()
    with pytest.raises(RunFailedError, match="no rollout worker is left; the last died"):
        play(fleet)
    assert fleet.statistics.workers_replaced == MOST_FAILURES - 1


def _mined(make, mine: Path):
    """``make``, which lays the mine again for each worker that it makes."""

    def making(index: int):
        mine.touch()
        return make(index)

    return making
