"""The direct engine's reuse: what is computed once, and that reuse changes no answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from critic_frames import random_frames

from evo_vlac.engine import Answer, Query
from evo_vlac.queries import critic_query, done_query
from sidecar.config import Config, DirectConfig, MemoryConfig
from sidecar.engines import shared_prefix
from sidecar.engines.direct import DirectEngine, Limits
from sidecar.engines.direct_loader import load_direct

TASK = "lift the red cube"
FRAMES = random_frames(20)


@pytest.fixture(scope="module")
def model(critic_path: Path) -> Iterator[DirectEngine]:
    yield load_direct(Config(run_id="x", model=str(critic_path)))


@pytest.fixture
def engine(model: DirectEngine) -> DirectEngine:
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

    def __init__(self, engine: DirectEngine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.images = self.positions = 0
        features, decode = engine.backbone.features, engine.backbone.decode

        def count_images(pixels: torch.Tensor) -> torch.Tensor:
            self.images += len(pixels)
            return features(pixels)

        def count_positions(embeds: torch.Tensor, *rest: object, **named: object) -> object:
            self.positions += embeds.shape[0] * embeds.shape[1]
            return decode(embeds, *rest, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(engine.backbone, "features", count_images)
        monkeypatch.setattr(engine.backbone, "decode", count_positions)


def test_a_frame_is_encoded_once(engine: DirectEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Done of every frame, then pairs of neighbours: as many images as frames go through the tower."""
    counted = Counting(engine, monkeypatch)
    keys = [("frame", i) for i in range(9)]
    engine.answer([done_query(FRAMES[i], TASK, keys=[keys[i]]) for i in range(9)])
    engine.answer([critic_query(FRAMES[i], FRAMES[i + 1], TASK, keys=keys[i : i + 2]) for i in range(8)])
    assert counted.images == 9


def test_a_prefix_goes_through_the_decoder_once(engine: DirectEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight pairs behind one trajectory: its positions once, then only what is behind it; warm, not even that."""
    counted = Counting(engine, monkeypatch)
    queries = with_references(8)
    prompt = engine.tokens(queries[0])
    prefix, own = prompt.ends[6], len(prompt.ids) - prompt.ends[6]
    later = 8 * 7  # at most seven more tokens each
    engine.answer(queries)
    assert prefix + 8 * own <= counted.positions <= prefix + 8 * own + later
    counted.positions = 0
    engine.answer(queries)
    assert 8 * own <= counted.positions <= 8 * own + later


def test_episodes_share_the_references_but_not_the_first_frame(
    engine: DirectEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another episode costs its first frame's positions, not the trajectory's."""
    engine.answer(with_references(1, first=0))
    counted = Counting(engine, monkeypatch)
    query = with_references(1, first=5)[0]
    prompt = engine.tokens(query)
    engine.answer([query])
    first_frame = prompt.ends[6] - prompt.ends[5]
    own = len(prompt.ids) - prompt.ends[6]
    assert first_frame + own <= counted.positions <= first_frame + own + 7


def test_unkeyed_images_are_never_mistaken_for_others(engine: DirectEngine) -> None:
    """Without keys nothing is remembered: an array changed in place is seen anew."""
    image = FRAMES[0].copy()
    (before,) = engine.answer([done_query(image, TASK)])
    image[...] = FRAMES[1]
    (after,) = engine.answer([done_query(image, TASK)])
    (expected,) = engine.answer([done_query(FRAMES[1], TASK)])
    assert after == expected != before


def logprobs(answers: Sequence[Answer]) -> list[float]:
    return [token.logprob for answer in answers for token in answer.tokens]


@pytest.mark.parametrize("bytes_", [0, 200_000])
def test_small_caches_change_no_answer(critic_path: Path, engine: DirectEngine, bytes_: int) -> None:
    """With no cache at all, or one that forgets in the middle of a batch."""
    memory = MemoryConfig(feature_cache_mb=bytes_ / 2**20, prefix_cache_mb=bytes_ / 2**20)
    small = load_direct(Config(run_id="x", model=str(critic_path), memory=memory))
    queries = with_references(6) + [done_query(FRAMES[i], TASK, keys=[("frame", i)]) for i in range(6)]
    expected, got = engine.answer(queries), small.answer(queries)
    assert [one.text for one in got] == [one.text for one in expected]
    assert logprobs(got) == pytest.approx(logprobs(expected), abs=1e-4)
    assert small.features.bytes <= bytes_ and small.prefixes.bytes <= bytes_


def test_shared_prefix_attention_is_exact(engine: DirectEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefixes shared in place give what copies of them for every row give, two episodes in a batch."""
    queries = with_references(4, first=0) + with_references(4, first=5)
    shared = engine.answer(queries)
    monkeypatch.setattr("sidecar.engines.decoding._shared", lambda rows, device: None)
    copied = engine.answer(queries)
    assert [one.text for one in shared] == [one.text for one in copied]
    assert logprobs(shared) == pytest.approx(logprobs(copied), abs=1e-4)


def test_small_passes_change_no_answer(engine: DirectEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that go through the decoder one by one, and images through the tower: what a CPU's cache asks for."""
    queries = with_references(4) + [critic_query(FRAMES[i], FRAMES[i + 1], TASK) for i in range(3)]
    queries += [done_query(FRAMES[i], TASK) for i in range(3)]
    together = engine.answer(queries)
    monkeypatch.setattr(engine, "limits", Limits(chunk_images=1))
    for bound in ("positions", "kept"):
        monkeypatch.setattr(engine.decoder, bound, 1)
        apart = engine.answer(queries)
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

    forced = load_direct(Config(run_id="x", model=str(critic_path), direct=DirectConfig(force_number=True)))
    queries = [critic_query(FRAMES[i], FRAMES[i + 1], TASK) for i in range(12)]
    texts = [answer.text for answer in forced.answer(queries)]
    numbers = [parse_critic(Answer(text)) for text in texts]
    assert all(number.valid or abs(float(number.text)) > 100 for number in numbers), texts


def test_leaving_and_coming_back_changes_no_answer(engine: DirectEngine) -> None:
    """UPDATE drops the caches; ROLLOUT gives the same answers."""
    queries = with_references(2)
    before = engine.answer(queries)
    engine.offload()
    assert engine.features.bytes == engine.prefixes.bytes == 0
    engine.restore()
    assert logprobs(engine.answer(queries)) == pytest.approx(logprobs(before), abs=1e-5)
    assert engine.memory_bytes()["feature_cache"] > 0
