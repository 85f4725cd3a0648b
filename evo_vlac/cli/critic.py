"""``critic``: scores a trajectory, frame by frame."""

from __future__ import annotations

import argparse
from typing import Any

from evo_vlac.cli.options import (
    INPUT_HELP,
    add_episode,
    add_json,
    add_model,
    emit,
    mode_of,
    number,
    open_critic,
    read_trajectory,
    table,
    without_empty,
)
from evo_vlac.critic import REF_NUM, TrajectoryOptions, TrajectoryResult
from evo_vlac.errors import OptionError
from evo_vlac.metrics import ONE_FRAME, any_readable
from evo_vlac.parsing import DONE_THRESHOLD, DoneResult
from evo_vlac.queries import reference_indices
from evo_vlac.values import ValueOptions
from evo_vlac.video import Annotation, Series, Video, annotated_video, read_video, summary_picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``critic``."""
    parser.epilog = (
        "example:\n  python -m evo_vlac critic episode.mp4 --task 'lift the red cube' --skip 5 --done --video out.mp4"
    )
    parser.add_argument("input", nargs="+", help=INPUT_HELP)
    parser.add_argument("--task", help="what the robot should do (needed unless a dataset says it)")
    add_episode(parser)
    parser.add_argument("--reference", help="video or folder of a success, shown to the critic (one-shot)")
    parser.add_argument("--ref-num", type=int, default=REF_NUM, help="reference frames shown (default: %(default)s)")
    parser.add_argument("--fps", type=float, default=5.0, help="frames a second taken at most (default: %(default)s)")
    parser.add_argument("--skip", type=int, default=1, help="frames between the images of a pair (default: 1)")
    parser.add_argument("--all-frames", action="store_true", help="score every frame, not every skip-th")
    parser.add_argument("--mode", default="simple", help="critics to values: simple, mix_f, mirror (default: simple)")
    parser.add_argument("--rich", action="store_true", help="decimals from the token probabilities")
    parser.add_argument("--think", action="store_true", help="reasoning before the number")
    parser.add_argument("--reverse", action="store_true", help="pairs shown in reverse, answers negated (VROC)")
    parser.add_argument("--done", action="store_true", help="also ask whether the task is done")
    parser.add_argument("--threshold", type=float, default=DONE_THRESHOLD, help="of done (default: %(default)s)")
    parser.add_argument("--video", help="write the annotated video here")
    parser.add_argument("--picture", help="write a summary picture (PNG) here")
    parser.add_argument("--output", help="write the result as JSON here")
    add_model(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """Scores a trajectory."""
    settings = TrajectoryOptions(
        skip=options.skip,
        frame_skip=not options.all_frames,
        rich=options.rich,
        think=options.think,
        reverse=options.reverse,
        ref_num=options.ref_num,
        values=ValueOptions(mode=mode_of(options.mode)),
    )
    video, task = read_trajectory(options)
    if task is None:
        raise OptionError("no --task is given; only a dataset brings its own")
    reference = read_video(options.reference, fps=options.fps).frames if options.reference else ()
    with open_critic(options, "critic") as critic:
        result = critic.trajectory(video.frames, task, reference=reference, options=settings)
        done: list[DoneResult] = []
        if options.done:
            judged = [video.frames[i] for i in result.frames]
            done = critic.done(judged, task, threshold=options.threshold)
    _draw(options, video, result, done, [reference[i] for i in reference_indices(len(reference), options.ref_num)])
    emit(options, _critic_json(video, result, done), _critic_text(video, result, done), options.output)


def _draw(
    options: argparse.Namespace, video: Video, result: TrajectoryResult, done: list[DoneResult], reference: Any
) -> None:
    annotation = Annotation(
        task=result.task,
        values=Series(result.frames, result.values),
        critics=Series(result.frames[1:], result.critics),
        done=Series(result.frames[: len(done)], tuple(answer.probability for answer in done)),
        threshold=options.threshold,
        reference=tuple(reference),
    )
    if options.video:
        annotated_video(options.video, video.frames, annotation, video.fps)
    if options.picture:
        summary_picture(options.picture, video.frames, annotation)


def _critic_json(video: Video, result: TrajectoryResult, done: list[DoneResult]) -> dict[str, Any]:
    judged = any_readable(result.critics)
    out: dict[str, Any] = {
        "task": result.task,
        "source": video.name,
        "frames": result.frames,
        "source_frames": [video.source_frames[i] for i in result.frames],
        "seconds": [video.seconds[i] for i in result.frames],
        "values": result.values,
        "critics": result.critics,
        "voc": result.voc if judged else None,
        "negative_rate": result.negative_rate if judged else None,
        "reward": result.reward,
        "invalid": result.invalid,
        "reverse": result.reverse,
        "answers": [answer.text for answer in result.results],
    }
    if done:
        out["done"] = [{"done": d.done, "probability": d.probability, "valid": d.valid} for d in done]
    return out


def _critic_text(video: Video, result: TrajectoryResult, done: list[DoneResult]) -> str:
    head = ["frame", "source frame", "second", "critic %", "value %", "done" if done else ""]
    rows = []
    for i, (frame, value) in enumerate(zip(result.frames, result.values)):
        critic = result.critics[i - 1] if i else None
        verdict = ("yes" if done[i].done else "no" if done[i].valid else "?") if done else ""
        source, second = str(video.source_frames[frame]), number(video.seconds[frame])
        rows.append([str(frame), source, second, number(critic, "+.1f"), number(value, ".1f"), verdict])
    text = table(*without_empty(head, rows)) + "\n"
    if not result.critics:
        return text + ONE_FRAME
    name = "VROC" if result.reverse else "VOC"
    unread = f", {result.invalid} answers unreadable" if result.invalid else ""
    if not any_readable(result.critics):
        return text + f"{name}, NR and last value: unknown{unread}"
    return (
        text + f"{name} {result.voc:.3f}, NR {result.negative_rate:.3f}, last value {result.values[-1]:.1f} %{unread}"
    )
