"""The real engine over a real, tiny model: order, batches, failures that stay where they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from evo_vlac import queries
from evo_vlac.device import resolve_device, resolve_dtype
from evo_vlac.engine import Engine, Query
from evo_vlac.errors import CheckpointError, EngineError, OptionError
from evo_vlac.parsing import done_probability
from evo_vlac.swift_engine import SwiftEngine
from tests.evo_vlac.conftest import TASK, picture

Frames = list[npt.NDArray[np.uint8]]


@pytest.fixture
def faulty(engine: SwiftEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Lets a test decide which batches fail; afterwards the engine is as before."""
    real, size = engine.engine.infer, engine.batches.limit

    def install(fault: Any) -> list[int]:
        seen: list[int] = []

        def infer(requests: list[Any], *args: Any, **kwargs: Any) -> Any:
            seen.append(len(requests))
            fault(requests)
            return real(requests, *args, **kwargs)

        monkeypatch.setattr(engine.engine, "infer", infer)
        return seen

    yield install
    engine.batches.limit = size


def mixed(frames: Frames) -> list[Query]:
    """Queries of different lengths and settings, interleaved."""
    out = []
    for i in range(3):
        out.append(queries.done_query(frames[i], TASK))
        out.append(queries.critic_query(frames[i], frames[i + 1], TASK))
        out.append(queries.critic_query(frames[i], frames[i + 1], TASK, reference=frames[4:], first=frames[0]))
    return out


def test_it_is_an_engine(engine: SwiftEngine) -> None:
    """It fits the protocol."""
    assert isinstance(engine, Engine) and engine.name == "swift" and engine.image_size == (112, 112)


def test_batches_change_no_answer(engine: SwiftEngine, frames: Frames) -> None:
    """Asked one by one or all at once, in the order asked: the same tokens and probabilities."""
    asked = mixed(frames)
    together = engine.answer(asked)
    for query, answer in zip(asked, together):
        alone = engine.answer([query])[0]
        assert answer.error is None and alone.text == answer.text
        assert [t.logprob for t in alone.tokens] == pytest.approx([t.logprob for t in answer.tokens], abs=1e-3)


def test_done_probabilities_are_those_of_the_model(engine: SwiftEngine, frames: Frames) -> None:
    """P(1) over P(0) + P(1) from the engine is that of one forward pass over the same tokens."""
    query = queries.done_query(frames[0], TASK)
    template, model = engine.engine.template, engine.engine.model
    request = engine._request(query, {})
    inputs = template.data_collator([template.encode(request)])
    with torch.inference_mode():
        logits = model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"]).logits[0, -1]
    zero, one = (engine.engine.tokenizer.convert_tokens_to_ids(digit) for digit in "01")
    p = torch.softmax(logits.float(), -1)
    top = torch.topk(logits, 20).indices.tolist()
    answer = engine.answer([query])[0]
    if zero in top and one in top:
        assert done_probability(answer.tokens) == pytest.approx(float(p[one] / (p[zero] + p[one])), abs=1e-4)
    assert answer.tokens[0].logprob == pytest.approx(float(p.max().log()), abs=1e-4)


def test_one_bad_image_is_that_querys_error(engine: SwiftEngine, frames: Frames) -> None:
    """The others are answered."""
    bad = queries.done_query(np.zeros((4, 4, 3), np.float32), TASK)  # type: ignore[arg-type]
    answers = engine.answer([queries.done_query(frames[0], TASK), bad, queries.done_query(frames[1], TASK)])
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert "float32" in str(answers[1].error)


def test_out_of_memory_halves_the_batch(engine: SwiftEngine, frames: Frames, faulty: Any) -> None:
    """The batch shrinks for good, all queries are answered, and the answers are those of a healthy engine."""
    asked = [queries.done_query(frames[i % 7], TASK) for i in range(8)]
    healthy = engine.answer(asked)

    def fault(requests: list[Any]) -> None:
        if len(requests) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    seen = faulty(fault)
    answers = engine.answer(asked)
    assert [a.text for a in answers] == [a.text for a in healthy] and engine.batches.limit == 2
    assert seen == [8, 4, 2, 2, 4, 2, 2]


def test_memory_for_not_even_one_is_an_error_of_the_query(engine: SwiftEngine, frames: Frames, faulty: Any) -> None:
    """Never an endless halving."""

    def fault(requests: list[Any]) -> None:
        raise torch.OutOfMemoryError("no")

    faulty(fault)
    answers = engine.answer([queries.done_query(frames[0], TASK)] * 3)
    assert all("out of memory" in str(answer.error) for answer in answers)


def test_a_failing_query_is_found_and_stands_alone(engine: SwiftEngine, frames: Frames, faulty: Any) -> None:
    """Any failure of a batch is narrowed down to the query that causes it."""
    asked = [queries.vqa_query([frames[0]], "poison" if i == 5 else f"q{i}", max_new_tokens=2) for i in range(8)]

    def fault(requests: list[Any]) -> None:
        if any("poison" in request.messages[-1]["content"] for request in requests):
            raise ValueError("bad thing")

    faulty(fault)
    assert [i for i, answer in enumerate(engine.answer(asked)) if answer.error] == [5]


def test_shared_images_are_squashed_once(engine: SwiftEngine, frames: Frames, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference frames, which every query of an episode has, are resized once per call."""
    import evo_vlac.swift_engine as module

    count = 0
    real = module.squash

    def counting(*args: Any) -> Any:
        nonlocal count
        count += 1
        return real(*args)

    monkeypatch.setattr(module, "squash", counting)
    pairs = [queries.critic_query(frames[1], frames[2], TASK, reference=frames[3:6], first=frames[0])] * 4
    engine.answer(pairs)
    assert count == 6


def test_no_end_token_among_the_tokens(engine: SwiftEngine, frames: Frames) -> None:
    """Tokens of an answer spell its text."""
    answer = engine.answer([queries.critic_query(frames[0], frames[1], TASK)])[0]
    assert not any(token.text in engine.engine.tokenizer.all_special_tokens for token in answer.tokens[-1:])


def test_impossible_settings_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Devices, dtypes, batch sizes, missing models and adapters: named before anything is loaded."""
    with pytest.raises(OptionError, match="device is 'tpu9'"):
        resolve_device("tpu9")
    with pytest.raises(OptionError, match="device is 'meta'"):
        resolve_device("meta")
    with pytest.raises(OptionError, match="dtype is 'int8'"):
        resolve_dtype("int8", "cpu")
    with pytest.raises(OptionError, match="max_batch_size is 0"):
        SwiftEngine(checkpoint, max_batch_size=0)
    with pytest.raises(CheckpointError, match="no adapter"):
        SwiftEngine(checkpoint, adapter=tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        SwiftEngine(tmp_path / "none")
    assert resolve_dtype("auto", "cpu") == "float32" and resolve_dtype("auto", "cuda:0") == "bfloat16"
    if not torch.cuda.is_available():
        assert resolve_device("auto") in ("cpu", "mps")
        with pytest.raises(EngineError, match="0 CUDA devices"):
            resolve_device("cuda:3")


def test_a_broken_checkpoint_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    """Weights cut short: the message names the folder."""
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="broken cannot be loaded"):
        SwiftEngine(broken, device="cpu")


def test_a_closed_engine_says_so(checkpoint: Path) -> None:
    """Closing twice is allowed; asking then is an error."""
    engine = SwiftEngine(checkpoint, device="cpu")
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.answer([queries.done_query(picture(0), TASK)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(engine: SwiftEngine, checkpoint: Path, frames: Frames) -> None:
    """The same answers in float32 on a CUDA device."""
    on_gpu = SwiftEngine(checkpoint, device="cuda", dtype="float32")
    asked = mixed(frames)
    for ours, theirs in zip(engine.answer(asked), on_gpu.answer(asked)):
        assert [t.logprob for t in ours.tokens[:1]] == pytest.approx([t.logprob for t in theirs.tokens[:1]], abs=1e-2)
    on_gpu.close()


def test_an_adapter_changes_the_answers(engine: SwiftEngine, checkpoint: Path, frames: Frames, tmp_path: Path) -> None:
    """A peft adapter is loaded onto the model: what it adds shows in the probabilities, of batches and single
    queries."""
    from peft import LoraConfig, get_peft_model
    from transformers import InternVLForConditionalGeneration

    base = InternVLForConditionalGeneration.from_pretrained(checkpoint)
    tuned = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    adapted = SwiftEngine(checkpoint, device="cpu", adapter=tmp_path / "adapter")
    asked = [queries.done_query(frame, TASK) for frame in frames[:3]]
    with_adapter, without = adapted.answer(asked), engine.answer(asked)
    assert all(a.error is None and a.tokens[0].logprob != b.tokens[0].logprob for a, b in zip(with_adapter, without))
    assert adapted.answer(asked[:1])[0].tokens[0].logprob == pytest.approx(with_adapter[0].tokens[0].logprob, abs=1e-4)
    adapted.close()
