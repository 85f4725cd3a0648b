"""The prompt methods of ``GAC_model``: any task makes a prompt, and ``dataclient``'s tables hold the texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from evo_vlac import prompts
from evo_vlac.compat.data_processing import trojectory_example_prompt
from evo_vlac.compat.data_processor import DataProcessor

_ROBOT = "songling"  # whose format the checkpoints were trained with


class PromptMethods:
    """Prompts as strings; none of them needs a model."""

    def __init__(self) -> None:
        self.dataclient = DataProcessor()

    def format_state(self, state: Sequence[float], gripper_format: bool = False) -> list[float]:
        """A raw state (0.001 mm, 0.001 degrees) in mm and degrees; ``gripper_format``: the gripper as 0.0 .. 1.0."""
        out = [value // 1000 if i < 6 else value for i, value in enumerate(state)]
        out[6] = round((out[6] // 10000) / 7.0, 1) if gripper_format else out[6] // 1000
        return out

    def get_score_prompt(self, task: Any, trajectory_len: int = 0, think: bool = False) -> str:
        """The pair question: 2 images, or trajectory_len + 3."""
        shown = max(0, trajectory_len)
        text = trojectory_example_prompt(range(shown), task) if shown else ""
        text += self._filled("v3_think" if shown else "v3", task)
        return text + self._filled("think") if think else text

    def get_done_prompt(self, task: Any) -> str:
        """The done question: 1 image."""
        return self._filled("task_done", task)

    def get_in_context_done_prompt(self, task: Any = None) -> str:
        """The done question against a goal image: 2 images. Without a task (None, "") the goal image alone decides."""
        return self._filled("context_task_done", task, task) if task else self._filled("image_done")

    def get_task_prompt(self) -> str:
        """What task lies between 2 images?"""
        return self._filled("task_vqa")

    def get_action_inverse_prompt(self) -> str:
        """Which action lies between 2 images?"""
        return self._filled("action_inverse")

    def get_action_score_prompt(self, task: Any, state: Any, action: Any) -> str:
        """How good is this action: 1 image."""
        form = self.dataclient.action_format[_ROBOT]
        return self._filled("task_action_score", form(state), form(action), task)

    def get_action_prompt(
        self,
        task: Any,
        view_num: int = 1,
        position_output: bool = False,
        simple: bool = False,
        state: Any = "type",
        output_num: int = 1,
        think: bool = False,
    ) -> str:
        """The next action (or position) from 1 to 3 views and a state: 7 numbers, two arms of them, None, or a word."""
        kind = ("task_position" if position_output else "task_action") + ("_simple" if simple else "")
        forms = self.dataclient.action_format_simple if simple else self.dataclient.action_format
        views = self.dataclient.image_prompt_templete.get(view_num) or prompts.views(view_num)
        text = views + self._filled(kind, forms[_ROBOT](state, state=position_output), task)
        if output_num > 1:
            text += f"*{output_num}"
        return text + self._filled("think") if think else text

    def get_fast_action_prompt(
        self,
        task: Any,
        view_num: int = 1,
        position_output: bool = False,
        simple: bool = False,
        state: Any = "type",
        output_num: int = 1,
        think: bool = False,
    ) -> str:
        """The action prompt that asks for a chunk in FAST tokens."""
        return self.get_action_prompt(task, view_num, position_output, simple, state, output_num, think) + "<chunks>"

    def _filled(self, key: str, *slots: Any) -> str:
        text = self.dataclient.prompt_templete[key]
        return text.format(*slots) if slots else text
