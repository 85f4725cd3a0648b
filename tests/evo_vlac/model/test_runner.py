"""The runner's reuse: what is computed once, and that reuse changes no answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from evo_vlac.critic import Critic
from evo_vlac.engine import Answer, Engine, Query
from evo_vlac.model import shared_prefix
from evo_vlac.model.loading import build_runner, load, place
from evo_vlac.model.runner import Limits, ModelRunner
from evo_vlac.queries import critic_query, done_query
from tests.support.critic_frames import random_frames

TASK = "lift the red cube"
FRAMES = random_frames(20)


def load_runner(path: Path, limits: Limits | None = None, force_number: bool = False) -> ModelRunner:
    return build_runner(load(path, *place("cpu", "float32")), limits, force_number=force_number)


@pytest.fixture(scope="module")
def model(critic_path: Path) -> Iterator[ModelRunner]:
    yield load_runner(critic_path)


@pytest.fixture
def runner(model: ModelRunner) -> ModelRunner:
    """With empty caches."""
    model.features.clear()
    model.prefixes.clear()
    return model


def with_references(count: int, first: int = 0, key: str = "frame") -> list[Query]:
    names = [("reference", i) for i in range(6)]
    return [
        critic_query(
            FRAMES[i],
            FRAMES[i + 1],
            TASK,
            reference=FRAMES[14:20],
            first=FRAMES[first],
            keys=[*names, (key, first), (key, i), (key, i + 1)],
        )
        for i in range(count)
    ]


class Counting:
    """Counts the images that go through the tower and the positions through the decoder."""

    def __init__(self, runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images = self.positions = 0
        features, decode = runner.backbone.features, runner.backbone.decode

        def count_images(pixels: torch.Tensor) -> torch.Tensor:
            self.images += len(pixels)
            return features(pixels)

        def count_positions(embeds: torch.Tensor, *rest: object, **named: object) -> object:
            self.positions += embeds.shape[0] * embeds.shape[1]
            return decode(embeds, *rest, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(runner.backbone, "features", count_images)
        monkeypatch.setattr(runner.backbone, "decode", count_positions)


def test_a_frame_is_encoded_once(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Done of every frame, then pairs of neighbours: as many images as frames go through the tower."""
    counted = Counting(runner, monkeypatch)
    keys = [("frame", i) for i in range(9)]
    runner.answer([done_query(FRAMES[i], TASK, keys=[keys[i]]) for i in range(9)])
    runner.answer([critic_query(FRAMES[i], FRAMES[i + 1], TASK, keys=keys[i : i + 2]) for i in range(8)])
    assert counted.images == 9


def test_a_prefix_goes_through_the_decoder_once(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight pairs after one trajectory: its positions once, then only what follows it; warm, not even that."""
    counted = Counting(runner, monkeypatch)
    queries = with_references(8)
    prompt = runner.tokens(queries[0])
    prefix, own = prompt.ends[6], len(prompt.ids) - prompt.ends[6]
    later = 8 * 7  # at most seven more tokens each
    runner.answer(queries)
    assert prefix + 8 * own <= counted.positions <= prefix + 8 * own + later
    counted.positions = 0
    runner.answer(queries)
    assert 8 * own <= counted.positions <= 8 * own + later


def test_episodes_share_the_references_but_not_the_first_frame(
    runner: ModelRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another episode costs its first frame's positions, not the trajectory's."""
    runner.answer(with_references(1, first=0))
    counted = Counting(runner, monkeypatch)
    query = with_references(1, first=5)[0]
    prompt = runner.tokens(query)
    runner.answer([query])
    first_frame = prompt.ends[6] - prompt.ends[5]
    own = len(prompt.ids) - prompt.ends[6]
    assert first_frame + own <= counted.positions <= first_frame + own + 7


def test_a_critic_asks_it_as_any_engine(runner: ModelRunner) -> None:
    """No sidecar is needed: values of a trajectory, and dones of which some can be read."""
    assert isinstance(runner, Engine)
    assert len(Critic(runner).trajectory(FRAMES[:5], TASK).values) == 5
    assert any(one.valid for one in Critic(runner).done(FRAMES, TASK))


def test_unkeyed_images_are_never_mistaken_for_others(runner: ModelRunner) -> None:
    """Without keys nothing is remembered: an array changed in place is seen anew."""
    image = FRAMES[0].copy()
    (before,) = runner.answer([done_query(image, TASK)])
    image[...] = FRAMES[1]
    (after,) = runner.answer([done_query(image, TASK)])
    (expected,) = runner.answer([done_query(FRAMES[1], TASK)])
    assert after == expected != before


def logprobs(answers: Sequence[Answer]) -> list[float]:
    return [token.logprob for answer in answers for token in answer.tokens]


@pytest.mark.parametrize("bytes_", [0, 200_000])
def test_small_caches_change_no_answer(critic_path: Path, runner: ModelRunner, bytes_: int) -> None:
    """With no cache at all, or one that forgets in the middle of a batch."""
    small = load_runner(critic_path, Limits(feature_bytes=bytes_, prefix_bytes=bytes_))
    queries = with_references(6) + [done_query(FRAMES[i], TASK, keys=[("frame", i)]) for i in range(6)]
    expected, got = runner.answer(queries), small.answer(queries)
    assert [one.text for one in got] == [one.text for one in expected]
    assert logprobs(got) == pytest.approx(logprobs(expected), abs=1e-4)
    assert small.features.bytes <= bytes_ and small.prefixes.bytes <= bytes_


def test_shared_prefix_attention_is_exact(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefixes shared in place give what copies of them for every row give, two episodes in a batch."""
    queries = with_references(4, first=0) + with_references(4, first=5)
    shared = runner.answer(queries)
    monkeypatch.setattr("evo_vlac.model.decoding._shared", lambda rows, device: None)
    copied = runner.answer(queries)
    assert [one.text for one in shared] == [one.text for one in copied]
    assert logprobs(shared) == pytest.approx(logprobs(copied), abs=1e-4)


def test_small_passes_change_no_answer(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that go through the decoder one by one, and images through the tower: what a CPU's cache asks for."""
    queries = with_references(4) + [critic_query(FRAMES[i], FRAMES[i + 1], TASK) for i in range(3)]
    queries += [done_query(FRAMES[i], TASK) for i in range(3)]
    together = runner.answer(queries)
    monkeypatch.setattr(runner, "limits", Limits(chunk_images=1))
    for bound in ("positions", "kept"):
        monkeypatch.setattr(runner.decoder, bound, 1)
        apart = runner.answer(queries)
        assert [one.text for one in apart] == [one.text for one in together]
        assert logprobs(apart) == pytest.approx(logprobs(together), abs=1e-4)


def test_flash_and_plain_attention_agree() -> None:
    """Both ways to a log-sum-exp give the same, causal and not, with grouped heads."""
    query, key = torch.randn(2, 4, 7, 32), torch.randn(2, 4, 7, 32)
    for causal in (False, True):
        mask = torch.ones(7, 7, dtype=torch.bool).tril() if causal else None
        for ours, plain in zip(
            shared_prefix._attention(query, key, key, 0.2, causal), shared_prefix._plain(query, key, key, mask, 0.2)
        ):
            assert torch.allclose(ours, plain, atol=1e-5)


def test_a_forced_number_is_always_one(critic_path: Path) -> None:
    """With force_number every pair's answer is readable; without, this critic has unreadable ones among them."""
    from evo_vlac.parsing import parse_critic

    forced = load_runner(critic_path, force_number=True)
    queries = [critic_query(FRAMES[i], FRAMES[i + 1], TASK) for i in range(12)]
    texts = [answer.text for answer in forced.answer(queries)]
    numbers = [parse_critic(Answer(text)) for text in texts]
    assert all(number.valid or abs(float(number.text)) > 100 for number in numbers), texts
