"""The methods of ``GAC_model`` that judge a list of images: progress, done, task; and what follows from the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac import metrics, parsing, queries, values
from evo_vlac.compat.chat import ChatMethods, readable
from evo_vlac.compat.data_processing import denormalize_with_params
from evo_vlac.critic import Critic, TrajectoryOptions
from evo_vlac.engine import Image
from evo_vlac.errors import OptionError
from evo_vlac.images import load_image


class TrajectoryMethods(ChatMethods):
    """Images are whatever :func:`evo_vlac.images.load_image` takes, in the order of the trajectory."""

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
        images = [load_image(image_list[i]) for i in every_skip(len(image_list), skip)]
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


def every_skip(frames: int, skip: int) -> list[int]:
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
