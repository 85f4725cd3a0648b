"""The interface of ``GAC_model``: upstream's names, arguments, defaults and prompts."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import evo_vlac
from evo_vlac import GAC_model
from tests.evo_vlac.conftest import TASK


def _default(value: Any) -> str:
    return str(value).removeprefix("torch.") if "torch" in str(value) else repr(value)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("init_model", "model_path, model_type='internvl2', device_map='auto', torch_dtype=bfloat16, adapter=None"),
        ("chat", "infer_requests"),
        ("results_format", "response_list, infer_requests, rich=False"),
        ("get_infer_requests", "prompt, images=None"),
        ("format_state", "state, gripper_format=False"),
        (
            "get_action_prompt",
            "task, view_num=1, position_output=False, simple=False, state='type', output_num=1, think=False",
        ),
        ("get_score_prompt", "task, trajectory_len=0, think=False"),
        (
            "web_trajectory_critic",
            "task_description, main_video_path, reference_video_path=None, batch_num=20, ref_num=9, think=False, "
            "skip=1, rich=False, reverse_eval=False, output_path=None, fps=None, frame_skip=False, addition_scale=1, "
            "bias=0, positive_clip=0, negative_clip=0, related_critic=False, done_flag=False, in_context_done=False, "
            "done_threshold=False, video_output=True",
        ),
        (
            "get_trajectory_critic",
            "task, image_list, ref_image_list=None, batch_num=20, ref_num=9, think=False, skip=1, rich=False, "
            "reverse_eval=False, frame_skip=True, addition_scale=1, bias=0, related_critic=False, positive_clip=0, "
            "negative_clip=0, value_simple=True",
        ),
        (
            "get_trajectory_done",
            "task, image_list, ref_image_list=None, batch_num=20, rich=False, ref_num=9, threshold=0, skip=1, "
            "goal_image=None",
        ),
        ("critic_to_value_simple", "critic_list, simple=True"),
        ("compute_voc", "values_list"),
        ("compute_negative_rate", "critic_list"),
    ],
)
def test_signatures_are_upstreams(name: str, wanted: str) -> None:
    """Names, order and defaults of the arguments."""
    parameters = list(inspect.signature(getattr(GAC_model, name)).parameters.values())[1:]
    shown = [
        p.name
        if p.default is p.empty
        else f"{p.name}={str(p.default).removeprefix('torch.') if 'torch' in str(p.default) else repr(p.default)}"
        for p in parameters
    ]
    assert ", ".join(shown) == wanted


def test_importing_the_package_imports_no_torch() -> None:
    """``import evo_vlac`` is light; its names are still all there."""
    import subprocess
    import sys

    code = "import evo_vlac, sys; assert 'torch' not in sys.modules and 'GAC_model' in dir(evo_vlac)"
    root = str(Path(evo_vlac.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=root)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        evo_vlac.nothing  # noqa: B018


def test_prompts_of_the_face() -> None:
    """The action prompt's state: a word, numbers, an angle over a half turn, two arms."""
    model = GAC_model()
    assert "<state> End-Effector with units in mm and degrees </state>" in model.get_action_prompt(TASK)
    assert "hide units" in model.get_action_prompt(TASK, simple=True)
    assert "<position> {x: 1mm" in model.get_action_prompt(TASK, position_output=True, state=[1, 2, 3, 190, 5, 6, 0])
    assert "roll: -170 degrees" in model.get_action_prompt(TASK, state=[1, 2, 3, 190, 5, 6, 0])
    two = model.get_action_prompt(TASK, state=[[1, 2, 3, 4, 5, 6, 0], [7, 8, 9, 1, 2, 3, 1]])
    assert "\nleft: <action> {x: 1mm" in two and "right: <action> {x: 7mm" in two
    short = model.get_action_prompt(TASK, simple=True, state=[[1, 2, 3, 4, 5, 6, 0], [7, 8, 9, 1, 2, 3, 1]])
    assert "<(action)> (1 2 3 4 5 6 0)" in short and "(7, 8, 9, 1, 2, 3, 1)" in short
    assert "<state> None </state>" in model.get_action_prompt(TASK, state=None)
    assert model.get_action_prompt(TASK, output_num=3, think=True).endswith("</think>.")
    assert model.get_fast_action_prompt(TASK).endswith("<chunks>")
    assert model.get_done_prompt(TASK).endswith("<done>")
    assert model.get_in_context_done_prompt().endswith("image goal <done>")
    assert model.get_in_context_done_prompt(TASK).count(TASK) == 2
    assert (
        model.get_task_prompt().endswith("<infer> <task>") and "infer what action" in model.get_action_inverse_prompt()
    )
    assert "rate score" in model.get_action_score_prompt(TASK, [0] * 7, [0] * 7)
    assert model.get_score_prompt(TASK, 3).count("<image>") == 6


def test_states_come_in_thousandths() -> None:
    """Raw states of the arm; the caller's list is left alone."""
    raw = [-18151, 11685, 418833, -124631, 65461, -133783, 27510]
    assert GAC_model().format_state(raw) == [-19, 11, 418, -125, 65, -134, 27]
    assert GAC_model().format_state(raw, gripper_format=True)[6] == round(2 / 7, 1)
    assert raw[0] == -18151
