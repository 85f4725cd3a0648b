"""Questions to the critic, ready for an engine.

Each function gives one :class:`~evo_vlac.engine.Query`. Images are uint8 (H, W, 3) arrays or PIL images,
upright; engines squash them to the checkpoint's size.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

from evo_vlac import prompts
from evo_vlac.engine import Image, Query
from evo_vlac.errors import OptionError, PromptError

TOP = 10
"""Alternatives per answer token that the ``rich`` reading looks at."""

NUMBER_TOKENS = 8
"""A sign, three digits, a dot, a decimal, the end, and one to spare."""

_THINK_TOKENS = 512
_TEXT_TOKENS = 256
_ACTION_TOKENS = 160

ActionKind = Literal["action", "action_chunk", "action_short", "position", "position_short"]


def reference_indices(frames: int, wanted: int) -> list[int]:
    """Which of ``frames`` reference frames are shown when ``wanted`` are: ``int(i * (frames - 1) / (wanted -
    1))``.

    One wanted frame is the last (the goal). Zero frames or zero wanted give none.
    """
    if frames < 0 or wanted < 0:
        raise OptionError(f"ref_num is {wanted} of {frames} frames; neither can be negative")
    if frames == 0 or wanted == 0:
        return []
    if wanted == 1:
        return [frames - 1]
    delta = (frames - 1) / (wanted - 1)
    return [int(i * delta) for i in range(wanted)]


def done_query(
    now: Image,
    task: str,
    *,
    system: str | None = None,
    top_logprobs: int = TOP,
    keys: Sequence[Hashable] = (),
) -> Query:
    """Is the task done in this image? The answer is one token, 0 or 1."""
    return _done("done", prompts.fill("done", task), (now,), system, top_logprobs, keys)


def done_goal_query(
    goal: Image,
    now: Image,
    task: str | None,
    *,
    system: str | None = None,
    top_logprobs: int = TOP,
    keys: Sequence[Hashable] = (),
) -> Query:
    """Is the state of the goal image reached? Without a task the goal image alone decides."""
    if task is None:
        return _done(
            "done_goal_image_only",
            prompts.fill("done_goal_image_only"),
            (goal, now),
            system,
            top_logprobs,
            keys,
            1,
        )
    prompt = prompts.fill("done_goal_image", task, task)
    return _done("done_goal_image", prompt, (goal, now), system, top_logprobs, keys, 1)


def critic_query(
    before: Image,
    after: Image,
    task: str,
    *,
    reference: Sequence[Image] = (),
    first: Image | None = None,
    think: bool = False,
    system: str | None = None,
    temperature: float = 0.0,
    top_logprobs: int = TOP,
    keys: Sequence[Hashable] = (),
) -> Query:
    """How much of the remaining work is done between two images, in percent with a sign.

    ``reference`` are the reference frames to show, already chosen (see :func:`reference_indices`); with them
    ``first``, the first frame of the episode, is needed. ``keys`` follow the order of the images: reference,
    first, before, after.
    """
    images: tuple[Image, ...] = (before, after)
    prefix = 0
    if len(reference):
        if first is None:
            raise PromptError("critic_with_reference: the first frame of the episode is missing")
        images = (*reference, first, before, after)
        prefix = len(reference) + 1
    return Query(
        kind="critic_with_reference" if prefix else "critic",
        prompt=prompts.critic(task, len(reference), think),
        images=images,
        system=_system(system),
        max_new_tokens=_THINK_TOKENS if think else NUMBER_TOKENS,
        temperature=temperature,
        top_logprobs=top_logprobs,
        image_keys=tuple(keys),
        prefix_images=prefix,
    )


def task_query(first: Image, last: Image, *, system: str | None = None, temperature: float = 0.0) -> Query:
    """What task is being done between two images? Text up to ``</task>``."""
    return _text("task_description", prompts.fill("task_description"), (first, last), system, temperature, _TEXT_TOKENS)


def vqa_query(
    images: Sequence[Image],
    question: str,
    *,
    system: str | None = None,
    temperature: float = 0.0,
    max_new_tokens: int = _THINK_TOKENS,
) -> Query:
    """Any question about any images."""
    return _text("vqa", prompts.fill("vqa", question), tuple(images), system, temperature, max_new_tokens)


def action_query(
    views: Sequence[Image],
    state: Sequence[float] | str,
    task: str,
    *,
    kind: ActionKind = "action",
    think: bool = False,
    system: str | None = None,
    temperature: float = 0.0,
) -> Query:
    """What should the arm do next? ``views``: 1 to 3 images; ``state``: 7 numbers (mm, degrees, open) or
    ready text."""
    if kind not in ("action", "action_chunk", "action_short", "position", "position_short"):
        raise OptionError(f"kind is {kind!r}; allowed: action, action_chunk, action_short, position, position_short")
    text = state if isinstance(state, str) else short_state(state) if kind.endswith("_short") else prompts.state(state)
    prompt = prompts.views(len(views)) + prompts.fill(kind, text, task)
    if think:
        prompt += prompts.fill("think_suffix")
    tokens = _THINK_TOKENS if think or kind == "action_chunk" else _ACTION_TOKENS
    return _text(kind, prompt, tuple(views), system, temperature, tokens)


def short_state(values: Sequence[float]) -> str:
    """The short form of a state: seven numbers in brackets."""
    if len(values) != 7:
        raise PromptError(f"an end-effector state has 7 numbers (x y z roll pitch yaw open), got {len(values)}")
    return "({})".format(" ".join(str(v) for v in values))


def _done(
    kind: str,
    prompt: str,
    images: tuple[Image, ...],
    system: str | None,
    top_logprobs: int,
    keys: Sequence[Hashable],
    prefix: int = 0,
) -> Query:
    return Query(
        kind=kind,
        prompt=prompt,
        images=images,
        system=_system(system),
        max_new_tokens=1,
        top_logprobs=top_logprobs,
        choices=("0", "1"),
        image_keys=tuple(keys),
        prefix_images=prefix,
    )


def _text(
    kind: str, prompt: str, images: tuple[Image, ...], system: str | None, temperature: float, tokens: int
) -> Query:
    return Query(kind, prompt, images, _system(system), tokens, temperature)


def _system(system: str | None) -> str:
    return prompts.system_prompt() if system is None else system
