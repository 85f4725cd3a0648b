"""Where the models that this project ships lie: in the checkout, or beside the installed packages."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

DISTRIBUTION = "vlac-rl"
FOLDER = "models"


def model_folder(name: str) -> str:
    """The folder that ``name`` means.

    ``models/NAME`` that does not exist in the working folder is the shipped model of that name, wherever this project
    is installed. Everything else is returned as it is, for the caller to use or to refuse.
    """
    given = Path(name)
    if given.parts[:1] != (FOLDER,) or len(given.parts) != 2 or given.exists():
        return name
    checkout = Path(__file__).parents[1] / given
    return str(checkout) if checkout.is_dir() else _installed(given) or name


def _installed(folder: Path) -> str | None:
    """The wheel puts the models under ``share/`` of the environment; the record of its files says where that is."""
    try:
        files = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return None
    wanted = (*folder.parts, "config.json")
    found = (file for file in files if file.parts[-3:] == wanted)
    return next((str(Path(str(file.locate())).resolve().parent) for file in found), None)
