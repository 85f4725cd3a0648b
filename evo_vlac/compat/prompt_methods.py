"""The prompt methods of ``GAC_model``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evo_vlac import prompts
from evo_vlac.compat.data_processing import normalize_angle
from evo_vlac.queries import short_state

_NO_STATE = "End-Effector with units in mm and degrees"
_NO_SHORT_STATE = "End-Effector hide units in mm and degrees within () format"


class PromptMethods:
    """Prompts as strings; none of them needs a model."""

    def format_state(self, state: Sequence[float], gripper_format: bool = False) -> list[float]:
        """A raw state (0.001 mm, 0.001 degrees) in mm and degrees; ``gripper_format``: the gripper as 0.0 .. 1.0."""
        out = [value // 1000 if i < 6 else value for i, value in enumerate(state)]
        out[6] = round((out[6] // 10000) / 7.0, 1) if gripper_format else out[6] // 1000
        return out

    def get_score_prompt(self, task: str, trajectory_len: int = 0, think: bool = False) -> str:
        """The pair question: 2 images, or trajectory_len + 3."""
        return prompts.critic(task, max(0, trajectory_len), think)

    def get_done_prompt(self, task: str) -> str:
        """The done question: 1 image."""
        return prompts.fill("done", task)

    def get_in_context_done_prompt(self, task: str | None = None) -> str:
        """The done question against a goal image: 2 images."""
        return prompts.fill("done_goal_image", task, task) if task else prompts.fill("done_goal_image_only")

    def get_task_prompt(self) -> str:
        """What task lies between 2 images?"""
        return prompts.fill("task_description")

    def get_action_inverse_prompt(self) -> str:
        """Which action lies between 2 images?"""
        return prompts.fill("action_inverse")

    def get_action_score_prompt(self, task: str, state: Any, action: Any) -> str:
        """How good is this action: 1 image."""
        return prompts.fill("action_score", _arms(state, False, False), _arms(action, False, False), task)

    def get_action_prompt(
        self,
        task: str,
        view_num: int = 1,
        position_output: bool = False,
        simple: bool = False,
        state: Any = "type",
        output_num: int = 1,
        think: bool = False,
    ) -> str:
        """The next action (or position) from 1 to 3 views and a state: 7 numbers, two arms of them, None, or a word."""
        kind = ("position" if position_output else "action") + ("_short" if simple else "")
        text = prompts.views(view_num) + prompts.fill(kind, _arms(state, position_output, simple), task)
        if output_num > 1:
            text += f"*{output_num}"
        return text + prompts.fill("think_suffix") if think else text

    def get_fast_action_prompt(
        self,
        task: str,
        view_num: int = 1,
        position_output: bool = False,
        simple: bool = False,
        state: Any = "type",
        output_num: int = 1,
        think: bool = False,
    ) -> str:
        """The action prompt that asks for a chunk in FAST tokens."""
        return self.get_action_prompt(task, view_num, position_output, simple, state, output_num, think) + "<chunks>"


def _arms(state: Any, position: bool, simple: bool) -> str:
    """The text of a state: one arm, or two; angles over a half turn are wrapped unless it is a position."""
    if state is None:
        return "None"
    if not isinstance(state, (list, tuple)):
        return _NO_SHORT_STATE if simple else _NO_STATE
    arms = [list(arm) for arm in state] if isinstance(state[0], (list, tuple)) else [list(state)]
    if not position:
        arms = [[*arm[:3], *map(normalize_angle, arm[3:6]), *arm[6:]] for arm in arms]
    texts = [short_state(arm) if simple else prompts.state(arm) for arm in arms]
    if len(texts) == 1:
        return texts[0]
    if len(texts) != 2:
        return "None"
    if simple:
        texts[1] = texts[1].replace(" ", ", ")
    tag = "position" if position else "action"
    tag = f"({tag})" if simple else tag
    return f"\nleft: <{tag}> {texts[0]} </{tag}> \nright: <{tag}> {texts[1]} </{tag}>"
