"""Upstream's recordings: a gzipped pickle holding a list of steps, ``step["rgb"][camera]`` a base64-encoded image.

A pickle can run code; these are read with everything refused but plain containers, numbers and numpy arrays.
"""

from __future__ import annotations

import gzip
import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from evo_vlac.errors import DatasetError
from evo_vlac.images import load_image
from evo_vlac.outputs import whole_file

_ALLOWED = {
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("builtins", "complex"),
    ("builtins", "bytearray"),
    ("_codecs", "encode"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}


class _DataOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}, which a recording does not")
        return super().find_class(module, name)


@dataclass(frozen=True, slots=True)
class Recording:
    """The steps of a recording, as they were written."""

    path: Path
    steps: list[dict[str, Any]]

    @property
    def cameras(self) -> list[str]:
        """The cameras of the first step."""
        return list(self.steps[0]["rgb"])

    def images(self, camera: str | None = None, start: int = 0, end: int | None = None) -> list[PILImage.Image]:
        """The images of one camera (the first unless named) from step ``start`` to before ``end``."""
        name = camera or self.cameras[0]
        if name not in self.cameras:
            raise DatasetError(f"{self.path} has no camera {name!r}; there are: {', '.join(self.cameras)}")
        chosen = self.steps[max(0, start) : end]
        return [load_image("data:image/any;base64," + _text(s["rgb"][name])) for s in chosen if name in s["rgb"]]


def read_recording(path: str | Path) -> Recording:
    """Reads a ``.pkl.gz`` recording; DatasetError says what is wrong with it."""
    file = Path(path)
    if not file.is_file():
        raise DatasetError(f"no recording {file}")
    try:
        steps = _DataOnly(io.BytesIO(gzip.decompress(file.read_bytes()))).load()
    except (OSError, EOFError, pickle.UnpicklingError, AttributeError, ValueError, ImportError) as error:
        raise DatasetError(f"{file} is not a recording that can be read: {error}") from error
    if not isinstance(steps, list) or not steps or not all(isinstance(s, dict) for s in steps):
        raise DatasetError(f"{file} holds no list of steps")
    if not isinstance(steps[0].get("rgb"), dict) or not steps[0]["rgb"]:
        raise DatasetError(f"{file}: its steps have no 'rgb' pictures")
    return Recording(file, steps)


def write_recording(path: str | Path, steps: list[dict[str, Any]]) -> Path:
    """Writes steps as a ``.pkl.gz`` recording."""
    with whole_file(path) as partial, gzip.open(partial, "wb") as file:
        pickle.dump(steps, file)
    return Path(path)


def _text(data: Any) -> str:
    return data.decode("ascii") if isinstance(data, bytes) else str(data)
