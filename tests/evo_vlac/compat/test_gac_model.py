"""``GAC_model`` has upstream's interface, and works where upstream breaks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo_vlac import GAC_model
from evo_vlac.engine import Answer
from evo_vlac.errors import EngineError, OptionError
from evo_vlac.swift_engine import SwiftEngine
from evo_vlac.video import read_video, write_video
from tests.evo_vlac.conftest import TASK, ChosenEngine, picture


def chosen(reply: Any) -> GAC_model:
    """A model whose answers the test chooses."""
    model = GAC_model()
    model.engine = ChosenEngine(reply)  # type: ignore[assignment]
    return model


@pytest.fixture
def real(engine: SwiftEngine) -> Iterator[GAC_model]:
    """The face over the real tiny model."""
    model = GAC_model(tag="critic")
    model.engine = engine
    model.model, model.template = engine.engine.model, engine.engine.template
    model.temperature, model.top_k, model.max_tokens = 0.5, 1, 6
    model.set_config()
    model.set_system_prompt()
    yield model


IMAGES = [picture(i, 16, 16) for i in range(8)]


def test_no_model_is_one_clear_error() -> None:
    """Asking before loading says what to call."""
    with pytest.raises(EngineError, match="init_model"):
        GAC_model().get_trajectory_critic(TASK, IMAGES)
    with pytest.raises(OptionError, match="model_type is 'llava'"):
        GAC_model().init_model("x", model_type="llava")


def test_critics_and_values() -> None:
    """Two lists of numbers; the last frame is scored where upstream leaves it out."""
    model = chosen(lambda query: "+20")
    critics, values = model.get_trajectory_critic(TASK, IMAGES, skip=5)
    assert critics == [20.0, 20.0] and values == [0.0, 20.0, 36.0]
    assert model.get_trajectory_critic(TASK, IMAGES[:1]) == ([], [0.0])
    assert model.get_trajectory_critic(TASK, []) == ([], [0.0])


def test_one_bad_answer_counts_as_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its text; the batch lives on."""
    answers = iter(["+20", "what?", "+50"])
    critics, values = chosen(lambda _: next(answers)).get_trajectory_critic(TASK, IMAGES[:4])
    assert critics == [20.0, 0.0, 50.0] and values == [0.0, 20.0, 20.0, 60.0]
    assert "what?" in caplog.text


@pytest.mark.parametrize("ref_num", [0, 1, 2, 9, 30])
def test_any_number_of_references(ref_num: int) -> None:
    """0, 1, more than there are; an empty list is none."""
    model = chosen(lambda _: "+20")
    assert len(model.get_trajectory_critic(TASK, IMAGES, ref_image_list=IMAGES[:4], ref_num=ref_num)[0]) == 7
    assert len(model.get_trajectory_critic(TASK, IMAGES, ref_image_list=[], ref_num=ref_num)[0]) == 7


def test_done_lists() -> None:
    """0 or 1; rich to one decimal, strictly over the threshold; skip keeps the last; unreadable is not done."""
    from evo_vlac.engine import TokenInfo

    def reply(query: Any) -> Answer:
        token = TokenInfo("1", math.log(0.86), (("1", math.log(0.86)), ("0", math.log(0.14))))
        return Answer("1", (token,))

    model = chosen(reply)
    assert model.get_trajectory_done(TASK, IMAGES) == [1.0] * 8
    assert model.get_trajectory_done(TASK, IMAGES, rich=True, threshold=0.8) == [0.9] * 8
    assert model.get_trajectory_done(TASK, IMAGES, rich=True, threshold=0.9) == [0.0] * 8
    assert len(model.get_trajectory_done(TASK, IMAGES, skip=3)) == 4
    assert model.get_trajectory_done(None, IMAGES[:2], goal_image=IMAGES[3]) == [1.0, 1.0]
    assert chosen(lambda _: "maybe").get_trajectory_done(TASK, IMAGES[:2]) == [0.0, 0.0]
    assert model.web_trajectory_done(TASK, IMAGES[0]) == f"Task: {TASK}\nCritic Score: 1.0"


def test_in_context_done() -> None:
    """The share of the way of the second image, and the critic in percent of the whole."""
    text = "first image progressing: 20% second image progressing: 95% </think> 50"
    model = chosen(lambda _: text)
    assert model.get_in_context_done(TASK, IMAGES[:1], IMAGES[1:2], IMAGES[2:3], IMAGES) == (["0.950"], ["40.0"])
    assert model.get_trajectory_done(TASK, IMAGES[:3], ref_image_list=IMAGES) == [0.0, 0.95, 0.95]
    broken = chosen(lambda _: "?")
    assert broken.get_in_context_done(TASK, IMAGES[:1], IMAGES[1:2], IMAGES[2:3], None) == (["nan"], ["nan"])
    assert broken.get_trajectory_done(TASK, IMAGES[:3], ref_image_list=IMAGES) == [0.0, 0.0, 0.0]


def test_metrics_of_the_face() -> None:
    """As upstream's, without its NaN and its division by zero."""
    model = GAC_model()
    assert model.critic_to_value_simple(["50", 50]) == [0.0, 50.0, 75.0]
    assert model.compute_voc([0, 1, 2]) == 1.0 and model.compute_voc([1, 1]) == 0.0
    assert model.compute_negative_rate([1, -1]) == 0.5 and model.compute_negative_rate([]) == 0.0
    chunk = model.denormalize_fastchunk([[1.0] * 7], {"scale": [2] * 7, "offset": [1] * 7})
    assert chunk.shape == (1, 7) and chunk[0, 0] == 3
    with pytest.raises(OptionError, match="shape"):
        model.denormalize_fastchunk([1.0] * 7, {"scale": 1, "offset": 0})


def test_chat_with_history(real: GAC_model) -> None:
    """Requests of any image form; answers are added to the conversation, which can go on."""
    query = real.get_action_prompt(TASK, view_num=2, state=[0, 0, 0, 0, 0, 0, 1])
    requests = real.get_infer_requests(prompt=query, images=[IMAGES[0], IMAGES[1]])
    responses, seconds = real.chat(requests)
    answers, conversation = real.results_format(responses, requests, rich=True)
    assert len(answers) == 1 and isinstance(answers[0], str) and seconds > 0
    assert [m["role"] for m in conversation[0].messages] == ["system", "user", "assistant"]
    assert len(requests[0].messages) == 2
    conversation[0].images.extend(requests[0].images)
    conversation[0].messages.append(requests[0].messages[1])
    again, _ = real.chat(conversation)
    assert again[0].error is None and len(again[0].choices[0].logprobs["content"][0]["top_logprobs"]) == 10


def test_requests_in_lists(real: GAC_model) -> None:
    """A list of prompts goes with a list of image lists; a prompt without images is allowed."""
    requests = real.get_infer_requests(["a", "b"], [[IMAGES[0]], None])
    assert [len(request.images) for request in requests] == [1, 0]
    assert requests[0].images[0].size == (112, 112)
    with pytest.raises(OptionError, match="2 prompts for 1"):
        real.get_infer_requests(["a", "b"], [[IMAGES[0]]])
    real.max_tokens = 0
    with pytest.raises(OptionError, match="max_tokens is 0"):
        real.set_config()


def test_logprobs_of_an_answer(real: GAC_model) -> None:
    """Log-probabilities of the answer's tokens; digits and signs are marked."""
    requests = real.get_infer_requests(real.get_done_prompt(TASK), [IMAGES[0]])
    with pytest.raises(OptionError, match="assistant"):
        real.get_logprobs(requests)
    requests[0].messages.append({"role": "assistant", "content": "1"})
    real.temperature = 1.0
    logps, mask, digits = real.get_logprobs(requests, return_mask=True, digit=True)
    assert logps.shape == mask.shape == digits.shape and bool((logps[mask] < 0).all())
    assert int(digits.sum()) == 1
    assert real.get_logprobs(requests).shape == logps.shape
    assert logps.requires_grad  # upstream's feeds losses
    assert len(real.get_logprobs(requests, return_mask=True)) == 2


def test_fast_chunks_are_decoded(real: GAC_model) -> None:
    """FAST tokens count down from their last id; others are left out."""

    class Fast:
        def decode(self, ids: Any, time_horizon: int, action_dim: int) -> Any:
            return np.asarray(ids), time_horizon, action_dim

    class Tokenizer:
        fasttokenizer = Fast()

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            return [92537 - 7] if text.strip() else []

    requests = real.get_infer_requests("x", [IMAGES[0]])
    responses, _ = real.chat(requests)
    (ids, horizon, dim), continued = real.fast_results_format(responses, requests, Tokenizer())
    assert set(ids.ravel().tolist()) <= {7} and (horizon, dim) == (10, 7) and len(continued) == 1
    with pytest.raises(OptionError, match="no responses"):
        real.fast_results_format([], [], Tokenizer())


def test_describing(real: GAC_model) -> None:
    """A list of one text."""
    assert len(real.get_trajectory_task(IMAGES)) == 1
    with pytest.raises(OptionError, match="empty"):
        real.get_trajectory_task([])


def test_a_video_is_scored_and_annotated(real: GAC_model, tmp_path: Path) -> None:
    """web_trajectory_critic with everything switched on."""
    write_video(tmp_path / "a.mp4", IMAGES, 5)
    path, values, critics, done = real.web_trajectory_critic(
        task_description=TASK,
        main_video_path=str(tmp_path / "a.mp4"),
        reference_video_path=str(tmp_path / "a.mp4"),
        batch_num=4,
        ref_num=3,
        skip=3,
        rich=True,
        output_path=str(tmp_path / "out"),
        fps=5.0,
        frame_skip=True,
        done_flag=True,
        done_threshold=0.9,
    )
    assert path is not None and len(read_video(path)) == 8
    assert len(values) == len(critics) + 1 == 4 and done is not None and len(done) == 4
    path, values, critics, done = real.web_trajectory_critic(TASK, str(tmp_path / "a.mp4"), skip=4, video_output=False)
    assert path is None and done is None and len(values) == 5


QUICK_START = Path(__file__).with_name("quick_start.py")


def test_the_quick_start_runs(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls of upstream's README, with its arguments; only the model's path is set. Its CUDA device may be
    absent."""
    videos = tmp_path / "evo_vlac/examples/videos"
    write_video(videos / "pick-bowl-test.mp4", [picture(i) for i in range(40)], 30)
    write_video(videos / "pick-bowl-ref.mov", [picture(i) for i in range(30)], 30)
    monkeypatch.chdir(tmp_path)
    result = runpy_run(QUICK_START, str(checkpoint))
    assert os.path.exists(result["result_path"]) and len(result["value_list"]) == len(result["critic_list"]) + 1
    assert result["done_list"] is None


def runpy_run(path: Path, model: str) -> dict[str, Any]:
    import runpy

    return runpy.run_path(str(path), init_globals={"model_path": model})
