"""The methods of ``GAC_model`` that judge a list of images: progress, done, task; and what follows from the numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evo_vlac import metrics, parsing, queries, values
from evo_vlac.compat.chat import ChatMethods
from evo_vlac.compat.data_processing import denormalize_with_params
from evo_vlac.compat.reading import read_critic, read_done
from evo_vlac.engine import Image, Query
from evo_vlac.errors import OptionError
from evo_vlac.images import load_image

_YES_NO = ("0", "1")


class TrajectoryMethods(ChatMethods):
    """Images are whatever :func:`evo_vlac.images.load_image` takes, in the order of the trajectory. The prompts are
    those of the prompt methods, the settings this class's, and answers are read as upstream reads them."""

    def get_trajectory_task(self, image_list: Sequence[Any]) -> list[str]:
        """What task lies between the first and the last image; a list of one text, up to ``</task>``."""
        if not len(image_list):
            raise OptionError("image_list is empty; at least 1 image is needed")
        shown = [load_image(image_list[0]), load_image(image_list[-1])]
        asked = [self._query("task_description", self.get_task_prompt(), shown)]
        return [parsing.parse_task(answer) for answer in self._answers("task", 1, asked)]

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
        ``rich`` one decimal of it; with references the growing share of the way, 0 to 1. With a goal image and no task
        (None, "") the goal image alone decides."""
        images: list[Image] = [load_image(image_list[i]) for i in every_skip(len(image_list), skip)]
        if ref_image_list is not None and len(ref_image_list) and images:
            pairs = itertools.pairwise(images)
            return self._in_context(task, images[0], pairs, ref_image_list, batch_num, rich, ref_num, threshold)
        if goal_image is not None:
            kind, shown = ("done_goal_image" if task else "done_goal_image_only"), [load_image(goal_image)]
            prompt = self.get_in_context_done_prompt(task)
        else:
            kind, prompt, shown = "done", self.get_done_prompt(task), []
        asked = [self._query(kind, prompt, [*shown, image], 1, _YES_NO) for image in images]
        return _over([read_done(answer, rich) for answer in self._answers("done", batch_num, asked)], threshold)

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
        where an answer cannot be read. ``rich`` takes all numbers from the text with decimals."""
        shown = _references(ref_image_list, ref_num)
        prompt = self.get_score_prompt(task, len(shown), think=True)
        asked = []
        for trio in zip(first_image, n_pre_image, now_image):
            first, before, now = map(load_image, trio)
            asked.append(self._query("critic", prompt, [*shown, *([first] if shown else []), before, now]))
        read = [read_critic(answer, rich=rich, think=True) for answer in self._answers("done", batch_num, asked)]
        return (
            [f"{one.after / 100.0:.3f}" for one in read],
            [f"{(100.0 - one.before) * one.critic / 100.0:.1f}" for one in read],
        )

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
        images: list[Image] = [load_image(image) for image in image_list]
        pairs = values.pair_indices(len(images), skip, frame_skip)
        shown = _references(ref_image_list, ref_num)
        prompt = self.get_score_prompt(task, len(shown), think)
        asked: list[Query] = []
        for pair in pairs:
            before, after = reversed(pair) if reverse_eval else pair
            pictures = [*shown, *(images[:1] if shown else []), images[before], images[after]]
            asked.append(self._query("critic", prompt, pictures, None if think else queries.NUMBER_TOKENS))
        read = [read_critic(a, rich=rich, think=think).critic for a in self._answers("critic", batch_num, asked)]
        signed = [0.0 - critic for critic in read] if reverse_eval else read
        raw = signed if frame_skip else [critic / (b - a) for critic, (a, b) in zip(signed, pairs)]
        options = values.ValueOptions(value_simple, addition_scale, related_critic, bias, positive_clip, negative_clip)
        critics, value_list = values.process(raw, options)
        return [0.0 if math.isnan(critic) else critic for critic in critics], list(value_list)

    def critic_to_value_simple(self, critic_list: Sequence[Any], simple: values.ValueMode = True) -> list[float]:
        """Critics (percent, in the order of the trajectory) to values (percent, one more, first 0)."""
        return values.critic_to_values([float(critic) for critic in critic_list], simple)

    def compute_voc(self, values_list: Sequence[float]) -> float:
        """Value-order correlation, -1 to 1; 0.0 of a constant list."""
        return metrics.voc(values_list)

    def compute_negative_rate(self, critic_list: Sequence[float]) -> float:
        """Share of negative critics, 0 to 1; 0.0 of an empty list."""
        return metrics.negative_rate([float(critic) for critic in critic_list])

    def _in_context(
        self,
        task: Any,
        first: Image,
        pairs: Iterable[tuple[Image, Image]],
        references: Sequence[Any],
        batch_num: int,
        rich: bool,
        ref_num: int,
        threshold: float,
    ) -> list[float]:
        """Done of a first image, 0.0, and then of the second image of each pair."""
        listed = list(pairs)
        before, now = [a for a, _ in listed], [b for _, b in listed]
        done, _ = self.get_in_context_done(
            task, [first] * len(listed), before, now, references, ref_num, rich, batch_num
        )
        return _over([0.0, *map(float, done)], threshold)

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


def _over(scores: Sequence[float], threshold: float) -> list[float]:
    """The scores over the threshold; 0.0 for the others, and for what cannot be read."""
    return [score if score > threshold else 0.0 for score in scores]
