"""``DataProcessor``: the prompts and formats that ``GAC_model`` asks with, in tables its users may change."""

from __future__ import annotations

from collections.abc import Callable

from evo_vlac import prompts
from evo_vlac.compat.action_text import format_songling_simple, format_songling_v2

_ROBOTS = ("songling", "agibot", "bridge", "droid", "default")
_KEYS = {  # upstream's key: the one in prompts.json
    "v3": "critic",
    "v3_think": "critic_with_reference",
    "think": "think_suffix",
    "vqa": "vqa",
    "task_vqa": "task_description",
    "task_done": "done",
    "context_task_done": "done_goal_image",
    "image_done": "done_goal_image_only",
    "action_inverse": "action_inverse",
    "task_action": "action",
    "fast_action": "action_chunk",
    "task_action_simple": "action_short",
    "task_position": "position",
    "task_position_simple": "position_short",
    "task_action_score": "action_score",
}


class DataProcessor:
    """Upstream's tables (and spelling) of what is asked.

    ``prompt_templete`` holds the prompts by upstream's keys, filled by ``str.format``: a prompt that is changed here is
    the one that is asked. ``v3`` and ``v3_think`` are the published checkpoints' own, as ``GAC_model`` puts them there
    upstream. The tables that make training data of robots' logs (``action_process`` and others) are left out: see the
    table of names in docs/critic.md.
    """

    def __init__(self) -> None:
        table = prompts.table()
        self.system_prompt = prompts.system_prompt()
        self.prompt_templete: dict[str, str] = {key: table["prompts"][ours]["text"] for key, ours in _KEYS.items()}
        self.prompt_templete["action"] = table["state_format"]["text"]
        self.image_prompt_templete: dict[int, str] = {int(n): text for n, text in table["image_prefix"].items()}
        self.action_format: dict[str, Callable[..., str]] = dict.fromkeys(_ROBOTS, format_songling_v2)
        self.action_format_simple: dict[str, Callable[..., str]] = dict.fromkeys(_ROBOTS, format_songling_simple)
