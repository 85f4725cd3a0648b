"""What can be seen of a run from outside: every number is read, nothing is written, no lock is taken."""

from __future__ import annotations

import time
from typing import Any

from shm_bridge.errors import BridgeError, LaneNotFound, SegmentError
from shm_bridge.inspect.figures import phase_name
from shm_bridge.liveness.cleaning import leftovers
from shm_bridge.liveness.locks import LANES, SERVER, RunLocks, open_locks
from shm_bridge.memory import layout
from shm_bridge.memory.control import Control, ControlRole, open_control
from shm_bridge.memory.lane_memory import LaneMemory, Role, open_lane
from shm_bridge.memory.layout import FrameState, FrameWord, QuestionWord, ServerWord, WorkerWord
from shm_bridge.names import SHM, checked_run_id, entries
from shm_bridge.server.counters import BATCH_BUCKETS, LATENCY_BUCKETS, percentile_us
from shm_bridge.sync.ordering import MASK

WORDS = layout.WORKER_OFFSET // 8
Snapshot = dict[str, Any]


def runs() -> list[Snapshot]:
    """Every run with a file in /dev/shm: alive or dead, and how much memory it has."""
    found = []
    for run_id in sorted({entry.run_id for entry in entries()}):
        size = sum((SHM / entry.file).stat().st_size for entry in entries(run_id) if (SHM / entry.file).exists())
        row: Snapshot = {"run_id": run_id, "bytes": size, "files": sum(1 for _ in entries(run_id))}
        try:
            shown = show(run_id)
            row |= {key: shown.get(key) for key in ("sidecar", "epoch", "phase", "verdicts", "invalid", "failed")}
            row["lanes"] = len(shown["lanes"])
            row["lanes_dead"] = sum(lane["owner"] == "dead" for lane in shown["lanes"])
        except BridgeError as error:
            row |= {"sidecar": "unknown", "error": str(error)}
        row["leftovers"] = _leftovers(run_id)
        found.append(row)
    return found


def _leftovers(run_id: str) -> int:
    try:
        return len(leftovers(run_id))
    except BridgeError:
        return 0


def show(run_id: str) -> Snapshot:
    """One run in full. Raises ``LaneNotFound`` when there is no such run, ``SegmentError`` when it is damaged."""
    checked_run_id(run_id)
    try:
        locks = open_locks(run_id, create=False)
    except FileNotFoundError:
        known = sorted({entry.run_id for entry in entries()})
        raise LaneNotFound(f"run_id={run_id!r}: there is no such run; there are {known}") from None
    try:
        try:
            control = open_control(run_id, ControlRole.READER)
        except FileNotFoundError:
            return {"run_id": run_id, "sidecar": "dead", "epoch": None, "phase": None, "verdicts": 0, "lanes": []}
        try:
            return _show_control(run_id, control, locks)
        finally:
            control.close()
    finally:
        locks.close()


def _show_control(run_id: str, control: Control, locks: RunLocks) -> Snapshot:
    words = control.server
    pid = locks.holder(SERVER)
    latency = list(words[ServerWord.LATENCY : ServerWord.LATENCY + LATENCY_BUCKETS])
    batches = list(words[ServerWord.BATCHES : ServerWord.BATCHES + BATCH_BUCKETS])
    _, phase = control.acknowledged
    _, wanted = control.requested
    published = control.metrics()
    return {
        "run_id": run_id,
        "sidecar": "dead" if pid is None else "ready" if control.ready else "alive",
        "pid": pid,
        "epoch": control.epoch,
        "phase": phase_name(phase) or phase_name(published.get("phase")),  # without a trainer nobody asks for one
        "phase_requested": phase_name(wanted),
        "lanes_max": control.lanes,
        **{
            word.name.lower(): words[word]
            for word in (
                ServerWord.VERDICTS,
                ServerWord.QUESTIONS,
                ServerWord.INVALID,
                ServerWord.FAILED,
                ServerWord.LATE,
                ServerWord.RECLAIMED,
                ServerWord.REJECTED,
            )
        },
        "latency_us": {f"p{share}": percentile_us(latency, share / 100) for share in (50, 90, 99)},
        "batch_sizes": {str(size): count for size, count in enumerate(batches) if count},
        "metrics": published,
        "lanes": [lane for index in range(control.lanes) if (lane := _lane(run_id, control, locks, index))],
    }


def _lane(run_id: str, control: Control, locks: RunLocks, index: int) -> Snapshot | None:
    generation = control.generations[index]
    if not generation:
        return None
    pid = locks.holder(LANES + index)
    row: Snapshot = {"lane": index, "generation": generation, "owner": "dead" if pid is None else "alive", "pid": pid}
    try:
        memory = open_lane(run_id, index, generation, Role.READER)
    except FileNotFoundError:
        return None
    except SegmentError as error:
        return row | {"name": "?", "error": str(error)}
    try:
        return row | _lane_state(memory)
    finally:
        memory.close()


def _lane_state(memory: LaneMemory) -> Snapshot:
    words, spec = memory.words, memory.spec
    episode, active = words[WORDS + WorkerWord.EPISODE], bool(words[WORDS + WorkerWord.ACTIVE])
    slots = {"free": 0, "writing": 0, "retained": 0}
    for place in range(spec.frames):
        state = memory.frame_word(place, FrameWord.STATE)
        mine = active and memory.frame_word(place, FrameWord.EPISODE) == episode
        writing = state == FrameState.WRITING
        slots["writing" if writing else "retained" if state == FrameState.PUBLISHED and mine else "free"] += 1
    pending, oldest = _pending(memory)
    task = memory.task(attempts=4)
    return {
        "name": memory.identity.name,
        "cameras": [f"{camera.name} {camera.height}x{camera.width}x{camera.channels}" for camera in spec.cameras],
        "bytes": memory.layout.total,
        "episode": episode if active else None,
        "task": task[1] if task and active else None,
        "frames": slots,
        "questions": {"open": pending, "places": spec.question_slots},
        "oldest_question_ms": oldest,
    }


def _pending(memory: LaneMemory) -> tuple[int, float | None]:
    """Open questions, and the age of the oldest in ms."""
    words, slots = memory.words, memory.spec.question_slots
    asked, cancelled = words[WORDS + WorkerWord.ASKED], words[WORDS + WorkerWord.CANCELLED]
    now, ages = time.monotonic_ns(), []
    for back in range(slots):
        ticket = (asked - back) & MASK
        place = ticket & (slots - 1)
        if ticket == cancelled:
            break
        if memory.question_word(place, QuestionWord.SEQ) == ticket != memory.verdict_seq(place):
            ages.append(now - memory.question_word(place, QuestionWord.ASKED_NS))
    return len(ages), (round(max(ages) / 1e6, 3) if ages else None)
