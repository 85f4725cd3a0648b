"""The prompt strings of the published VLAC checkpoints, and filling them.

The strings live in ``prompts.json``: an interface, byte for byte. Nothing here may change a byte of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

from evo_vlac.engine import IMAGE_MARK
from evo_vlac.errors import PromptError

MAX_VIEWS = 3
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n{% elif part['type'] == 'video' %}<video>\n"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, as ms-swift's template ``internvl_hf`` writes it."""


@lru_cache(maxsize=1)
def table() -> dict[str, Any]:
    """The content of prompts.json."""
    text = resources.files("evo_vlac").joinpath("prompts.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def system_prompt() -> str:
    """The system prompt the checkpoints were trained with."""
    return str(table()["system_prompt"])


def kinds() -> tuple[str, ...]:
    """The keys of the prompts."""
    return tuple(table()["prompts"])


@lru_cache(maxsize=256)
def fill(kind: str, *slots: str) -> str:
    """The prompt ``kind`` with its slots filled in order.

    Raises PromptError for an unknown kind, a wrong number of slots, an empty slot or an image mark inside a
    slot.
    """
    prompts = table()["prompts"]
    if kind not in prompts:
        raise PromptError(f"no prompt {kind!r}; there are: {', '.join(prompts)}")
    wanted = prompts[kind]["slots"]
    if len(slots) != len(wanted):
        raise PromptError(f"{kind}: {len(slots)} slots given, needed: {wanted}")
    return str(prompts[kind]["text"]).format(*(_checked(kind, name, s) for name, s in zip(wanted, slots)))


def trajectory(frames: int, task: str, strict: bool = True) -> str:
    """The opening that shows ``frames`` reference frames, labelled by their share of the way (0% .. 100%). ``strict``
    refuses an empty task and one with an image mark."""
    if frames < 1:
        raise PromptError(f"a reference trajectory needs at least 1 frame, got {frames}")
    parts = table()["trajectory"]
    labels = [int(i / (frames - 1) * 100) if frames > 1 else 100 for i in range(frames)]
    opening = str(parts["open"]).format(_checked("trajectory", "task", task) if strict else task)
    return opening + "".join(str(parts["frame"]).format(label) for label in labels) + str(parts["close"])


def critic(task: str, references: int = 0, think: bool = False) -> str:
    """The pair question; with references the trajectory stands directly in front of it."""
    text = trajectory(references, task) + fill("critic_with_reference", task) if references else fill("critic", task)
    return text + fill("think_suffix") if think else text


def views(count: int) -> str:
    """The marks in front of an action prompt with ``count`` camera views."""
    if not 1 <= count <= MAX_VIEWS:
        raise PromptError(f"an action prompt takes 1 to {MAX_VIEWS} views, got {count}")
    return str(table()["image_prefix"][str(count)])


def state(values: Sequence[float]) -> str:
    """An end-effector state (x y z in mm, roll pitch yaw in degrees, open) as the checkpoints read it."""
    if len(values) != 7:
        raise PromptError(f"an end-effector state has 7 numbers (x y z roll pitch yaw open), got {len(values)}")
    return str(table()["state_format"]["text"]).format(*values)


def _checked(kind: str, name: str, text: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise PromptError(f"{kind}: the {name} is empty")
    if IMAGE_MARK in text and kind != "vqa":
        raise PromptError(f"{kind}: the {name} must not contain {IMAGE_MARK}")
    return text
