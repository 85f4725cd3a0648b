"""Weights in buckets: every number travels once, no bucket is larger than allowed, what does not fit is named."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from verl.errors import WeightsError
from verl.workers.weight_buckets import Piece, from_bytes, pack, plan, rows_of, to_bytes, travelling, unpack

shapes = st.lists(st.lists(st.integers(0, 7), max_size=3).map(tuple), min_size=1, max_size=6)


@given(shapes, st.integers(1, 60), st.sampled_from([torch.float32, torch.bfloat16]))
def test_what_is_unpacked_is_what_was_packed_and_no_bucket_is_too_large(shapes, most, dtype):
    """Scalars, empty tensors, tensors larger than a bucket: each element once; a bucket over ``most`` is one row."""
    sent = {str(i): torch.randn(shape) for i, shape in enumerate(shapes)}
    taken = {name: torch.full(tensor.shape, torch.nan, dtype=dtype) for name, tensor in sent.items()}
    buckets = plan({name: (0, tensor.shape) for name, tensor in sent.items()}, most)
    for pieces in buckets:
        size = sum(piece.elements for piece in pieces)
        assert 0 < size <= most or (len(pieces) == 1 and pieces[0].shape[0] == 1)
        flat = pack(pieces, lambda piece: rows_of(sent[piece.name], piece), torch.empty(size + 3, dtype=dtype))
        words = to_bytes(flat)
        words.flags.writeable = False  # as an array out of Ray's store
        unpack(pieces, from_bytes(words, dtype), taken)
    assert sum(piece.elements for pieces in buckets for piece in pieces) == sum(t.numel() for t in sent.values())
    for name, tensor in sent.items():
        assert torch.equal(taken[name], tensor.to(dtype))


def test_the_bytes_are_a_view_of_the_buffer():
    """Two a number in bfloat16, and no copy on the CPU."""
    flat = torch.ones(5, dtype=torch.bfloat16)
    words = to_bytes(flat)
    assert words.dtype == np.uint8 and words.nbytes == 10
    flat.zero_()
    assert not words.any()


def test_rows_of_a_shard_keep_their_place():
    """A rank that holds rows 4 to 7 sends them as those rows."""
    whole = torch.arange(24.0).reshape(8, 3)
    (pieces,) = plan({"w": (4, (4, 3))}, 100)
    flat = pack(pieces, lambda piece: rows_of(whole[4:], piece, 4), torch.empty(12))
    taken = {"w": torch.zeros(8, 3)}
    unpack(pieces, flat, taken)
    assert torch.equal(taken["w"][4:], whole[4:]) and not taken["w"][:4].any()


@pytest.mark.parametrize(
    ("piece", "word"),
    [
        (Piece("other", 0, (2, 3)), "other, which the rollout's policy has not"),
        (Piece("w", 3, (2, 3)), r"w\[3:5\] of shape \(2, 3\), the rollout's has the shape \(4, 3\)"),
        (Piece("w", 0, (2, 2)), r"the shape \(4, 3\)"),
    ],
)
def test_what_does_not_fit_is_named(piece, word):
    with pytest.raises(WeightsError, match=word):
        unpack([piece], torch.zeros(math.prod(piece.shape)), {"w": torch.zeros(4, 3)})


def test_with_adapters_only_what_is_trained_travels():
    model = nn.ModuleDict({"base": nn.Linear(2, 2), "lora_A": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    assert all(map(travelling(model), model.state_dict()))
    model["base"].requires_grad_(False)
    assert all(map(travelling(model), model.state_dict())), "a trained head among frozen weights is no adapter"
    adapted = nn.ModuleDict({"x": model})
    goes = travelling(adapted)
    assert {name for name in adapted.state_dict() if goes(name)} == {
        f"x.{part}.{leaf}" for part in ("lora_A", "head") for leaf in ("weight", "bias")
    }
