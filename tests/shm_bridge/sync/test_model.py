"""The slot protocol as a model, all its interleavings looked at: no lost wake-up, no half-read frame, no double answer.

Worker and sidecar are small programs over shared words. Stores go through a store buffer of their own (x86: total
store order), which drains at any moment; a fence waits until it is empty. A wait on the semaphore has no time-out here,
as the real one has: so a lost wake-up shows as a state nobody can leave. The model is checked to be sharp: without
fences, or with the sequence published before the payload, it does find the errors.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest

# shared words of the model; a frame is two words, so that a half-written one can be told
FRAME_A, FRAME_B, ASKED, ANSWERED, VERDICT, SIDECAR_PARKED, WORKER_PARKED = range(7)
WORDS = 7
BELL, REPLY = 0, 1  # semaphores
ROUNDS = 2

Operation = tuple  # ("store", word, value) | ("fence",) | ("branch", label, function) | ...


@dataclass
class Program:
    """Instructions with labels; registers are a tuple of ints."""

    code: list[Operation] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    def add(self, *operation: object) -> None:
        self.code.append(operation)

    def label(self, name: str) -> None:
        self.labels[name] = len(self.code)


def worker(fence: bool, early: bool, payload_last: bool) -> Program:
    """Publishes frame r, asks r, waits for answer r. Registers: the sleep it last rang for, its own sleep's number."""
    p = Program()
    for r in range(1, ROUNDS + 1):
        if payload_last:
            p.add("store", ASKED, r)
        if early:
            ring(p, SIDECAR_PARKED, BELL, f"announce{r}")
        p.add("store", FRAME_A, r)
        p.add("store", FRAME_B, r)
        if early:
            ring(p, SIDECAR_PARKED, BELL, f"early{r}")
        if not payload_last:
            p.add("store", ASKED, r)
        if fence:
            p.add("fence")
        ring(p, SIDECAR_PARKED, BELL, f"late{r}")
        park(p, ANSWERED, r, WORKER_PARKED, REPLY, fence, f"wait{r}")
        p.add("check", VERDICT, r)
    p.add("end")
    return p


def sidecar(fence: bool, early: bool) -> Program:
    """Waits for question r, reads frame r, answers r."""
    p = Program()
    for r in range(1, ROUNDS + 1):
        park(p, ASKED, r, SIDECAR_PARKED, BELL, fence, f"wait{r}")
        p.add("check", FRAME_A, r)
        p.add("check", FRAME_B, r)
        if early:
            ring(p, WORKER_PARKED, REPLY, f"early{r}")
        p.add("store", VERDICT, r)
        p.add("store", ANSWERED, r)
        if fence:
            p.add("fence")
        ring(p, WORKER_PARKED, REPLY, f"late{r}")
    p.add("end")
    return p


def ring(p: Program, flag: int, semaphore: int, name: str) -> None:
    """Bell.ring: posts unless awake, or rung for this sleep already."""
    p.add("ring?", flag, f"{name}-quiet")  # register 0 becomes the number; jumps when there is nothing to post
    p.add("post", semaphore)
    p.label(f"{name}-quiet")


def park(p: Program, word: int, value: int, flag: int, semaphore: int, fence: bool, name: str) -> None:
    """Parking._park."""
    p.add("jump-if", word, value, f"{name}-done")
    p.label(f"{name}-sleep")
    p.add("empty", semaphore)  # posts for older sleeps
    p.add("park", flag)  # register 1 is the next sleep's number
    if fence:
        p.add("fence")
    p.add("jump-if", word, value, f"{name}-awake")
    p.add("acquire", semaphore)
    p.add("jump-if", word, value, f"{name}-awake")
    p.add("store", flag, 0)
    p.add("jump-if", word, value, f"{name}-awake")
    p.add("jump", f"{name}-sleep")
    p.label(f"{name}-awake")
    p.add("store", flag, 0)
    p.label(f"{name}-done")


# state: memory, semaphores, then for each process: program counter, registers, store buffer
Process = tuple[int, tuple[int, int], tuple[tuple[int, int], ...]]
State = tuple[tuple[int, ...], tuple[int, ...], tuple[Process, ...]]


class Wrong(Exception):
    """A process read what it must never read."""


def load(memory: tuple[int, ...], buffer: tuple[tuple[int, int], ...], word: int) -> int:
    for at, value in reversed(buffer):
        if at == word:
            return value
    return memory[word]


def put(row: tuple, at: int, value: object) -> tuple:
    return (*row[:at], value, *row[at + 1 :])


def step(programs: list[Program], state: State, who: int) -> State | None:  # noqa: C901 - an interpreter's switch
    """One instruction of one process; None when it cannot move."""
    memory, semaphores, processes = state
    counter, registers, buffer = processes[who]
    program = programs[who]
    kind, *rest = program.code[counter]
    following = counter + 1
    if kind == "end" or (kind == "fence" and buffer):
        return None
    if kind == "store":
        buffer = (*buffer, (rest[0], rest[1]))
    elif kind == "park":
        registers = (registers[0], registers[1] + 1)
        buffer = (*buffer, (rest[0], registers[1]))
    elif kind == "check":
        if load(memory, buffer, rest[0]) != rest[1]:
            raise Wrong(f"process {who} read {load(memory, buffer, rest[0])} instead of {rest[1]}")
    elif kind == "jump-if":
        if load(memory, buffer, rest[0]) >= rest[1]:
            following = program.labels[rest[2]]
    elif kind == "jump":
        following = program.labels[rest[0]]
    elif kind == "ring?":
        number = load(memory, buffer, rest[0])
        if number == 0 or number == registers[0]:
            following = program.labels[rest[1]]
        else:
            registers = (number, registers[1])
    elif kind == "post":
        semaphores = put(semaphores, rest[0], semaphores[rest[0]] + 1)
    elif kind == "empty":
        semaphores = put(semaphores, rest[0], 0)
    elif kind == "acquire":
        if semaphores[rest[0]] == 0:
            return None
        semaphores = put(semaphores, rest[0], semaphores[rest[0]] - 1)
    return memory, semaphores, put(processes, who, (following, registers, buffer))


def drain(state: State, who: int) -> State | None:
    """The oldest store of a process reaches memory."""
    memory, semaphores, processes = state
    counter, registers, buffer = processes[who]
    if not buffer:
        return None
    (word, value), *left = buffer
    return put(memory, word, value), semaphores, put(processes, who, (counter, registers, tuple(left)))


def explore(programs: list[Program]) -> tuple[int, list[State]]:
    """(states, dead ends that are not the end) over all interleavings."""
    first: State = ((0,) * WORDS, (0, 0), tuple((0, (0, 0), ()) for _ in programs))
    seen, todo, stuck = {first}, deque([first]), []
    while todo:
        state = todo.popleft()
        moves = [step(programs, state, who) for who in range(len(programs))]
        moves += [drain(state, who) for who in range(len(programs))]
        following = [move for move in moves if move is not None]
        if not following:
            ended = all(programs[who].code[process[0]][0] == "end" for who, process in enumerate(state[2]))
            if not ended:
                stuck.append(state)
        for move in following:
            if move not in seen:
                seen.add(move)
                todo.append(move)
    return len(seen), stuck


@pytest.mark.parametrize("early", [False, True])
def test_no_interleaving_loses_a_wake_up_or_shows_a_half_written_frame(early):
    """Every schedule and every drain of the store buffers ends with all rounds answered from whole frames."""
    states, stuck = explore([worker(True, early, False), sidecar(True, early)])
    assert stuck == []
    assert states > 1000


def test_the_model_finds_the_lost_wake_up_without_fences():
    """Both store their flag, both read the other's old word, both sleep for ever: what the fence is for."""
    _, stuck = explore([worker(False, False, False), sidecar(False, False)])
    assert stuck != []


def test_the_model_finds_a_sequence_published_before_its_payload():
    """Announced before it is written, a frame is read half: what the order of stores is for."""
    with pytest.raises(Wrong):
        explore([worker(True, False, True), sidecar(True, False)])


def test_a_sleep_is_posted_for_at_most_once():
    """Early and late ring together post once a sleep: semaphores never count up."""
    programs = [worker(True, True, False), sidecar(True, True)]
    first: State = ((0,) * WORDS, (0, 0), tuple((0, (0, 0), ()) for _ in programs))
    seen, todo, highest = {first}, [first], 0
    while todo:
        state = todo.pop()
        highest = max(highest, *state[1])
        for move in [step(programs, state, who) for who in (0, 1)] + [drain(state, who) for who in (0, 1)]:
            if move is not None and move not in seen:
                seen.add(move)
                todo.append(move)
    assert highest <= ROUNDS + 1
