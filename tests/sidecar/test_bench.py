"""The bench: its arithmetic is that of the models it measures, and a run of it reports every case."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from evo_vlac.engine import Answer, Query
from evo_vlac.model import packed
from evo_vlac.model.loading import Loaded, build_runner
from sidecar.bench.__main__ import _table, main
from sidecar.bench.cases import CASES, Frames, Straightforward
from sidecar.bench.shapes import SHAPES, STATISTICS, build


def spelled_out() -> AbstractContextManager[None]:
    """Attention as matrix products, which torch counts; its fused CPU kernel it does not."""
    return sdpa_kernel(SDPBackend.MATH)


def test_flops_are_those_that_torch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tower, decoder and output layer of the tiny shape, within 5 % (torch leaves out what is no matrix product)."""
    monkeypatch.setattr(packed, "pack", lambda model: False)  # torch does not count packed layers
    shape = SHAPES["tiny"]
    model, processor = build(shape, "cpu", torch.float32)
    runner = build_runner(Loaded(model, processor.tokenizer, *STATISTICS))
    assert shape.parameters == pytest.approx(sum(p.numel() for p in model.parameters()), rel=0.05)
    image = torch.zeros(1, 3, shape.image_size, shape.image_size)
    with torch.no_grad(), spelled_out(), FlopCounterMode(display=False) as tower:
        runner.backbone.features(image)
    assert tower.get_total_flops() == pytest.approx(shape.image_flops(), rel=0.05)
    embeds = torch.zeros(1, 40, shape.text_hidden)
    for last in (None, torch.tensor([39])):
        with torch.no_grad(), spelled_out(), FlopCounterMode(display=False) as decoder:
            step = runner.backbone.decode(embeds, torch.arange(40)[None], last=last)
            runner.backbone.logits(step.hidden[:, -1])
        expected = shape.text_flops(40, last_only=last is not None)
        expected += 2.0 * shape.text_hidden * model.lm_head.weight.shape[0]
        assert decoder.get_total_flops() == pytest.approx(expected, rel=0.05)


def test_the_straightforward_way_says_the_same() -> None:
    """Whole requests through generate give the direct engine's tokens, for every case."""
    model, processor = build(SHAPES["tiny"], "cpu", torch.float32, seed=2)
    runner = build_runner(Loaded(model, processor.tokenizer, *STATISTICS))
    frames = Frames(112)
    for case in CASES:
        queries = frames.queries(case, 3)
        for ours, theirs in zip(runner.answer(queries), Straightforward(runner).answer(queries)):
            assert ours.text == theirs.text
            assert [t.logprob for t in ours.tokens] == pytest.approx([t.logprob for t in theirs.tokens], abs=1e-3)


def test_the_straightforward_way_is_halved_whoever_says_that_the_card_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuBLAS has words of its own. What is no lack of memory ends the measurement."""
    model, processor = build(SHAPES["tiny"], "cpu", torch.float32, seed=2)
    way = Straightforward(build_runner(Loaded(model, processor.tokenizer, *STATISTICS)))
    queries, tried = Frames(112).queries("done", 4), []
    error = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    def answer(asked: Sequence[Query]) -> list[Answer]:
        tried.append(len(asked))
        if len(asked) > 1:
            raise error
        return [Answer("1")]

    monkeypatch.setattr(way, "_answer", answer)
    assert len(way.answer(queries)) == 4 and tried == [4, 2, 1, 1, 2, 1, 1]
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(RuntimeError, match="illegal"):
        way.answer(queries)


def test_a_run_reports_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON with the peak, and a result for each case, engine, batch and state, with equal verdicts."""
    assert main(["--random", "tiny", "--batch", "2", "--seconds", "0", "--json", "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    found = {(one["case"], one["engine"], one["state"]) for one in report["results"]}
    assert found == {
        *((case, engine, "cold") for case in CASES for engine in ("direct", "straightforward")),
        *((case, "direct", "warm") for case in CASES),
    }
    assert all(one["same_verdicts"] and one["verdicts_per_s"] > 0 for one in report["results"])
    assert report["peak_flops"] > 0
    assert report["phases"]["held_in_update_gb"] == 0 and report["phases"]["back_to_first_verdict_s"] > 0
    told = _table(report)  # of the CPU: no card, no line about one
    assert all(case in told for case in CASES) and "on the card" not in told
