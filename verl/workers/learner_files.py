"""A learner's part of a checkpoint: copied at once, written in the background, read back by any number of ranks.

``policy/`` is the published layout with adapters merged, written by rank 0. ``learner/`` is a distributed checkpoint,
each rank writes its own shard: the optimizer and, with adapters, the tensors that are trained (the published layout has
lost them, the others are in ``model.path``).
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save

from verl.config import ModelConfig
from verl.models.openvla_oft import OpenVLAOFTPolicy

FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


class LearnerFiles:
    """Of one rank. Made, and its methods called, on all ranks alike; but :meth:`written`, by any thread at any time."""

    def __init__(
        self, policy: OpenVLAOFTPolicy, optimizer: torch.optim.Optimizer, model: ModelConfig, rank: int, copies: bool
    ) -> None:
        """``copies``: what is gathered from the ranks is a copy already, and the next update does not change it."""
        self.policy, self.optimizer, self.model, self.rank, self.copies = policy, optimizer, model, rank, copies
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: list[Future[Any]] = []
        self._group = dist.new_group(backend="gloo")  # checkpoints are written beside updates, and from main memory

    def weights(self) -> dict[str, torch.Tensor] | None:
        """The whole policy on the CPU, from rank 0; None from the others. Adapters come merged."""
        state = self._whole()
        return state if self.rank == 0 else None

    def _whole(self) -> dict[str, torch.Tensor]:
        return cast("dict[str, torch.Tensor]", get_model_state_dict(self.policy, options=FULL))

    def save(self, folder: str, updates: int) -> None:
        """Copies the state, then writes it below ``folder`` in the background; :meth:`written` tells its end."""
        model = self._whole()
        shards = async_save(self._shards(updates), checkpoint_id=Path(folder, "learner"), process_group=self._group)
        assert isinstance(shards, Future)
        self._writing = [shards]
        if self.rank == 0:
            if not self.copies:
                model = {name: tensor.detach().clone() for name, tensor in model.items()}
            source, target, inputs = self.model.path, Path(folder, "policy"), self.policy.config.inputs
            self._writing.append(self._writer.submit(OpenVLAOFTPolicy.save_state, source, model, target, inputs))

    def _shards(self, updates: int) -> dict[str, Any]:
        """This rank's part of what :meth:`save` writes and :meth:`load` reads."""
        state = {"optimizer": get_optimizer_state_dict(self.policy, self.optimizer), "updates": updates}
        if self.model.lora_rank > 0:
            trained = {name for name, p in self.policy.named_parameters() if p.requires_grad}
            model = get_model_state_dict(self.policy)
            state["trained"] = {name: tensor for name, tensor in model.items() if name in trained}
        return state

    def written(self) -> bool:
        """Whether what :meth:`save` began is complete on this rank. Raises what went wrong with it."""
        if not all(writing.done() for writing in self._writing):
            return False
        for writing in self._writing:
            writing.result()
        return True

    def load(self, folder: str) -> int:
        """Back to what :meth:`save` wrote, also with another number of ranks; the number of updates by then."""
        saved = self._shards(0)
        load(saved, checkpoint_id=Path(folder, "learner"), process_group=self._group)
        if "trained" in saved:
            set_model_state_dict(self.policy, saved["trained"], options=StateDictOptions(strict=False))
        else:
            self.policy.read_weights(Path(folder) / "policy")
        set_optimizer_state_dict(self.policy, self.optimizer, saved["optimizer"])
        return int(saved["updates"])
