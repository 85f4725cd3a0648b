"""One pass of a critic over trajectories: all questions of an evaluation are asked here, counted elsewhere.

Progress is judged up to the success, since after it nothing progresses any more. Done is asked frame by frame where the
data flags frames, else of the last frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from evo_vlac.critic import REF_NUM, Critic
from evo_vlac.datasets import Trajectory
from evo_vlac.errors import DatasetError, OptionError
from evo_vlac.evaluation.screening import Row, ScreenOptions, Thresholds, score
from evo_vlac.parsing import DONE_THRESHOLD


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """What is asked.

    skip: frames between the images of a pair. one_shot: also with a reference trajectory of ref_num frames. progress:
    whether progress is asked at all; reverse: also in reverse (VROC). threshold: of done. every: done is asked of each
    every-th frame and the last. failures: progress also of those known to have failed. wrong_tasks: asked on the last
    wrong_frames frames whose own task is done.
    """

    skip: int = 5
    one_shot: bool = True
    ref_num: int = REF_NUM
    rich: bool = False
    mode: bool | str = True
    threshold: float = DONE_THRESHOLD
    every: int = 1
    failures: bool = False
    progress: bool = True
    reverse: bool = True
    wrong_tasks: tuple[str, ...] = ()
    wrong_frames: int = 1

    def __post_init__(self) -> None:
        for name, low in (("skip", 1), ("ref_num", 1), ("every", 1), ("wrong_frames", 0)):
            if getattr(self, name) < low:
                raise OptionError(f"{name} is {getattr(self, name)}; at least {low} is needed")
        if not 0 <= self.threshold < 1:
            raise OptionError(f"threshold is {self.threshold}; allowed: 0 <= threshold < 1")

    @property
    def screening(self) -> ScreenOptions:
        """How the progress of one trajectory is scored."""
        return ScreenOptions(
            skip=self.skip,
            reverse=self.reverse,
            tail=0,
            rich=self.rich,
            ref_num=self.ref_num,
            mode=self.mode,
            thresholds=Thresholds(None, None, None, None, None, None),
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """What a critic said of one trajectory, and what the data says.

    ``probabilities`` is P(done) of the frames asked about (NaN: the answer cannot be read), ``truth`` whether they are
    done; both are empty where the data does not know. ``flagged``: the data flags every frame. ``zero_shot`` and
    ``one_shot``: the figures of progress, where asked. ``wrong``: whether done was said, by wrong task and frame.
    """

    task: str
    probabilities: tuple[float, ...]
    truth: tuple[bool, ...]
    kind: str = "unknown"
    flagged: bool = True
    zero_shot: Row | None = None
    one_shot: Row | None = None
    wrong: tuple[bool, ...] = ()

    @property
    def success(self) -> bool:
        """The data says done at one of the frames asked about."""
        return any(self.truth)

    def first_said(self, threshold: float) -> int | None:
        """The first of the frames asked about that the critic says is done: training would end the episode there."""
        return next((i for i, p in enumerate(self.probabilities) if p > threshold), None)

    def right(self, threshold: float, slack: int = 0) -> bool:
        """The critic's first done comes where the data agrees, or at most ``slack`` frames before it does."""
        said = self.first_said(threshold)
        return said is not None and any(self.truth[said : said + slack + 1])


def judge(critic: Critic, trajectories: Iterable[Trajectory], options: EvaluationOptions) -> Iterator[Judged]:
    """Asks the critic about one trajectory after the other. The first success of each task is the reference trajectory
    of the others. Raises DatasetError without trajectories."""
    references: dict[str, Trajectory] = {}
    empty = True
    for trajectory in trajectories:
        empty = False
        picks = _asked_frames(trajectory, options.every)
        answers = critic.done([trajectory.frames[i] for i in picks], trajectory.task, threshold=options.threshold)
        zero = one = None
        if options.progress and (trajectory.success is not False or options.failures):
            part = _until_done(trajectory)
            reference = references.get(part.task) if options.one_shot else None
            zero = score(critic, part, options.screening)
            if reference is not None:
                one = score(critic, part, options.screening, reference=list(reference.frames))
            elif options.one_shot and trajectory.success is not False:
                references[part.task] = part
        yield Judged(
            task=trajectory.task,
            probabilities=tuple(answer.probability for answer in answers),
            truth=tuple(_truth(trajectory, i) for i in picks),
            kind=trajectory.kind,
            flagged=trajectory.dones is not None,
            zero_shot=zero,
            one_shot=one,
            wrong=_wrong_tasks(critic, trajectory, options),
        )
    if empty:
        raise DatasetError("there are no trajectories to judge")


def _asked_frames(trajectory: Trajectory, every: int) -> list[int]:
    """The frames whose done is asked: those of which the data knows the truth."""
    last = len(trajectory) - 1
    if trajectory.dones is not None:
        return sorted({*range(0, len(trajectory), every), last})
    return [last] if trajectory.success is not None else []


def _truth(trajectory: Trajectory, frame: int) -> bool:
    return bool(trajectory.success) if trajectory.dones is None else trajectory.dones[frame]


def _until_done(trajectory: Trajectory) -> Trajectory:
    end = trajectory.first_done
    return trajectory if not end else trajectory.take(range(end + 1))


def _wrong_tasks(critic: Critic, trajectory: Trajectory, options: EvaluationOptions) -> tuple[bool, ...]:
    done = [i for i, flag in enumerate(trajectory.dones or ()) if flag]
    frames = [trajectory.frames[i] for i in done[-options.wrong_frames :]] if options.wrong_frames else []
    if not frames:
        return ()
    tasks = [task for task in options.wrong_tasks if task != trajectory.task]
    return tuple(a.done for task in tasks for a in critic.done(frames, task, threshold=options.threshold))
