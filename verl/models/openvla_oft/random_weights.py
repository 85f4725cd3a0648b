"""The published checkpoints' shape with random weights: for measurements where no checkpoint is at hand.

Nothing of it is learnt: its actions mean nothing, its arithmetic, its memory and its files are the published ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from verl.models.checkpoint_parts import INDEX
from verl.models.openvla_oft import export, lora
from verl.models.openvla_oft.checkpoint import own_rows
from verl.models.openvla_oft.config import PolicyConfig
from verl.models.openvla_oft.images import ImageProcessor
from verl.models.openvla_oft.policy import OpenVLAOFTPolicy
from verl.models.openvla_oft.prompts import Prompts
from verl.models.openvla_oft.tiny import DEFAULT_INSTRUCTIONS, TinySize, make_config, make_tokenizer, unit_stats

PUBLISHED = TinySize(224, 14, hidden=4096, layers=32, heads=32, mlp=11008, vocab=32_000)  # the backbones: timm's own
SMALL = TinySize()
SHARD_BYTES = 2 * 10**9
_SPREAD = 0.02  # as LLaMA's weights are first drawn


def shape_config(size: TinySize, unnorm_key: str, cameras: int = 1) -> PolicyConfig:
    """:data:`PUBLISHED` (7.5 B parameters) or a small one; frames go the published way (:mod:`.rlds_frames`)."""
    more: dict[str, Any] = {"timm_model_overrides": [{}, {}]} if size is PUBLISHED else {}
    stats = {unnorm_key: unit_stats(7, 8)}
    return make_config(
        size, stats, 0, cameras, **more, torch_dtype="bfloat16", gripper_convention="rlds", frame_convention="rlds"
    )


def on_meta(config: PolicyConfig, size: TinySize, folder: Path) -> OpenVLAOFTPolicy:
    """The policy with parameters on the meta device; its tokenizer is written to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    export.save_tokenizer(make_tokenizer(size.vocab, DEFAULT_INSTRUCTIONS), folder)
    prompts = Prompts(folder, config.llama().vocab_size)
    with torch.device("meta"):
        return OpenVLAOFTPolicy(config, ImageProcessor(size.image, rlds=True), prompts)


class Draw:
    """Random values, quick for billions of them: matrices are cut from one supply of N(0, 0.02), whose odd length keeps
    their rows apart; scales are 1, biases 0."""

    def __init__(self, seed: int = 0, device: torch.device | str = "cpu", count: int = 2**24 + 1_009) -> None:
        generator = torch.Generator(device).manual_seed(seed)
        self.supply = torch.empty(count, dtype=torch.bfloat16, device=device)
        self.supply.normal_(0.0, _SPREAD, generator=generator)
        self.at = 0

    @torch.no_grad()
    def fill(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """Fills ``tensor``, the parameter ``name``, in place."""
        if tensor.ndim < 2:
            return tensor.fill_(0.0 if name.endswith("bias") else 1.0)
        flat, done = tensor.view(-1), 0
        while done < len(flat):
            part = self.supply[self.at : self.at + len(flat) - done]
            flat[done : done + len(part)].copy_(part)
            done, self.at = done + len(part), (self.at + len(part)) % len(self.supply)
        return tensor


@torch.no_grad()
def draw_weights(policy: OpenVLAOFTPolicy, seed: int = 0) -> None:
    """Values for a policy whose memory is allocated, with adapters or without, of a sharded one for this rank's rows:
    in the place of :meth:`~verl.models.openvla_oft.OpenVLAOFTPolicy.read_weights`."""
    draw = Draw(seed, policy.device)
    for name, tensor in policy.state_dict(keep_vars=True).items():
        draw.fill(name, own_rows(tensor)[0])
    lora.restore_scaling(policy)
    policy.make_buffers()


def write_checkpoint(
    folder: Path, size: TinySize, unnorm_key: str, seed: int = 0, shard_bytes: int = SHARD_BYTES
) -> int:
    """Writes a checkpoint in bfloat16, a shard at a time: no more than one of them is ever in memory.

    Returns:
        Bytes of its tensors.
    """
    config = shape_config(size, unnorm_key)
    policy = on_meta(config, size, folder)
    export.save(config, policy.processor, policy.prompts.tokenizer, {}, folder)
    (folder / "model.safetensors").unlink(missing_ok=True)  # of no tensors
    state = policy.state_dict()
    shards = list(_shards(state, shard_bytes))
    draw, place, total = Draw(seed), {}, 0
    for number, names in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        drawn = {n: draw.fill(n, torch.empty(state[n].shape, dtype=torch.bfloat16)) for n in names}
        save_file(drawn, folder / file, metadata={"format": "pt"})
        place.update(dict.fromkeys(names, file))
        total += sum(tensor.nbytes for tensor in drawn.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": place}, indent=2))
    return total


def _shards(state: dict[str, torch.Tensor], most: int) -> Iterator[list[str]]:
    """Names in groups of at most ``most`` bytes of bfloat16, though never of less than a tensor."""
    names: list[str] = []
    room = most
    for name, tensor in state.items():
        size = 2 * tensor.numel()
        if names and size > room:
            yield names
            names, room = [], most
        names.append(name)
        room -= size
    yield names
