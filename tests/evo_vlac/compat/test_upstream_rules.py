"""Where upstream's rules are not this project's, ``GAC_model`` goes by upstream's (VLAC at 71acb22)."""

from __future__ import annotations

import inspect
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evo_vlac import GAC_model
from evo_vlac.compat import gac_model
from evo_vlac.compat.chat import DEFAULT_SYSTEM
from evo_vlac.compat.device_map import device_of, to_device
from evo_vlac.engine import Answer, TokenInfo
from evo_vlac.errors import OptionError
from evo_vlac.utils.video_tool import compress_video, images_get_from_video
from evo_vlac.video import write_video
from tests.evo_vlac.conftest import TASK, ChosenEngine, picture

IMAGES = [picture(i, 16, 16) for i in range(11)]


def chosen(reply: Any) -> tuple[GAC_model, ChosenEngine]:
    model, engine = GAC_model(), ChosenEngine(reply)
    model.engine = engine  # type: ignore[assignment]
    return model, engine


def token(text: str, **others: float) -> TokenInfo:
    """A token, the likeliest, with further alternatives (``_30=0.4``)."""
    best = 1 - sum(others.values())
    rest = ((name[1:], math.log(p)) for name, p in others.items())
    return TokenInfo(text, math.log(best), ((text, math.log(best)), *rest))


@pytest.mark.parametrize(
    ("probability", "score", "over"),
    [(0.05, 0, 0), (0.08, 0, 0), (0.5, 0.5, 0), (0.87, 0.9, 0), (0.915, 1, 1), (0.93, 1, 1), (0.945, 1, 1)],
)
def test_rich_done_drops_noise_then_averages_then_rounds(probability: float, score: float, over: float) -> None:
    """A digit at or below a tenth of the best one is left out, so from 10/11 on it is 1.0, which is over 0.9."""
    top = sorted([("1", math.log(probability)), ("0", math.log(1 - probability))], key=lambda one: -one[1])
    model, _ = chosen(lambda _: Answer(top[0][0], (TokenInfo(*top[0], tuple(top)),)))
    assert model.get_trajectory_done(TASK, IMAGES[:1], rich=True) == [score]
    assert model.get_trajectory_done(TASK, IMAGES[:1], rich=True, threshold=0.9) == [over]


def test_in_context_done_reads_the_rich_text() -> None:
    """All three numbers have decimals."""
    tokens = (
        token("first image progressing: "), token("20", _30=0.4), token("%"), token(" second image progressing: "),
        token("50", _90=0.45), token("%"), token(" </think>"), token(" "), token("40", _10=0.3),
    )  # fmt: skip
    model, _ = chosen(lambda _: Answer("".join(one.text for one in tokens), tokens))
    asked = (TASK, IMAGES[:1], IMAGES[1:2], IMAGES[2:3], IMAGES)
    assert model.get_in_context_done(*asked, ref_num=2, rich=True) == (["0.680"], ["23.6"])
    assert model.get_in_context_done(*asked, ref_num=2) == (["0.500"], ["32.0"])


def test_in_context_done_with_frame_skip_asks_the_frame_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frame 5 against 4, not against 0: every skip-th answer of those that upstream asks."""
    frames = [np.full((8, 8, 3), i, np.uint8) for i in range(11)]
    monkeypatch.setattr(gac_model, "images_get_from_video", lambda path: frames)
    model, engine = chosen(lambda _: "first image progressing: 20% second image progressing: 50% </think> 40")
    _, _, _, done = model.web_trajectory_critic(
        TASK, "a", "b", ref_num=2, skip=5, frame_skip=True, done_flag=True, in_context_done=True, video_output=False
    )
    pairs = [tuple(int(np.asarray(i)[0, 0, 0]) for i in q.images[-2:]) for q in engine.asked if "<think>" in q.prompt]
    assert pairs == [(4, 5), (9, 10)] and done == [0.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("text", "value"),
    [("150", 100), ("-101", -100), ("12.", 12), (".5", 0.5), ("1e1", 10), ("inf", 100), ("nan", 0), ("so", 0)],
)
def test_numbers_that_upstream_reads(text: str, value: float) -> None:
    """What float() takes, bounded; the typed critic's answer stays invalid."""
    from evo_vlac import Critic

    model, engine = chosen(lambda _: text)
    assert model.get_trajectory_critic(TASK, IMAGES[:2])[0] == [value]
    assert not Critic(engine).critic([(IMAGES[0], IMAGES[1])], TASK)[0].valid


def test_any_task_is_asked() -> None:
    """Also an empty one; beside a goal image the goal image then decides alone."""
    model, engine = chosen(lambda _: "1")
    assert model.get_trajectory_critic("", IMAGES[:2])[0] == [1.0]
    assert "<task>  </task>" in model.get_score_prompt("") and "<task> None </task>" in model.get_done_prompt(None)
    assert model.get_trajectory_done("", IMAGES[:1], goal_image=IMAGES[1]) == [1.0]
    assert engine.asked[-1].prompt == model.get_in_context_done_prompt()


def test_settings_reach_trajectories() -> None:
    """temperature, top_k, max_tokens and the system prompt hold for every question."""
    model, engine = chosen(lambda query: "1")
    model.temperature, model.top_k, model.max_tokens = 0.7, 5, 3
    model.get_trajectory_critic(TASK, IMAGES[:2], think=True)
    model.get_trajectory_done(TASK, IMAGES[:1])
    model.get_trajectory_task(IMAGES)
    assert {(q.temperature, q.top_k) for q in engine.asked} == {(0.7, 5)}
    assert [q.max_new_tokens for q in engine.asked] == [3, 1, 3]
    assert {q.system for q in engine.asked} == {DEFAULT_SYSTEM}
    model.set_system_prompt()
    model.get_trajectory_done(TASK, IMAGES[:1])
    assert engine.asked[-1].system.startswith("You are a visual-language assistant")


def test_a_changed_prompt_is_asked() -> None:
    """``dataclient`` holds the prompts, as upstream's does."""
    model, engine = chosen(lambda _: "1")
    model.dataclient.prompt_templete["task_done"] = "<image>Ready: {}?"
    model.get_trajectory_done(TASK, IMAGES[:1])
    assert engine.asked[0].prompt == f"<image>Ready: {TASK}?"
    assert model.action_data == model.critic_data == {} and model.sft_dataset is None


def test_the_default_system_prompt_is_the_templates() -> None:
    """ms-swift's, of the template that upstream loads with."""
    from swift.template import TEMPLATE_MAPPING

    assert TEMPLATE_MAPPING["internvl2"].default_system == DEFAULT_SYSTEM


@pytest.mark.parametrize(("rate", "step"), [(30, 6), (Fraction(30000, 1001), 5), (24, 4), (Fraction(60000, 1001), 11)])
def test_compress_video_keeps_upstreams_frames(tmp_path: Path, rate: Any, step: int) -> None:
    """Every int(rate / fps)-th, and the last."""
    count = 10 * step + 3
    frames = [np.full((32, 64, 3), 2 * i, np.uint8) for i in range(count)]
    write_video(tmp_path / "a.mp4", frames, rate)
    _, fps = compress_video(str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), target_size=None, fps=5)
    got = [round(float(np.asarray(i).mean()) / 2) for i in images_get_from_video(str(tmp_path / "b.mp4"))]
    wanted = [*range(0, count, step), count - 1]
    assert fps == 5 and len(got) == len(wanted) and np.abs(np.subtract(got, wanted)).max() <= 1


def test_compress_video_knows_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_video(tmp_path / "a.mp4", [np.zeros((32, 64, 3), np.uint8)] * 3, 5)
    assert compress_video("~/a.mp4", "~/b.mp4") == ("~/b.mp4", 5)
    assert (tmp_path / "b.mp4").is_file()


def test_device_maps() -> None:
    """None, names, numbers, devices, and a map onto one."""
    assert device_of(None) == device_of("auto") == device_of("balanced") == device_of({}) == "auto"
    assert device_of(torch.device("cpu")) == device_of({"": "cpu"}) == "cpu"
    assert device_of(1) == device_of({"vision": 1, "text": "cuda:1"}) == "cuda:1"
    with pytest.raises(OptionError, match="cuda:0, cuda:1"):
        device_of({"vision": 0, "text": 1})
    with pytest.raises(OptionError, match="True"):
        device_of(True)
    moved = to_device({"a": [torch.zeros(1)], "b": ("x", 1)}, "cpu")
    assert moved == {"a": [torch.zeros(1)], "b": ("x", 1)}


PUBLIC = {  # every public name of upstream's, and whether it is here
    "evo_vlac": ("GAC_model data_processing_vlm get_version model_utils utils video_tool __version__", "__author__"),
    "evo_vlac.utils.model_utils": ("GAC_model to_device", "clip_one import_external_file"),
    "evo_vlac.utils.video_tool": (
        "compress_image compress_video images_get_from_video read_data_and_create_video video_trajectory visualize_le",
        "",
    ),
    "evo_vlac.utils.data_processing_vlm": (
        "DataProcessor compare_images denormalize_with_params format_songling_simple format_songling_v2 "
        "is_image_almost_black is_image_black is_image_path_almost_black is_image_path_black normalize_angle "
        "transform_images trojectory_example_prompt",
        "agibot_process songling_process songling_process_single format_songling describe_move denoise_action "
        "describe_action format_songling_think format_songling_think_one bridge_action_preprocess "
        "droid_action_preprocess bridge_position_preprocess songling_position_preprocess agibot_position_preprocess "
        "default_position_preprocess default_position_process default_action_preprocess default_process "
        "droid_process droid_process_single",
    ),
    "evo_vlac.utils.magic_detect": ("", "adaptive_peak_valley_detection plot_results"),
}


@pytest.mark.parametrize("module", PUBLIC)
def test_upstreams_names(module: str) -> None:
    """Those that README, examples and GAC_model use are here; each other one has its line in docs/critic.md."""
    from importlib import import_module

    here, absent = (names.split() for names in PUBLIC[module])
    docs = (Path(__file__).parents[3] / "docs" / "critic.md").read_text(encoding="utf-8")
    if here:
        found = import_module(module)
        assert [name for name in here if not hasattr(found, name)] == []
    assert [name for name in absent if f"`{name}`" not in docs] == []


def test_public_names_of_the_class() -> None:
    """Methods and attributes."""
    wanted = [
        "format_state",
        "get_score_prompt",
        "get_done_prompt",
        "get_in_context_done_prompt",
        "get_task_prompt",
        "set_config",
        "get_action_inverse_prompt",
        "get_action_score_prompt",
        "get_action_prompt",
        "get_fast_action_prompt",
        "init_model",
        "chat",
        "results_format",
        "fast_results_format",
        "denormalize_fastchunk",
        "set_system_prompt",
        "get_infer_requests",
        "get_logprobs",
        "get_in_context_done",
        "web_trajectory_critic",
        "web_trajectory_done",
        "get_trajectory_task",
        "get_trajectory_done",
        "get_trajectory_critic",
        "magic_smooth",
        "magic_split",
        "critic_to_value_simple",
        "compute_voc",
        "compute_negative_rate",
        "tag",
        "temperature",
        "max_tokens",
        "do_sample",
        "top_logprobs",
        "logprobs",
        "top_k",
        "system_prompt",
        "action_data",
        "critic_data",
        "sft_dataset",
        "dataclient",
    ]
    model = GAC_model()
    assert [name for name in wanted if not hasattr(model, name)] == []
    assert inspect.signature(GAC_model.init_model).parameters["device_map"].default == "auto"
