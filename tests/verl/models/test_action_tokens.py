"""Actions and tokens."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from verl.models.openvla_oft.action_tokens import ActionTokens

TOKENS = ActionTokens(32000)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20))
def test_decoding_is_within_half_a_bin_of_the_clipped_action(values: list[float]) -> None:
    """encode, then decode, moves an action by at most one bin's half width."""
    actions = np.array(values)
    error = np.abs(TOKENS.decode(TOKENS.encode(actions)) - np.clip(actions, -1, 1))
    assert error.max() <= 1 / 255 + 1e-9


def test_tokens_are_the_last_of_the_vocabulary_and_descend() -> None:
    """-1 is the vocabulary's last token, +1 its 256th from the end, as in the published tokenizer."""
    ids = TOKENS.encode(np.array([-1.0, 1.0]))
    assert ids.tolist() == [31999, 31744]
    assert np.allclose(TOKENS.decode(ids), [-254 / 255, 254 / 255])


def test_the_two_highest_bins_share_a_centre() -> None:
    """256 edges have 255 intervals: token 31744 decodes like 31745 (the published clip)."""
    assert TOKENS.decode(np.array([31744]))[0] == TOKENS.decode(np.array([31745]))[0]


def test_every_token_survives_a_round_trip_but_the_clipped_one() -> None:
    """decode, then encode, is the identity on 255 of the 256 tokens."""
    ids = np.arange(31745, 32000)
    assert (TOKENS.encode(TOKENS.decode(ids)) == ids).all()


def test_index_counts_from_the_first_action_token() -> None:
    """Positions in the logits' slice are 0 to 255."""
    assert TOKENS.index(torch.tensor([31744, 31999])).tolist() == [0, 255]
