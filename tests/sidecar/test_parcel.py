"""Queries on their way to another process: they arrive as they were sent."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PILImage

from evo_vlac.engine import Query
from evo_vlac.queries import critic_query, done_query
from sidecar.engines.parcel import Arena, pack, unpack
from tests.support.critic_frames import random_frames


@pytest.fixture
def arena():
    one = Arena()
    yield one
    one.close()


def same(ours: Query, theirs: Query) -> None:
    for name in Query.__slots__:
        if name != "images":
            assert getattr(ours, name) == getattr(theirs, name), name
    assert len(ours.images) == len(theirs.images)
    for one, other in zip(ours.images, theirs.images):
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_queries_arrive_as_they_were_sent(arena: Arena) -> None:
    """All fields, and pictures of several sizes, upside down or cut out of another, of numpy or PIL."""
    frames = random_frames(4)
    wide = np.random.default_rng(1).integers(0, 256, (30, 50, 3), np.uint8)
    odd = [frames[0][::-1], wide[:, 5:20], PILImage.fromarray(wide)]
    queries = [done_query(image, "lift the red cube", keys=(("lane", i),)) for i, image in enumerate([*frames, *odd])]
    queries.append(critic_query(frames[0], frames[1], "lift it", keys=((0, 1, 0, 0), (0, 1, 1, 1))))
    for ours, theirs in zip(queries, unpack(pack(queries, arena), arena, ()), strict=True):
        same(ours, theirs)


def test_a_picture_that_several_queries_show_is_sent_once(arena: Arena) -> None:
    """One frame in eight queries takes the room of one; the receiver has one array, too."""
    (frame,) = random_frames(1)
    message = pack([done_query(frame, f"task {i}") for i in range(8)], arena)
    assert len({id(query.images[0]) for query in unpack(message, arena, ())}) == 1
    assert len(message) < frame.nbytes


def test_reference_pictures_are_not_sent(arena: Arena) -> None:
    """The receiver has read them itself."""
    reference, (first, before, after) = tuple(random_frames(2)), random_frames(3)
    keys = (("reference", 0), ("reference", 1), "first", "before", "after")
    query = critic_query(before, after, "lift it", reference=reference, first=first, keys=keys)
    theirs = tuple(np.zeros_like(one) for one in reference)
    (arrived,) = unpack(pack([query], arena), arena, theirs)
    assert all(arrived.images[i] is theirs[i] for i in range(2))
    assert np.array_equal(arrived.images[3], before)


def test_the_arena_grows_on_both_sides(arena: Arena) -> None:
    """A batch larger than all before, in a second mapping as another process has it."""
    other = Arena(arena.descriptor)
    for side in (16, 1200, 2400):
        image = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        (arrived,) = unpack(pack([done_query(image, "x")], arena), other, ())
        assert np.array_equal(arrived.images[0], image)
