"""The copy budget of a frame: one write, by the renderer, between the camera and what the engine is given."""

from __future__ import annotations

import numpy as np
import pytest

from shm_bridge import CameraSpec, Kind, Lane, LaneReader, LaneSpec, Orientation, Reply, Server

pytestmark = pytest.mark.usefixtures("way")

SPEC = LaneSpec((CameraSpec("c", 64, 48, orientation=Orientation.ROTATE_180),), frames=4)


def address(image: np.ndarray) -> int:
    """Of the lowest byte that an array covers."""
    return int(np.lib.array_utils.byte_bounds(image)[0] if hasattr(np.lib, "array_utils") else np.byte_bounds(image)[0])


def test_one_write_and_no_copy_from_the_renderer_to_the_engine(run_id, monkeypatch):
    """Writer's slot, worker's view, reader's view and the sidecar's image are the same bytes of one file.

    A byte changed in the slot after publication (through the segment, as only a broken worker could) shows in an image
    the sidecar was given before: there is no second copy of the frame anywhere for it to come from.
    """
    copies = []
    monkeypatch.setattr(np, "copyto", lambda *_, **__: copies.append("copyto"))
    monkeypatch.setattr(np, "ascontiguousarray", lambda *_, **__: copies.append("ascontiguousarray"))
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC, name="x") as lane:
        lane.begin_episode(1, "t")
        slot = lane.reserve()
        slot["c"][...] = 1  # the renderer's readback: the one write
        lane.publish(slot, 0)
        ticket = lane.ask(Kind.DONE, slot)
        (question,) = server.poll()
        given = [question.images()[0], question.frames[0]["c"], lane.view(0)]
        reader = LaneReader.open(run_id, "x")
        given.append(reader.view(slot.index))
        for image in given:
            assert not image.flags.owndata and not image.flags.writeable
            assert image.strides == (-48 * 3, -3, 1) and image.shape == (64, 48, 3)
        base = lane._memory.layout.frames + slot.index * lane._memory.layout.frame_stride
        lane._memory.worker_part[base] = 77
        assert [int(image[-1, -1, 0]) for image in given] == [77] * 4
        assert address(given[2]) == address(slot["c"])
        server.answer(question, Reply())
        lane.wait(ticket)
        reader.close()
    assert copies == []


def test_asking_again_about_a_retained_frame_writes_no_pixel(run_id):
    """A value list over an episode reads what the done questions read: the frames are where they were."""
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC) as lane:
        lane.begin_episode(1, "t")
        for step in range(4):
            slot = lane.reserve()
            slot["c"][...] = step
            lane.publish(slot, step)
        lane.ask(Kind.DONE, 3)
        lane.ask(Kind.VALUE, first=0, last=3)
        done, value = server.poll()
        assert address(done.images()[0]) == address(value.images()[3])
        assert done.frame_keys[0] == value.frame_keys[3]
        assert len(set(value.frame_keys)) == 4
