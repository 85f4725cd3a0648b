"""The vision side: fused DINOv2 + SigLIP patch features, projected into the decoder's embedding space.

pixels (B, 6 * images, H, W) -+- channels 0:3 of each image -> featurizer (DINOv2) --------+
                              +- channels 3:6              -> fused_featurizer (SigLIP) ---+-> concat -> projector
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import timm
import torch
from timm.layers.layer_scale import LayerScale
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from verl.models.openvla_oft.config import VisionConfig
from verl.models.openvla_oft.errors import ConfigError


class ScaledResidual(nn.Module):
    """LayerScale whose parameter is called ``scale_factor``, as in the published checkpoints (timm: ``gamma``)."""

    def __init__(self, gamma: torch.Tensor) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(gamma.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale_factor


def make_featurizer(
    model_id: str, image_size: int, act_layer: str | None, overrides: dict[str, Any]
) -> VisionTransformer:
    """A timm vision transformer without weights and classifier, its LayerScales renamed."""
    try:
        model = timm.create_model(
            model_id, pretrained=False, num_classes=0, img_size=image_size, act_layer=act_layer, **overrides
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConfigError(f"timm_model_ids: {model_id!r} cannot be built: {error}") from None
    if not isinstance(model, VisionTransformer):
        raise ConfigError(f"timm_model_ids: {model_id!r} is no vision transformer")
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, LayerScale):
                setattr(module, name, ScaledResidual(child.gamma))
    return model


class VisionBackbone(nn.Module):
    """Patch features of the second-to-last layer of one or two vision transformers."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fused = config.fused
        parts = list(zip(config.model_ids, config.image_sizes, config.act_layers, config.overrides))
        self.featurizer = make_featurizer(*parts[0])
        self.embed_dim = self.featurizer.embed_dim
        if config.fused:
            self.fused_featurizer = make_featurizer(*parts[1])
            self.embed_dim += self.fused_featurizer.embed_dim
            counts = (self.featurizer.patch_embed.num_patches, self.fused_featurizer.patch_embed.num_patches)
            if counts[0] != counts[1]:
                raise ConfigError(
                    f"timm_model_ids: the backbones make {counts[0]} and {counts[1]} patches; they must agree"
                )
        self.checkpointing = False
        # What comes after the second-to-last layer is in the files but takes no part: it must not be trained.
        used = {id(p) for p in self.used_parameters()}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in used)

    @property
    def channels(self) -> int:
        """Channels of one image: 3 for each backbone."""
        return 6 if self.fused else 3

    @property
    def num_patches(self) -> int:
        """Patches of one image."""
        patches: int = self.featurizer.patch_embed.num_patches
        return patches

    def featurizers(self) -> list[VisionTransformer]:
        """The backbones, in the order of the input's channels."""
        return [self.featurizer, self.fused_featurizer] if self.fused else [self.featurizer]

    def used_blocks(self) -> list[nn.Module]:
        """The transformer blocks that take part in the forward pass."""
        return [block for model in self.featurizers() for block in list(model.blocks)[:-1]]

    def used_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that take part in the forward pass."""
        for model in self.featurizers():
            for name, parameter in model.named_parameters():
                head, _, rest = name.partition(".")
                last_block = head == "blocks" and int(rest.partition(".")[0]) >= len(model.blocks) - 1
                if not last_block and head not in ("norm", "fc_norm", "attn_pool", "head"):
                    yield parameter

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, images * channels, H, W) normalised pixels to (B, images * patches, embed_dim) features."""
        images = []
        for image in torch.split(pixels, self.channels, dim=1):
            views = torch.split(image, 3, dim=1)
            images.append(torch.cat([self._patches(m, v) for m, v in zip(self.featurizers(), views)], dim=2))
        return torch.cat(images, dim=1)

    def _patches(self, model: VisionTransformer, pixels: torch.Tensor) -> torch.Tensor:
        x = model.patch_embed(pixels.to(model.patch_embed.proj.weight.dtype))
        x = model.norm_pre(model.patch_drop(model._pos_embed(x)))
        for block in list(model.blocks)[:-1]:
            recompute = self.checkpointing and self.training
            x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        patches: torch.Tensor = x[:, model.num_prefix_tokens :]
        return patches


class Projector(nn.Module):
    """Patch features into the decoder's embedding space: three layers after fused backbones, two after one."""

    def __init__(self, fused: bool, vision_dim: int, text_dim: int) -> None:
        super().__init__()
        self.fused = fused
        hidden = 4 * vision_dim if fused else text_dim
        self.fc1 = nn.Linear(vision_dim, hidden)
        self.fc2 = nn.Linear(hidden, text_dim)
        if fused:
            self.fc3 = nn.Linear(text_dim, text_dim)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, vision_dim) to (B, N, text_dim)."""
        x = self.fc2(self.act(self.fc1(x)))
        x = self.fc3(self.act(x)) if self.fused else x
        return x


class ProprioProjector(nn.Module):
    """Normalised proprioception into one embedding that follows the patches."""

    def __init__(self, proprio_dim: int, text_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(proprio_dim, text_dim)
        self.fc2 = nn.Linear(text_dim, text_dim)
        self.act = nn.GELU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, proprio_dim) to (B, text_dim)."""
        projected: torch.Tensor = self.fc2(self.act(self.fc1(x)))
        return projected
