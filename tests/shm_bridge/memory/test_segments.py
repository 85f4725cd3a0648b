"""Segments that are damaged, foreign, half made or too large: a typed error before a byte of them is believed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from shm_bridge import (
    BadMagic,
    CorruptSegment,
    ForeignOwner,
    Lane,
    LaneReader,
    LayoutMismatch,
    SegmentError,
    Server,
    SidecarUnreachable,
    VersionMismatch,
    WrongRun,
)
from shm_bridge.liveness.locks import open_locks
from shm_bridge.memory import header, layout, segment
from shm_bridge.memory.control import ControlRole, open_control
from shm_bridge.memory.lane_memory import LaneMemory, Role, open_lane
from shm_bridge.memory.layout import ServerWord
from shm_bridge.names import SHM, control_name, lane_name, lock_path
from tests.shm_bridge import echo
from tests.shm_bridge.conftest import ROOT, SPEC

HEAD = layout.HEADER_BYTES


def damage(name: str, offset: int, data: bytes) -> bytes:
    """Overwrites bytes of a segment; what was there."""
    with open(SHM / name[1:], "r+b") as file:
        file.seek(offset)
        before = file.read(len(data))
        file.seek(offset)
        file.write(data)
    return before


@pytest.fixture
def lane(run_id):
    with Server.create(run_id), Lane.attach(run_id, SPEC, name="x") as lane:
        yield lane


def test_every_byte_of_a_lanes_header_flipped(lane, run_id):
    """Whatever bit of whatever byte: a typed error."""
    name = lane_name(run_id, lane.index, lane.generation)
    block = (SHM / name[1:]).read_bytes()[:HEAD]
    size = os.stat(SHM / name[1:]).st_size
    header.unpack_lane(block, run_id, size, "x")
    for at in range(HEAD):
        for bit in (1, 128):
            flipped = bytearray(block)
            flipped[at] ^= bit
            with pytest.raises(SegmentError):
                header.unpack_lane(bytes(flipped), run_id, size, "x")


def test_every_byte_of_the_control_header_flipped(run_id):
    """The same for the control segment."""
    with Server.create(run_id):
        name = control_name(run_id)
        block = (SHM / name[1:]).read_bytes()[:HEAD]
        size = os.stat(SHM / name[1:]).st_size
        for at in range(HEAD):
            flipped = bytearray(block)
            flipped[at] ^= 1 << (at % 8)
            with pytest.raises(SegmentError):
                header.unpack_control(bytes(flipped), run_id, size, "x")


@pytest.mark.parametrize(
    "offset, data, error",
    [
        (0, b"NOTVLAC\0", BadMagic),
        (8, (99).to_bytes(4, "little"), VersionMismatch),
        (12, (99).to_bytes(4, "little"), LayoutMismatch),
        (16, (99).to_bytes(8, "little"), LayoutMismatch),
        (24, (1).to_bytes(4, "little"), CorruptSegment),
        (HEAD - 4, b"\0\0\0\0", CorruptSegment),
    ],
)
def test_wrong_magic_version_layout_and_checksum_have_names(lane, run_id, offset, data, error):
    """A reader is told what is wrong, not that something is."""
    name = lane_name(run_id, lane.index, lane.generation)
    before = damage(name, offset, data)
    with pytest.raises(error):
        open_lane(run_id, lane.index, lane.generation, Role.READER)
    damage(name, offset, before)


def test_a_segment_of_another_run_lane_or_generation(lane, run_id):
    """A name that leads to somebody else's segment is not believed."""
    name = lane_name(run_id, lane.index, lane.generation)
    other = lane_name(run_id, lane.index, lane.generation + 1)
    shutil.copy(SHM / name[1:], SHM / other[1:])
    os.chmod(SHM / other[1:], 0o600)
    with pytest.raises(WrongRun):
        open_lane(run_id, lane.index, lane.generation + 1, Role.READER)
    with pytest.raises(WrongRun):
        header.unpack_lane((SHM / name[1:]).read_bytes()[:HEAD], "elsewhere", os.stat(SHM / name[1:]).st_size, "x")
    segment.unlink(other)


def test_a_truncated_or_grown_segment(lane, run_id):
    """The size must be what the header says, to the byte."""
    name = lane_name(run_id, lane.index, lane.generation)
    size = os.stat(SHM / name[1:]).st_size
    copy = lane_name(run_id, 200, 1)
    for wrong in (0, 1, HEAD - 1, HEAD, size - 1, size + 1):
        shutil.copy(SHM / name[1:], SHM / copy[1:])
        os.chmod(SHM / copy[1:], 0o600)
        os.truncate(SHM / copy[1:], wrong)
        with pytest.raises(SegmentError):
            open_lane(run_id, 200, 1, Role.READER)
    segment.unlink(copy)


def test_half_created_control_segment(run_id, sidecar):
    """What a creator left that died before it was done is never taken for a run, and a sidecar makes it anew."""
    fd = segment.create(control_name(run_id), 4096, "test")
    os.close(fd)
    with pytest.raises(SidecarUnreachable):
        Lane.attach(run_id, SPEC, timeout=0.05)
    sidecar()
    with Lane.attach(run_id, SPEC, timeout=5) as lane:
        assert lane.sidecar_alive


def test_half_created_lane(run_id):
    """A lane whose maker died before it was registered is in nobody's way."""
    with Server.create(run_id):
        os.close(segment.create(lane_name(run_id, 0, 1), 4096, "test"))
        with Lane.attach(run_id, SPEC) as lane:
            assert (lane.index, lane.generation) == (0, 1)


def test_control_segment_replaced_under_living_lanes(run_id):
    """A successor that cannot trust the old control segment makes a new one; lanes follow, questions are kept."""
    server = Server.create(run_id)
    lane = Lane.attach(run_id, SPEC)
    lane.begin_episode(1, "t")
    mark = echo.frame(lane, 1, 0)
    ticket = lane.ask(1, 0)
    server.close()
    damage(control_name(run_id), 0, b"garbage!")
    with Server.create(run_id) as server:
        assert server.epoch > 2 and server.poll() == []
        assert lane.sidecar_alive
        (question,) = server.poll()
        echo.answer(server, question)
        assert lane.wait(ticket).probability == mark / 256
        lane.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's file")
@pytest.mark.parametrize("which", ["control", "lane", "lock", "semaphore", "mode"])
def test_other_users_files_are_not_touched(run_id, which):
    """Owner and mode are checked before anything is mapped."""
    with Server.create(run_id) as server, Lane.attach(run_id, SPEC) as lane:
        name = lane_name(run_id, lane.index, lane.generation)[1:]
        bell = next(SHM.glob(f"sem.vlac:{run_id}:bell.*"))
        path = {
            "control": SHM / control_name(run_id)[1:],
            "lane": SHM / name,
            "lock": lock_path(run_id),
            "semaphore": bell,
            "mode": SHM / name,
        }[which]
        if which == "mode":
            os.chmod(path, 0o666)
        else:
            os.chown(path, 4242, 4242)
        with pytest.raises(ForeignOwner):
            if which == "control":
                open_control(run_id, ControlRole.READER)
            elif which in ("lane", "mode"):
                LaneReader.open(run_id, lane.index)
            elif which == "lock":
                code = f"from shm_bridge.liveness.locks import open_locks; open_locks({run_id!r}, create=True)"
                result = subprocess.run(
                    [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
                )
                assert "ForeignOwner" in result.stderr
                raise ForeignOwner("as expected")
            else:
                Lane.attach(run_id, SPEC, timeout=1)
        os.chown(path, 0, 0)
        os.chmod(path, 0o600)
        assert server.lanes <= 1


def test_a_segment_is_never_resized_by_opening(lane, run_id):
    """posix_ipc resizes on opening with a size; ours passes none."""
    name = lane_name(run_id, lane.index, lane.generation)
    before = os.stat(SHM / name[1:])
    open_lane(run_id, lane.index, lane.generation, Role.READER).close()
    assert os.stat(SHM / name[1:]).st_size == before.st_size == layout.LaneLayout(SPEC).total
    assert before.st_mode & 0o777 == 0o600 and before.st_blocks * 512 >= before.st_size


SMALL = """
import subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/dev/shm"], check=True)
import os
from shm_bridge import CameraSpec, Lane, LaneSpec, NoSpace, Server
with Server.create("small") as server:
    try:
        Lane.attach("small", LaneSpec((CameraSpec("a", 256, 256),), frames=64))
    except NoSpace as error:
        print(error.needed > 12_000_000, 0 < error.free <= 1 << 20, "free" in str(error))
    Lane.attach("small", LaneSpec((CameraSpec("a", 64, 64),), frames=4)).close()
print(os.listdir("/dev/shm"))
"""


def test_dev_shm_of_one_megabyte():
    """Needed and free bytes are named, nothing is left of the attempt, and what fits still works. No SIGBUS."""
    probe = ["unshare", "-m", "true"]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    command = ["unshare", "-m", sys.executable, "-c", SMALL]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert result.stdout.splitlines() == ["True True True", "[]"], result.stderr


def test_each_side_can_write_its_own_part_only(lane, run_id):
    """One writer a field is not a habit: the processor refuses the rest."""
    sidecar_view = open_lane(run_id, lane.index, lane.generation, Role.SIDECAR)
    reader = open_lane(run_id, lane.index, lane.generation, Role.READER)
    mine: LaneMemory = lane._memory
    with pytest.raises(TypeError):
        sidecar_view.words[0] = 1
    with pytest.raises(TypeError):
        mine.verdict_words[0] = 1
    with pytest.raises(TypeError):
        reader.words[0] = 1
    assert not sidecar_view.stored(0).flags.writeable and not mine.values().flags.writeable
    assert np.shares_memory(mine.stored(0), mine.view(0))
    sidecar_view.close()
    reader.close()


def test_locks_survive_a_reader_of_the_same_process(run_id):
    """Closing one user of the lock file drops nobody else's locks."""
    with Server.create(run_id):
        locks = open_locks(run_id, create=False)
        locks.close()
        code = (
            f"from shm_bridge.liveness.locks import open_locks; print(open_locks({run_id!r}, create=False).holder(0))"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
        )
        assert result.stdout.strip() == str(os.getpid())


MANY = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from shm_bridge import CameraSpec, Lane, LaneSpec, Server
spec = LaneSpec((CameraSpec("a", 8, 8), CameraSpec("b", 4, 6, 1)), frames=2, questions=1)
with Server.create("RUN", max_lanes=320) as server:
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    lanes = [Lane.attach("RUN", spec, name=f"lane-{number}") for number in range(320)]
    server.poll()
    print(server.lanes, sorted(lane.index for lane in lanes) == list(range(320)))
    try:
        Lane.attach("RUN", spec)
    except Exception as error:
        print(type(error).__name__)
    for lane in lanes[::2]:
        lane.close()
    server.poll()
    again = [Lane.attach("RUN", spec) for _ in range(160)]
    server.poll()
    print(server.lanes)
    for lane in lanes[1::2] + again:
        lane.close()
"""


def test_hundreds_of_lanes_come_and_go(run_id):
    """320 lanes of two cameras, more than the usual limit of open files; a full run says so; places are used again."""
    code = MANY.replace("RUN", run_id)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=ROOT, check=False
    )
    assert result.stdout.split() == ["320", "True", "TooManyLanes", "320"], result.stderr


def test_a_sidecar_that_has_no_doorbell_yet(run_id):
    """Between taking the run over and making its bell the sidecar is found: a worker waits for it."""
    with Server.create(run_id) as server:
        words = server._control.server
        bell, words[ServerWord.BELL] = words[ServerWord.BELL], 0
        with pytest.raises(SidecarUnreachable):
            Lane.attach(run_id, SPEC, timeout=0.1)
        timer = threading.Timer(0.2, words.__setitem__, (ServerWord.BELL, bell))
        timer.start()
        Lane.attach(run_id, SPEC, timeout=10).close()
        timer.join()
