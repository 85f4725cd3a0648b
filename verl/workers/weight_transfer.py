"""From the learners to the rollout workers, without the driver: each learner sends, each worker takes buckets.

    rank r: its shard -----------> Ray's store (shared memory, once a node) --> the workers without a rank on their card
    rank r: gathered over NCCL --> its card's memory, shared over CUDA IPC ---> the workers on that card

Beside its own weights a process holds :data:`IN_FLIGHT` buckets at most, and one whole tensor where it gathers. The
driver starts a hand-over and waits (:mod:`verl.trainer.ppo.learners`); a worker that dies or takes nothing is reported
to it, the others go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import ray
import torch
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from torch.multiprocessing import reductions

from verl.workers.weight_buckets import IN_FLIGHT, ON_CARD_BYTES, Piece, pack, plan, rows_of, to_bytes, travelling
from verl.workers.weight_receiver import finish
from verl.workers.work import Work

PATIENCE_S = 60.0  # for one bucket, and beside it the time that its bytes take
SLOWEST = 20e6  # bytes a second to one worker
share_tensor: Any = reductions.reduce_tensor  # which has no types


@dataclass(frozen=True, slots=True)
class Receiver:
    """A rollout worker. ``rank``: the learner on its card; None: it takes buckets out of Ray's store."""

    index: int
    actor: Any
    rank: int | None


class WeightSender:
    """Of one rank. :meth:`send` is called on all ranks alike."""

    def __init__(self, policy: nn.Module, dtype: torch.dtype, device: torch.device, rank: int, work: Work) -> None:
        """``dtype``: the rollout's."""
        self.policy, self.dtype, self.device, self.rank, self.work = policy, dtype, device, rank, work

    def send(self, number: int, receivers: Sequence[Receiver], bucket_bytes: int) -> dict[int, str]:
        """Hands this moment's weights over; returns when they are taken.

        Args:
            number: of the hand-over; all ranks have the same.
            bucket_bytes: of a bucket in Ray's store.

        Returns:
            The workers that did not take them, by index, and why.
        """
        goes = travelling(self.policy)
        state = {name: tensor for name, tensor in get_model_state_dict(self.policy).items() if goes(name)}
        stored = [one for one in receivers if one.rank is None]
        beside = [one for one in receivers if one.rank is not None]
        lost: dict[int, str] = {}
        if stored:
            lost |= self._send_shard(number, cast("dict[str, torch.Tensor]", state), stored, bucket_bytes)
        if beside:
            lost |= self._send_whole(number, cast("dict[str, torch.Tensor]", state), beside)
        return lost

    def _send_shard(
        self, number: int, state: dict[str, torch.Tensor], receivers: list[Receiver], bucket_bytes: int
    ) -> dict[int, str]:
        """Through Ray's store: the rows that this rank holds; what is not sharded comes from rank 0."""
        shards: dict[str, tuple[int, torch.Tensor]] = {}
        for name, tensor in state.items():
            if isinstance(tensor, DTensor):
                _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
                shards[name] = (offset[0], tensor.to_local())
            elif self.rank == 0:
                shards[name] = (0, tensor)
        buckets = plan(
            {name: (first, local.shape) for name, (first, local) in shards.items()}, self._elements(bucket_bytes)
        )
        deliveries = Deliveries(receivers, number)
        buffer = self._buffer(buckets, next((local.device for _, local in shards.values()), self.device))
        self.work.expect(len(buckets))
        for pieces in buckets:
            deliveries.make_room()
            flat = pack(pieces, lambda piece: rows_of(shards[piece.name][1], piece, shards[piece.name][0]), buffer)
            deliveries.post(pieces, ray.put(to_bytes(flat)), flat.nbytes)
            self.work.step()
        return deliveries.finish()

    def _send_whole(self, number: int, state: dict[str, torch.Tensor], receivers: list[Receiver]) -> dict[int, str]:
        """Over the card that it shares with workers: a tensor after the other is gathered, also where none is there."""
        buckets = plan({name: (0, tensor.shape) for name, tensor in state.items()}, self._elements(ON_CARD_BYTES))
        deliveries = Deliveries([one for one in receivers if one.rank == self.rank], number)
        buffers = [self._buffer(buckets, self.device) for _ in range(IN_FLIGHT)]
        gathered: tuple[str, torch.Tensor] = ("", buffers[0])

        def read(piece: Piece) -> torch.Tensor:
            nonlocal gathered
            if gathered[0] != piece.name:
                gathered = (piece.name, whole(state[piece.name], self.dtype, self.device))
            return rows_of(gathered[1], piece)

        self.work.expect(len(buckets))
        for turn, pieces in enumerate(buckets):
            deliveries.make_room()  # the workers that were sent this buffer before have read it
            flat = pack(pieces, read, buffers[turn % IN_FLIGHT])
            finish(self.device)
            deliveries.post(pieces, share_tensor(flat)[1], flat.nbytes)
            self.work.step()
        return deliveries.finish()

    def _elements(self, bucket_bytes: int) -> int:
        return max(1, bucket_bytes // self.dtype.itemsize)

    def _buffer(self, buckets: list[list[Piece]], device: torch.device) -> torch.Tensor:
        most = max((sum(piece.elements for piece in pieces) for pieces in buckets), default=0)
        return torch.empty(most, dtype=self.dtype, device=device)


def whole(tensor: torch.Tensor, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A sharded tensor gathered from all ranks on ``device``; what travels between them is ``dtype`` already."""
    if not isinstance(tensor, DTensor):
        return tensor.to(device, dtype)
    local = tensor.to_local().to(device, dtype)  # of an offloaded policy it lies in main memory, NCCL wants the card
    sharded = DTensor.from_local(
        local, tensor.device_mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )
    return sharded.full_tensor()


class Deliveries:
    """Buckets on their way to some workers, at most :data:`IN_FLIGHT` at a time."""

    def __init__(self, receivers: Sequence[Receiver], number: int) -> None:
        self.receivers, self.number = receivers, number
        self.lost: dict[int, str] = {}
        self._open: deque[tuple[int, dict[int, Any]]] = deque()

    def make_room(self) -> None:
        """Until one more bucket may be posted."""
        while len(self._open) >= IN_FLIGHT:
            self._settle(*self._open.popleft())

    def post(self, pieces: list[Piece], payload: Any, size: int) -> None:
        """Sends a bucket of ``size`` bytes to those who are there: a reference to bytes, or a handle for CUDA IPC."""
        there = [one for one in self.receivers if one.index not in self.lost]
        calls = {one.index: one.actor.take_weights.remote(self.number, pieces, payload) for one in there}
        self._open.append((size, calls))

    def finish(self) -> dict[int, str]:
        """Until all is taken; who has not taken it, and why."""
        while self._open:
            self._settle(*self._open.popleft())
        return self.lost

    def _settle(self, size: int, calls: dict[int, Any]) -> None:
        limit = PATIENCE_S + size * len(calls) / SLOWEST
        for index, call in calls.items():
            if index in self.lost:
                continue
            try:
                ray.get(call, timeout=limit)
            except GetTimeoutError:
                self.lost[index] = f"did not take {size / 2**20:.0f} MiB of weights within {limit:.0f} s"
            except (RayActorError, ObjectLostError) as error:
                self.lost[index] = f"died while it took weights ({type(error).__name__})"
