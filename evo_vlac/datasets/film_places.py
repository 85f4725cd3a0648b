"""Where episodes lie in the film that they share (LeRobot 3): by the time stamps of meta, or by their lengths where
those cannot be true."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from evo_vlac.datasets.labels import near

REPAIRED = "time stamps of meta/episodes are wrong: episodes lie in their film one after the other, by their lengths"
DOUBTFUL = "time stamps of meta/episodes give the same pictures to several episodes, and are taken as they are"


@dataclass(frozen=True, slots=True)
class Place:
    """Seconds of an episode in its film, as meta has them. ``length``: its rows; None where meta does not say."""

    episode: int
    start: float
    end: float | None
    length: float | None

    def until(self, fps: float) -> float:
        """Its end; infinite where nothing says it."""
        if self.end is not None:
            return self.end
        return math.inf if self.length is None else self.start + self.length / fps


def checked(places: Sequence[Place], fps: float, film_s: float | None) -> tuple[dict[int, Place], str]:
    """The places by episode, and what is to be said of them ("": nothing is wrong).

    Two episodes in the same pictures, or one that starts after the film's end (``film_s`` seconds), cannot be true.
    Where all of them together are as long as the film, they lie in it in their order.
    """
    slack = near(fps) / fps
    in_time = sorted(places, key=lambda place: place.start)
    shared = any(b.start < a.until(fps) - slack for a, b in pairwise(in_time))
    late = film_s is not None and in_time[-1].start >= film_s
    given = {place.episode: place for place in places}
    if not shared and not late:
        return given, ""
    seconds = [place.length / fps for place in places if place.length is not None]
    if film_s is None or len(seconds) < len(places) or abs(sum(seconds) - film_s) > slack:
        return given, DOUBTFUL if shared else ""
    in_order = sorted(places, key=lambda place: place.episode)
    ends = list(accumulate(place.length / fps for place in in_order if place.length is not None))
    starts = [0.0, *ends[:-1]]
    return {p.episode: Place(p.episode, a, b, p.length) for p, a, b in zip(in_order, starts, ends)}, REPAIRED
