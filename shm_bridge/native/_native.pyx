# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The native backend: the ordinary question's way through the bridge, for ``shm_bridge.backend``.

    worker                                                     sidecar
    LaneState.reserve -> (render) -> publish -> ask -> receive     LaneScanner.take -> Intake.take -> Intake.answer
                                                |        ^              ^                                |
                                                |        +------------- Bell (its own) ------------------+
                                                +-- LaneBell -> Bell (the sidecar's)

It takes only what is in order. Whatever is not (another kind, several questions, a word out of its bounds, a lane that
is closed) it leaves untouched and says None, and the Python code beside the caller goes through all of it. So every
check is made here or there, and none is made here alone. Each shared word is read once, into a local, before it is
looked at. A method holds the interpreter's lock from its first check to its last store, so that no other thread comes
in between; only spinning and sleeping let it go, and look at nothing but memory they keep alive themselves.
"""

from cpython.long cimport PyLong_AsLongLongAndOverflow
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy

from shm_bridge.memory import layout
from shm_bridge.server import counters
from shm_bridge.sync import parking
from shm_bridge.memory.layout import FrameWord, QuestionWord, ServerWord, SidecarWord, TrainerWord, WorkerWord
from shm_bridge.worker.lane_state import FrameSlot, OpenQuestion
from shm_bridge.server.question import Question
from shm_bridge.spec import Kind, Phase, Status, Verdict

VERSION = 5
FIELDS = layout.VERDICT.format

include "memory.pxi"
include "tables.pxi"
include "waking.pxi"
include "worker.pxi"
include "sidecar.pxi"
