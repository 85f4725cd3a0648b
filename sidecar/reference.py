"""The reference trajectory that is shown with every pair: a folder of images, in the order of their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from evo_vlac.engine import Image
from evo_vlac.paths import from_home
from evo_vlac.queries import reference_indices
from sidecar.config import ReferenceConfig
from sidecar.errors import ConfigError

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def load_reference(config: ReferenceConfig) -> tuple[Image, ...]:
    """``config.count`` of the folder's images, evenly spread; none where no folder is named. uint8 (H, W, 3)."""
    if config.folder is None:
        return ()
    folder = from_home(config.folder)
    if not folder.is_dir():
        raise ConfigError(f"reference.folder={folder}: no such folder")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in _ENDINGS)
    if not files:
        raise ConfigError(f"reference.folder={folder}: no images in it ({', '.join(_ENDINGS)})")
    return tuple(_read(files[i]) for i in reference_indices(len(files), min(config.count, len(files))))


def _read(file: Path) -> Image:
    try:
        with PILImage.open(file) as picture:
            return np.asarray(picture.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise ConfigError(f"reference.folder: {file} cannot be read as an image ({error})") from None
