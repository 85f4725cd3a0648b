"""Camera frames to the backbones' pixels, by the published ``preprocessor_config.json``.

    (B, cameras, H, W, 3) uint8 -> resize (PIL bicubic, only where the size differs; "rlds": JPEG and Lanczos instead)
        -> [centre crop] -> / 255 -> normalised once per backbone -> (B, cameras * 6, size, size) float32

The centre crop is SimpleVLA-RL's and OpenVLA-OFT's for LIBERO: 90 % of the area, bilinear back to the full size
(``tf.image.crop_and_resize`` with corner-aligned samples), rounded to uint8.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from verl.models.openvla_oft.errors import CheckpointError, ConfigError, InputError
from verl.models.openvla_oft.rlds_frames import as_rlds

CROP_AREA = 0.9
_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
# timm's data configurations of DINOv2 and SigLIP, in the order of the fused backbones.
_PUBLISHED_MEANS = ((0.485, 0.456, 0.406), (0.5, 0.5, 0.5))
_PUBLISHED_STDS = ((0.229, 0.224, 0.225), (0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True)
class ImageProcessor:
    """Size, filter, and the mean and standard deviation for each backbone. ``rlds``: frames go the way that OpenVLA's
    training data went (:mod:`verl.models.openvla_oft.rlds_frames`), which takes the place of the filter."""

    size: int
    interpolation: str = "bicubic"
    means: tuple[tuple[float, ...], ...] = _PUBLISHED_MEANS
    stds: tuple[tuple[float, ...], ...] = _PUBLISHED_STDS
    center_crop: bool = False
    rlds: bool = False

    def __post_init__(self) -> None:
        if self.interpolation not in _FILTERS:
            raise ConfigError(f"interpolations: {self.interpolation!r}, allowed are {sorted(_FILTERS)}")
        if len(self.means) != len(self.stds):
            raise ConfigError(
                f"means and stds: {len(self.means)} and {len(self.stds)} entries, one for each backbone expected"
            )

    @classmethod
    def load(cls, folder: Path, size: int, backbones: int, center_crop: bool, rlds: bool) -> ImageProcessor:
        """Reads ``preprocessor_config.json`` and checks it against the backbones."""
        path = folder / "preprocessor_config.json"
        try:
            raw: dict[str, Any] = json.loads(path.read_text())
        except FileNotFoundError:
            raise CheckpointError(f"{path} is missing") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} is not valid JSON: {error}") from None
        strategy = raw.get("image_resize_strategy")
        if strategy != "resize-naive":
            raise ConfigError(f"image_resize_strategy: {strategy!r}, only 'resize-naive' (OpenVLA's) can be loaded")
        sizes = [tuple(s) for s in raw.get("input_sizes", [])]
        if sizes != [(3, size, size)] * backbones:
            raise ConfigError(
                f"input_sizes: {sizes}, but config.json's image_sizes need {backbones} times (3, {size}, {size})"
            )
        names = raw.get("interpolations") or ["bicubic"] * backbones
        if len(set(names)) != 1:
            raise ConfigError(f"interpolations: {names}; one filter for all backbones expected")
        means, stds = (tuple(tuple(v) for v in raw[key]) for key in ("means", "stds"))
        return cls(size=size, interpolation=names[0], means=means, stds=stds, center_crop=center_crop, rlds=rlds)

    def to_published(self) -> dict[str, Any]:
        """The content of ``preprocessor_config.json``."""
        n = len(self.means)
        return {
            "image_processor_type": "PrismaticImageProcessor",
            "processor_class": "PrismaticProcessor",
            "image_resize_strategy": "resize-naive",
            "use_fused_vision_backbone": n == 2,
            "input_sizes": [[3, self.size, self.size]] * n,
            "interpolations": [self.interpolation] * n,
            "means": [list(m) for m in self.means],
            "stds": [list(s) for s in self.stds],
            "tvf_do_letterbox": False,
            "tvf_letterbox_fill": None,
            "tvf_resize_params": [
                {
                    "antialias": True,
                    "interpolation": int(_FILTERS[self.interpolation]),
                    "max_size": None,
                    "size": [self.size] * 2,
                }
            ]
            * n,
            "tvf_crop_params": [{"output_size": [self.size] * 2}] * n,
            "tvf_normalize_params": [
                {"inplace": False, "mean": list(m), "std": list(s)} for m, s in zip(self.means, self.stds)
            ],
        }

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(B, cameras, H, W, 3) uint8 to (B, cameras * 3 * backbones, size, size) float32 on the images' device."""
        if images.dtype != torch.uint8 or images.ndim != 5 or images.shape[-1] != 3:
            raise InputError(
                f"images: {tuple(images.shape)} {images.dtype}, but (B, cameras, H, W, 3) uint8 is expected"
            )
        batch, cameras = images.shape[:2]
        flat = images.flatten(0, 1)
        if self.rlds:
            flat = as_rlds(flat, self.size)
        elif flat.shape[1:3] != (self.size, self.size):
            flat = self._resized(flat)
        if self.center_crop:
            flat = _center_crop(flat)
        scaled = flat.permute(0, 3, 1, 2).to(torch.float32) / 255
        views = []
        for mean, std in zip(self.means, self.stds):
            shape = (1, 3, 1, 1)
            views.append((scaled - scaled.new_tensor(mean).view(shape)) / scaled.new_tensor(std).view(shape))
        return torch.cat(views, dim=1).reshape(batch, cameras * 3 * len(views), self.size, self.size)

    def _resized(self, images: torch.Tensor) -> torch.Tensor:
        # PIL, not torch: its antialiased filters are the published ones, to the last grey level.
        resample = _FILTERS[self.interpolation]
        small = [
            np.asarray(Image.fromarray(frame).resize((self.size, self.size), resample=resample))
            for frame in images.cpu().numpy()
        ]
        return torch.from_numpy(np.stack(small)).to(images.device)


def _center_crop(images: torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) uint8: the middle ``CROP_AREA`` of each image, resized back bilinearly."""
    x = images.permute(0, 3, 1, 2).to(torch.float32) / 255
    side = math.sqrt(CROP_AREA)
    theta = x.new_tensor([[side, 0.0, 0.0], [0.0, side, 0.0]]).expand(len(x), 2, 3)
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=True)
    cropped = torch.nn.functional.grid_sample(x, grid, mode="bilinear", align_corners=True).clamp(0, 1)
    return (cropped * 255.5).to(torch.uint8).permute(0, 2, 3, 1)
