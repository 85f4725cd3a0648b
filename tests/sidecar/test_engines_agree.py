"""One suite over all engines: the same questions, the same verdicts, score distributions within a tolerance.

The reference is ``swift``. Everything runs in float32 on the CPU with a small critic whose answers differ from image to
image. Tolerance: 1e-3 in natural log-probability (bfloat16 and other kernels on a GPU need about 0.1).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from remote_server import swift_server

from evo_vlac.engine import Answer, Query
from evo_vlac.parsing import parse_critic, parse_done
from evo_vlac.queries import critic_query, done_goal_query, done_query, task_query
from evo_vlac.swift_engine import SwiftEngine
from sidecar.config import Config, OpenaiConfig
from sidecar.engines.base import PlainEngine, SidecarEngine
from sidecar.engines.registry import load
from tests.support.critic_frames import random_frames

TOLERANCE = 1e-3
TASKS = ("lift the red cube", "put the wine bottle on top of the cabinet")
FRAMES = random_frames(20)
LARGE = random_frames(4, seed=5, size=160)


def keys(*numbers: int) -> list[tuple[str, int]]:
    return [("frame", number) for number in numbers]


def done_questions() -> list[Query]:
    """Different tasks (prompts of different lengths), one size of frames after another, views of any strides."""
    plain = [done_query(frame, TASKS[i % 2], keys=keys(i)) for i, frame in enumerate(FRAMES[:10])]
    large = [done_query(frame, TASKS[0]) for frame in LARGE]
    turned = [done_query(frame[::-1, ::-1], TASKS[1]) for frame in FRAMES[:3]]
    goals = [done_goal_query(FRAMES[0], frame, TASKS[0], keys=keys(0, i + 1)) for i, frame in enumerate(FRAMES[1:4])]
    return plain + large + turned + goals


def pair_questions() -> list[Query]:
    """Neighbours of an episode, tasks mixed."""
    return [critic_query(FRAMES[i], FRAMES[i + 1], TASKS[i % 2], keys=keys(i, i + 1)) for i in range(12)]


def reference_questions() -> list[Query]:
    """Six references and two episodes' first frames: prefixes shared in part and in whole."""
    names = keys(*range(14, 20))
    return [
        critic_query(
            FRAMES[i],
            FRAMES[i + 1],
            TASKS[0],
            reference=FRAMES[14:20],
            first=FRAMES[i % 2],
            keys=[*names, *keys(i % 2, i, i + 1)],
        )
        for i in range(8)
    ]


QUESTIONS = {"done": done_questions, "pairs": pair_questions, "references": reference_questions}


@pytest.fixture(scope="module")
def reference(critic_path: Path) -> Iterator[PlainEngine]:
    with closing(PlainEngine(SwiftEngine(critic_path, device="cpu", dtype="float32"))) as engine:
        yield engine


@pytest.fixture(scope="module")
def expected(reference: PlainEngine) -> dict[str, list[Answer]]:
    return {name: reference.answer(make()) for name, make in QUESTIONS.items()}


@pytest.fixture(scope="module", params=["direct", "vllm", "openai"])
def engine(request: pytest.FixtureRequest, critic_path: Path) -> Iterator[SidecarEngine]:
    common = {"run_id": "conformance", "engine": request.param, "device": "cpu", "dtype": "float32"}
    if request.param == "openai":
        with swift_server(critic_path) as url:
            config = Config(**common, openai=OpenaiConfig(url=url, image_size=112, timeout_s=60))
            with closing(load(config)) as engine:
                yield engine
        return
    if request.param == "vllm" and importlib.util.find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    with closing(load(Config(**common, model=str(critic_path)))) as engine:
        yield engine


def distribution(answer: Answer) -> dict[str, float]:
    """Log-probabilities of the first token's alternatives, those that any engine can be asked to give (over e-6)."""
    return {text: logprob for text, logprob in answer.tokens[0].top[:10] if logprob > -6} if answer.tokens else {}


def assert_alike(got: Sequence[Answer], wanted: Sequence[Answer]) -> None:
    assert [answer.error for answer in got] == [None] * len(wanted)
    for ours, theirs in zip(got, wanted):
        known = dict(ours.tokens[0].top) if ours.tokens else {}
        for text, logprob in distribution(theirs).items():
            assert known[text] == pytest.approx(logprob, abs=TOLERANCE), text


def test_done(engine: SidecarEngine, expected: dict[str, list[Answer]]) -> None:
    """The same done, probability and validity."""
    answers = engine.answer(done_questions())
    assert_alike(answers, expected["done"])
    for ours, theirs in zip(map(parse_done, answers), map(parse_done, expected["done"])):
        assert (ours.done, ours.valid) == (theirs.done, theirs.valid)
        assert math.isclose(ours.probability, theirs.probability, abs_tol=TOLERANCE) or not ours.valid


@pytest.mark.parametrize("name", ["pairs", "references"])
@pytest.mark.parametrize("rich", [False, True])
def test_critic(engine: SidecarEngine, expected: dict[str, list[Answer]], name: str, rich: bool) -> None:
    """The same number and validity, as it stands and weighted by probability; asked twice, so that caches count."""
    for _ in range(2):
        answers = engine.answer(QUESTIONS[name]())
        assert_alike(answers, expected[name])
        ours = [parse_critic(answer, rich=rich) for answer in answers]
        theirs = [parse_critic(answer, rich=rich) for answer in expected[name]]
        assert [one.valid for one in ours] == [one.valid for one in theirs]
        assert [one.value for one in ours if one.valid] == pytest.approx(
            [one.value for one in theirs if one.valid], abs=0.1 if rich else 0
        )


def test_the_questions_are_worth_asking(expected: dict[str, list[Answer]]) -> None:
    """The small critic gives valid and invalid answers and different ones, so that the comparison says something."""
    dones = [parse_done(answer) for answer in expected["done"]]
    critics = [parse_critic(answer) for name in ("pairs", "references") for answer in expected[name]]
    assert {one.valid for one in dones} == {True, False}
    assert len({one.text for one in dones + critics}) >= 6
    assert sum(one.valid for one in critics) >= 3


def test_one_at_a_time_is_the_same_as_together(engine: SidecarEngine) -> None:
    """A verdict does not depend on what else is in the batch."""
    questions = done_questions()[:6] + pair_questions()[:4]
    together = engine.answer(questions)
    for question, answer in zip(questions, together):
        (alone,) = engine.answer([question])
        assert_alike([alone], [answer])


def test_text(engine: SidecarEngine, reference: PlainEngine) -> None:
    """Free text (a task description) is the same too."""
    question = task_query(FRAMES[0], FRAMES[1]).with_(max_new_tokens=12)
    (ours,), (theirs,) = engine.answer([question]), reference.answer([question])
    assert ours.error is None and ours.text == theirs.text
