"""The hand-over of a policy's weights from a learner to a rollout worker on the same card, over CUDA IPC.

Two processes, each with its copy of the policy; buckets are packed, shared and taken by the code of a run
(:mod:`verl.workers.weight_buckets`, :mod:`verl.workers.weight_receiver`), a pipe stands in for Ray's calls. On a CPU
the bytes go through the pipe.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch.multiprocessing import reductions

from verl.gpu_check.policy import rollout_policy
from verl.models.openvla_oft import OpenVLAOFTPolicy
from verl.models.openvla_oft.random_weights import draw_weights
from verl.workers.weight_buckets import IN_FLIGHT, ON_CARD_BYTES, pack, plan, rows_of, to_bytes, travelling
from verl.workers.weight_receiver import WeightReceiver, finish

share: Any = reductions.reduce_tensor  # which has no types
GIB = 2**30
SILENCE_S = 600.0  # the part's own limit is shorter


def weights(device: torch.device, small: bool) -> dict[str, float]:
    """A whole hand-over, the second one; the receiver has the sender's weights after it, which is looked at."""
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=receive, args=(theirs, str(device), small), daemon=True)  # ends with this one
    process.start()
    theirs.close()
    made = rollout_policy(device, small)
    _answer(ours)
    for number in (1, 2):  # the first opens the shared memory
        draw_weights(made, seed=number)
        finish(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        _send(made, number, device, ours)
        seconds = time.perf_counter() - start
    most = torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    ours.send(None)
    if not np.allclose(_answer(ours), fingerprint(made), rtol=1e-3, atol=1e-2):
        raise RuntimeError("the receiver's weights are not the sender's")
    process.join(SILENCE_S)
    size = sum(tensor.nbytes for tensor in _state(made).values())
    return {
        "gib": size / GIB,
        "seconds": seconds,
        "s_per_gib": seconds / (size / GIB),
        "sender_beside_policy_gb": most / 1e9,
    }


def _send(made: OpenVLAOFTPolicy, number: int, device: torch.device, pipe: Connection) -> None:
    """Every bucket, at most :data:`IN_FLIGHT` not taken yet, each from a buffer that nobody reads any more."""
    state = _state(made)
    dtype = next(iter(state.values())).dtype
    buckets = plan({name: (0, tensor.shape) for name, tensor in state.items()}, ON_CARD_BYTES // dtype.itemsize)
    most = max(sum(piece.elements for piece in pieces) for pieces in buckets)
    buffers = [torch.empty(most, dtype=dtype, device=device) for _ in range(IN_FLIGHT)]
    for turn, pieces in enumerate(buckets):
        if turn >= IN_FLIGHT:
            _answer(pipe)
        flat = pack(pieces, lambda piece: rows_of(state[piece.name], piece), buffers[turn % IN_FLIGHT])
        finish(device)
        pipe.send((number, pieces, share(flat)[1] if device.type == "cuda" else to_bytes(flat)))
    for _ in range(min(IN_FLIGHT, len(buckets))):
        _answer(pipe)


def receive(pipe: Connection, place: str, small: bool) -> None:
    """The rollout worker: takes buckets until None comes, then says what it has. What goes wrong is said, too."""
    try:
        _take(pipe, torch.device(place), small)
    except Exception as error:  # noqa: BLE001 (raised in the sender's process)
        pipe.send(error)


def _take(pipe: Connection, device: torch.device, small: bool) -> None:
    made = rollout_policy(device, small)
    taker = WeightReceiver(made, made.projector.fc1.weight.dtype, device)
    pipe.send("ready")
    while (bucket := pipe.recv()) is not None:
        taker.take(*bucket)
        pipe.send("taken")
    taker.check_whole()
    pipe.send(fingerprint(made))


def fingerprint(made: OpenVLAOFTPolicy) -> list[float]:
    """A number a tensor."""
    return [float(tensor.float().sum()) for tensor in _state(made).values()]


def _state(made: OpenVLAOFTPolicy) -> dict[str, torch.Tensor]:
    """What travels."""
    goes = travelling(made)
    return {name: tensor for name, tensor in made.state_dict().items() if goes(name)}


def _answer(pipe: Connection) -> Any:
    """What the receiver says next. Raises what went wrong there."""
    if not pipe.poll(SILENCE_S):
        raise TimeoutError(f"the receiving process said nothing for {SILENCE_S:g} s")
    answer = pipe.recv()
    if isinstance(answer, Exception):
        raise RuntimeError(f"the receiving process: {answer!r}")
    return answer
