"""The shapes that memory follows, a policy's and a critic's: of a checkpoint's config.json, or as published.

No weights are read. A policy is built on the meta device; a critic's parameters are counted by its layers' sizes.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from evo_vlac.model_shape import VLAC_2B, ModelShape
from evo_vlac.paths import from_home
from verl.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True)
class Tower:
    """A vision transformer. ``blocks``: those that take part; ``tokens``: of one image, with registers."""

    width: int
    mlp: int
    blocks: int
    tokens: int


@dataclasses.dataclass(frozen=True, slots=True)
class PolicyShape:
    """Numbers of an OpenVLA-OFT policy.

    Attributes:
        parameters: of all tensors.
        trained: of those that take part in the forward pass: what is trained where all weights are.
        adapter_width: inputs and outputs of all layers that get an adapter: a LoRA of rank r has r times as many.
        blocks: parameters of each transformer block, which FSDP gathers one by one; the others are its root group.
        largest_tensor: elements.
        hidden, mlp, layers: of the decoder.
        vision_width: of the features that the projector takes.
        patches: of one image, as the decoder sees it.
        image_size: pixels of a side, of the pictures that the towers take.
        action_tokens, bins: of a chunk; of each token's distribution.
    """

    parameters: int
    trained: int
    adapter_width: int
    blocks: tuple[int, ...]
    largest_tensor: int
    hidden: int
    mlp: int
    layers: int
    towers: tuple[Tower, ...]
    vision_width: int
    patches: int
    images: int
    image_size: int
    action_tokens: int
    bins: int

    @property
    def root(self) -> int:
        """Parameters outside of the blocks."""
        return self.parameters - sum(self.blocks)


def policy_shape(
    folder: str | Path | None, num_images_in_input: int | None = None, use_proprio: bool | None = None
) -> PolicyShape:
    """Of the checkpoint in ``folder``; None: OpenVLA-OFT 7.5B as published. The others as in the configuration.

    Raises:
        CheckpointError, ConfigError: ``folder`` has no usable config.json.
    """
    from verl.models.checkpoint_parts import find_parts
    from verl.models.openvla_oft.config import PolicyConfig
    from verl.models.openvla_oft.random_weights import PUBLISHED, shape_config

    given = {"num_images_in_input": num_images_in_input, "use_proprio": use_proprio}
    known: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if folder is None:
        published = shape_config(PUBLISHED, "published")
        return shape_of(dataclasses.replace(published, proprio_dim=8, **known))
    return shape_of(PolicyConfig.load(find_parts(from_home(folder)).config.parent, **known))


def shape_of(config: Any) -> PolicyShape:
    """Of a ``PolicyConfig``: its parts are built without memory for their weights."""
    import torch
    from torch import nn

    from verl.models.openvla_oft.decoder import make_decoder
    from verl.models.openvla_oft.lora import adapted_layers
    from verl.models.openvla_oft.vision import Projector, ProprioProjector, VisionBackbone

    llama = config.llama()
    with torch.device("meta"):
        vision, decoder = VisionBackbone(config.vision), make_decoder(llama, "sdpa")
        parts: dict[str, nn.Module] = {
            "vision_backbone": vision,
            "projector": Projector(config.vision.fused, vision.embed_dim, llama.hidden_size),
            "language_model": decoder,
        }
        if config.use_proprio:
            parts["proprio_projector"] = ProprioProjector(config.proprio_dim, llama.hidden_size)
    whole = nn.ModuleDict(parts)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in whole.parameters()]
    blocks = [*vision.used_blocks(), *decoder.model.layers]
    return PolicyShape(
        parameters=sum(size for size, _ in sizes),
        trained=sum(size for size, trained in sizes if trained),
        adapter_width=sum(one.in_features + one.out_features for one in adapted_layers(whole).values()),
        blocks=tuple(sum(parameter.numel() for parameter in block.parameters()) for block in blocks),
        largest_tensor=max(size for size, _ in sizes),
        hidden=llama.hidden_size,
        mlp=llama.intermediate_size,
        layers=llama.num_hidden_layers,
        towers=tuple(_tower(model) for model in vision.featurizers()),
        vision_width=vision.embed_dim,
        patches=vision.num_patches,
        images=config.num_images_in_input,
        image_size=config.vision.image_sizes[0],
        action_tokens=config.action_tokens,
        bins=config.n_action_bins,
    )


def _tower(model: Any) -> Tower:
    blocks = list(model.blocks)
    tokens = model.patch_embed.num_patches + model.num_prefix_tokens
    return Tower(model.embed_dim, blocks[0].mlp.fc1.out_features, len(blocks) - 1, tokens)


def critic_shape(folder: str | Path | None) -> ModelShape:
    """Of the checkpoint in ``folder``, published or converted; None, or a folder without config.json: VLAC-2B.

    Raises:
        ConfigError: its config.json is broken, or another model's.
    """
    path = None if folder is None else from_home(folder) / "config.json"
    if path is None or not path.is_file():
        return VLAC_2B
    try:
        return ModelShape.of(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        key = f"critic.sidecar.config.model={folder}"
        raise ConfigError(f"{key}: its config.json is not that of an InternVL model ({error!r})") from None
