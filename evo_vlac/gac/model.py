"""``GAC_model``: upstream's public methods, arguments, defaults and returns, over the typed API.

What differs on purpose: the last frame is always scored; an answer that cannot be read counts as no progress (0) and is
logged instead of ending the batch; references of any number work; images are squashed to the checkpoint's own size.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac import metrics, parsing, queries, values
from evo_vlac.critic import Critic, TrajectoryOptions
from evo_vlac.engine import Image
from evo_vlac.errors import OptionError
from evo_vlac.gac.chat import ChatMethods, readable
from evo_vlac.gac.prompts import PromptMethods
from evo_vlac.gac.recordings import RecordingMethods
from evo_vlac.images import load_image
from evo_vlac.utils.data_processing_vlm import denormalize_with_params
from evo_vlac.utils.video_tool import images_get_from_video, video_trajectory

log = logging.getLogger(__name__)


class GAC_model(PromptMethods, ChatMethods, RecordingMethods):  # upstream's name
    """VLAC as its users know it: ``init_model``, ``set_config``, ``set_system_prompt``, then ask."""

    def web_trajectory_critic(
        self,
        task_description: str,
        main_video_path: str,
        reference_video_path: str | None = None,
        batch_num: int = 20,
        ref_num: int = 9,
        think: bool = False,
        skip: int = 1,
        rich: bool = False,
        reverse_eval: bool = False,
        output_path: str | None = None,
        fps: float | None = None,
        frame_skip: bool = False,
        addition_scale: float = 1,
        bias: float = 0,
        positive_clip: float = 0,
        negative_clip: float = 0,
        related_critic: bool = False,
        done_flag: bool = False,
        in_context_done: bool = False,
        done_threshold: float | bool = False,
        video_output: bool = True,
    ) -> tuple[str | None, list[float], list[float], list[float] | None]:
        """Scores a video; returns (path of the annotated video or None, values, critics, done list or None)."""
        frames = images_get_from_video(main_video_path)
        reference = images_get_from_video(reference_video_path) if reference_video_path is not None else None
        done_list = None
        if done_flag:
            judged = [frames[i] for i in _grid(len(frames), skip)] if frame_skip else frames
            done_list = self.get_trajectory_done(
                task=task_description,
                image_list=judged,
                ref_image_list=reference if in_context_done else None,
                batch_num=batch_num,
                rich=True,
                ref_num=ref_num,
                threshold=float(done_threshold),
            )
        critic_list, value_list = self.get_trajectory_critic(
            task=task_description,
            image_list=frames,
            ref_image_list=reference,
            batch_num=batch_num,
            ref_num=ref_num,
            think=think,
            skip=skip,
            rich=rich,
            reverse_eval=reverse_eval,
            frame_skip=frame_skip,
            addition_scale=addition_scale,
            bias=bias,
            positive_clip=positive_clip,
            negative_clip=negative_clip,
            related_critic=related_critic,
        )
        if not video_output:
            return None, value_list, critic_list, done_list
        path = video_trajectory(
            traj_id="temp",
            view="0",
            image_paths=[],
            image_objects=frames,
            done_list=done_list,
            critic_list=critic_list,
            value_list=value_list,
            task=task_description,
            output_path=output_path,
            fps=fps or 5.0 / skip,
            ref_image_paths=reference,
            n_num=ref_num,
        )
        return path, value_list, critic_list, done_list

    def web_trajectory_done(
        self, task_description: str, main_image_path: Any, reference_image_path: Any = None, rich: bool = False
    ) -> str:
        """Whether one image shows the task done, as a line of text."""
        done = self.get_trajectory_done(
            task_description, [main_image_path], batch_num=1, rich=rich, goal_image=reference_image_path
        )
        return f"Task: {task_description}\nCritic Score: {done[0]}"

    def get_trajectory_task(self, image_list: Sequence[Any]) -> list[str]:
        """What task lies between the first and the last image; a list of one text, up to ``</task>``."""
        if not len(image_list):
            raise OptionError("image_list is empty; at least 1 image is needed")
        first, last = load_image(image_list[0]), load_image(image_list[-1])
        return [self._ask("task", 1, lambda critic: critic.describe(first, last))]

    def get_trajectory_done(
        self,
        task: str | None,
        image_list: Sequence[Any],
        ref_image_list: Sequence[Any] | None = None,
        batch_num: int = 20,
        rich: bool = False,
        ref_num: int = 9,
        threshold: float = 0,
        skip: int = 1,
        goal_image: Any = None,
    ) -> list[float]:
        """Done for each image (with ``skip``, every skip-th and the last), 0.0 unless over ``threshold``: 0 or 1, with
        ``rich`` one decimal of the probability; with references the growing share of the way, 0 to 1."""
        images = [load_image(image_list[i]) for i in _grid(len(image_list), skip)]
        if ref_image_list is not None and len(ref_image_list) and len(images):
            done, _ = self.get_in_context_done(
                task or "",
                [images[0]] * (len(images) - 1),
                images[:-1],
                images[1:],
                ref_image_list,
                ref_num=ref_num,
                rich=rich,
                batch_num=batch_num,
            )
            scores = [0.0, *map(float, done)]
        else:
            goal = None if goal_image is None else load_image(goal_image)
            scores = self._ask("done", batch_num, lambda critic: _plain_done(critic, images, task, goal, rich))
        return [score if score > threshold else 0.0 for score in scores]

    def get_in_context_done(
        self,
        task: str,
        first_image: Sequence[Any],
        n_pre_image: Sequence[Any],
        now_image: Sequence[Any],
        ref_image_list: Sequence[Any] | None,
        ref_num: int = 9,
        rich: bool = False,
        batch_num: int = 20,
    ) -> tuple[list[str], list[str]]:
        """In-context done for a batch: (shares of the way as "0.000", critics in percent of the whole as "0.0"); "nan"
        where an answer cannot be read."""
        shown = _references(ref_image_list, ref_num)
        asked = [
            queries.critic_query(
                load_image(before),
                load_image(after),
                task,
                reference=shown,
                first=load_image(first),
                think=True,
                system=self.system_prompt or "",
                temperature=self._temperature,
            )
            for first, before, after in zip(first_image, n_pre_image, now_image)
        ]
        answers = self._ask("done", batch_num, lambda critic: critic.answers(asked))
        shares, critics = [], []
        for answer in answers:
            done = parsing.parse_in_context_done(answer)
            critic = parsing.parse_critic(answer, rich=rich, think=True)
            readable(done, "in-context done")
            remaining = 100.0 - critic.before if critic.before is not None else math.nan
            shares.append(f"{done.value:.3f}")
            critics.append(f"{remaining * critic.value / 100.0:.1f}")
        return shares, critics

    def get_trajectory_critic(
        self,
        task: str,
        image_list: Sequence[Any],
        ref_image_list: Sequence[Any] | None = None,
        batch_num: int = 20,
        ref_num: int = 9,
        think: bool = False,
        skip: int = 1,
        rich: bool = False,
        reverse_eval: bool = False,
        frame_skip: bool = True,
        addition_scale: float = 1,
        bias: float = 0,
        related_critic: bool = False,
        positive_clip: float = 0,
        negative_clip: float = 0,
        value_simple: values.ValueMode = True,
    ) -> tuple[list[float], list[float]]:
        """Critics (percent) between images, and values (percent, one more, first 0)."""
        if not len(image_list):
            return [], [0.0]
        options = TrajectoryOptions(
            skip=skip,
            frame_skip=frame_skip,
            rich=rich,
            think=think,
            reverse=reverse_eval,
            ref_num=ref_num,
            temperature=self._temperature,
            values=values.ValueOptions(
                value_simple, addition_scale, related_critic, bias, positive_clip, negative_clip
            ),
        )
        images: list[Image] = [load_image(image) for image in image_list]
        references: list[Image] = _references(ref_image_list, ref_num)
        result = self._ask(
            "critic",
            batch_num,
            lambda critic: critic.trajectory(images, task, reference=references, options=options),
        )
        for one in result.results:
            readable(one, "critic")
        return [0.0 if math.isnan(c) else c for c in result.critics], list(result.values)

    def critic_to_value_simple(self, critic_list: Sequence[Any], simple: values.ValueMode = True) -> list[float]:
        """Critics (percent, in the order of the trajectory) to values (percent, one more, first 0)."""
        return values.critic_to_values([float(critic) for critic in critic_list], simple)

    def compute_voc(self, values_list: Sequence[float]) -> float:
        """Value-order correlation, -1 to 1; 0.0 of a constant list."""
        return metrics.voc(values_list)

    def compute_negative_rate(self, critic_list: Sequence[float]) -> float:
        """Share of negative critics, 0 to 1; 0.0 of an empty list."""
        return metrics.negative_rate([float(critic) for critic in critic_list])

    def denormalize_fastchunk(self, fast_chunk: Any, params: dict[str, Any]) -> npt.NDArray[np.float64]:
        """A normalised chunk (..., 7) back in its units: ``chunk * scale + offset``."""
        return denormalize_with_params(fast_chunk, params)


def _grid(frames: int, skip: int) -> list[int]:
    """Every skip-th frame and the last."""
    if skip < 1:
        raise OptionError(f"skip is {skip}; at least 1 is needed")
    return sorted({*range(0, frames, skip), *([frames - 1] if frames else [])})


def _references(images: Sequence[Any] | None, ref_num: int) -> list[Image]:
    if images is None:
        return []
    return [load_image(images[i]) for i in queries.reference_indices(len(images), max(0, ref_num))]


def _plain_done(
    critic: Critic, images: Sequence[Image], task: str | None, goal: Image | None, rich: bool
) -> list[float]:
    if goal is not None:
        asked = [queries.done_goal_query(goal, image, task, system=critic.system) for image in images]
    else:
        asked = [queries.done_query(image, task or "", system=critic.system) for image in images]
    scores = []
    for answer in critic.answers(asked):
        result = parsing.parse_done(answer)
        if not readable(result, "done"):
            scores.append(0.0)
        else:
            scores.append(round(result.probability, 1) if rich else float(answer.text.strip()[0]))
    return scores


__all__ = ["GAC_model"]
