"""Two rows of the proof that learn by imitation: of the successful demonstrations; of the start's own good episodes.

Both go on from the start policy, for the same steps at a third of its learning rate. ``cloning`` imitates the
demonstrations that the simulator calls successes. ``rejection`` plays as many training episodes as a reinforcement
learning has, and imitates those that the critic calls done, up to that frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evo_vlac.critic import Critic
from evo_vlac.datasets import Trajectory
from evo_vlac.datasets.hdf5 import Hdf5Writer, stored_demos
from studies.proof_verdicts import held_at
from verl.envs.collect import Demo
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.warm_start import Demonstrations, TrainConfig, train


def imitate(start: Path, data: Demonstrations | None, config: TrainConfig, out: Path) -> OpenVLAOFTPolicy:
    """``start`` after so many steps on ``data`` (None: there is nothing to imitate, it stays what it is); kept in
    ``out``, and read from there the next time."""
    if (out / "config.json").exists():
        return OpenVLAOFTPolicy.from_pretrained(out)
    policy = OpenVLAOFTPolicy.from_pretrained(start)
    if data is not None:
        train(policy, data, config, out.with_suffix(".pt"))
    policy.save_pretrained(out)
    return policy


def good_episodes(played: Iterable[Demo], critic: Critic, thresholds: Mapping[str, float], hold: int) -> Iterator[Demo]:
    """Those that the critic calls done by their instruction's threshold, each up to there."""
    for one in played:
        shown = one.trajectory
        answers = critic.done(list(shown.frames), shown.task, threshold=thresholds[shown.task])
        if last := held_at([answer.done for answer in answers], hold):
            others = {name: frames[: last + 1] for name, frames in one.other_cameras.items()}
            yield Demo(shortened(shown, last), others)


def shortened(played: Trajectory, last: int) -> Trajectory:
    """Its frames up to number ``last``, and the actions between them; nothing of the simulator's word."""
    kept: dict[str, Any] = {"frames": played.frames[: last + 1], "task": played.task, "name": played.name}
    if played.actions is not None and played.proprio is not None:
        kept |= {"actions": played.actions[:last], "proprio": played.proprio[: last + 1]}
    return Trajectory(**kept, kind="policy", seed=played.seed)


def good_files(
    folder: Path,
    tasks: Sequence[str],
    played: Callable[[int], Iterable[Demo]],
    critic: Critic,
    thresholds: Mapping[str, float],
    hold: int,
) -> list[Path]:
    """A file for each task that has good episodes. ``played(number)`` plays the episodes of a task."""
    for number, task in enumerate(tasks):
        file = folder / f"{task}.h5"
        if not file.exists():
            with Hdf5Writer(file, "robosuite", task) as writer:
                for one in good_episodes(played(number), critic, thresholds, hold):
                    writer.write(one.trajectory, one.other_cameras)
            print(f"{task}: {writer.count} good episodes", flush=True)
    return [file for file in (folder / f"{task}.h5" for task in tasks) if _holds_any(file)]


def _holds_any(file: Path) -> bool:
    with stored_demos(file) as demos:
        return bool(demos)
