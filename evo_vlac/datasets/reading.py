"""What a dataset's reader tells beside its trajectories: what it chose by guess, and what it could not read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from evo_vlac.camera_names import is_wrist, shows_colour
from evo_vlac.datasets.trajectory import Trajectory
from evo_vlac.errors import DatasetError, ImageError, VideoError

log = logging.getLogger(__name__)

# The last ones come from values of a kind that no field of a dataset should have.
_BROKEN = (DatasetError, ImageError, VideoError, OSError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A trajectory or file that could not be read, and why."""

    name: str
    reason: str


@dataclass(slots=True)
class Reading:
    """Guesses are said once, skipped trajectories as they come, as warnings. ``quiet``: this is a second reading."""

    quiet: bool = False
    skipped: list[Skipped] = field(default_factory=list)
    chosen: dict[str, int] = field(default_factory=dict)
    """What was chosen by guess, and how often."""

    def chose(self, what: str, name: str = "") -> None:
        """Says a guess when it is made first; ``name`` is the trajectory it was made for."""
        self.chosen[what] = self.chosen.get(what, 0) + 1
        if self.chosen[what] == 1 and not self.quiet:
            log.warning("%s", f"{name}: {what}" if name else what)

    def skip(self, name: str, error: Exception) -> None:
        """Notes what cannot be read; the rest of the dataset is."""
        self.skipped.append(Skipped(name, str(error)))
        if not self.quiet:
            log.warning("%s is skipped: %s", name, error)

    def tried(self, name: str, read: Callable[[], Trajectory]) -> Trajectory | None:
        """The trajectory, or None for one that cannot be read and is skipped."""
        try:
            return read()
        except _BROKEN as error:
            self.skip(name, error)
            return None


def pick_camera(
    name: str, cameras: Sequence[str], wanted: str | None, reading: Reading, not_colour: Collection[str] = ()
) -> str:
    """The camera to use, by its name or a part of it; else the first colour camera that is no wrist camera, which is
    said. ``not_colour``: those that the dataset itself calls depth maps. DatasetError lists what there is."""
    if not cameras:
        raise DatasetError(f"{name}: no camera images")
    if wanted is not None and wanted in cameras:
        return wanted
    colour = [camera for camera in cameras if camera not in not_colour and shows_colour(camera)]
    if wanted is not None:
        matches = [camera for camera in cameras if wanted in camera]
        matches = [camera for camera in matches if camera in colour] or matches
        if len(matches) != 1:
            raise DatasetError(f"{name}: no camera {wanted!r}; there are: {', '.join(cameras)}")
        return matches[0]
    outside = [camera for camera in colour if not is_wrist(camera)]
    chosen = (outside or colour or list(cameras))[0]
    if len(cameras) > 1 or not colour:
        reading.chose(f"camera {chosen} is taken of {', '.join(cameras)}", name)
    return chosen
