"""Drawing text in any script: each character in the first installed font that has it.

DejaVu Sans comes with matplotlib and covers Latin, Greek, Cyrillic, Arabic and more; for Chinese, Japanese, Korean and
others the machine's own fonts are searched (Noto, WenQuanYi, PingFang, Microsoft YaHei, ...). ``EVO_VLAC_FONT`` names a
font file to prefer.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

log = logging.getLogger(__name__)

_KNOWN = (
    "noto",
    "wqy",
    "wenquanyi",
    "pingfang",
    "yahei",
    "msyh",
    "hiragino",
    "droid",
    "unifont",
    "arial",
    "freesans",
    "malgun",
    "nanum",
    "sourcehan",
    "simhei",
    "simsun",
    "gothic",
    "lohit",
    "dejavu",
)
_STYLED = ("bold", "italic", "oblique", "condensed", "mono", "serif", "light", "thin", "black")
_ENDS = (".ttf", ".ttc", ".otf")


@dataclass(frozen=True, slots=True)
class _Font:
    path: str
    characters: frozenset[int]


def draw_text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, colour: str = "black") -> float:
    """Draws one line with its top left at ``at`` (px); the width it took, px."""
    x, y = at
    for run, path in _runs(text):
        font = _sized(path, size)
        draw.text((x, y), run, fill=colour, font=font)
        x += font.getlength(run)
    return x - at[0]


def text_width(text: str, size: int) -> float:
    """Width of a line, px."""
    return float(sum(_sized(path, size).getlength(run) for run, path in _runs(text)))


def wrap(text: str, size: int, width: float, lines: int) -> list[str]:
    """Breaks a text into at most ``lines`` lines of ``width`` px, at blanks or, in scripts without them, anywhere."""
    out: list[str] = []
    line = ""
    for word in _words(" ".join(text.split())):
        if text_width(line + word.rstrip(), size) <= width or not line:
            line += word
        else:
            out.append(line.strip())
            line = word
    out.append(line.strip())
    if len(out) <= lines:
        return out
    last = out[lines - 1]
    while last and text_width(last + "\u2026", size) > width:
        last = last[:-1]
    return [*out[: lines - 1], last + "\u2026"]


def _words(text: str) -> list[str]:
    words: list[str] = []
    for character in text:
        wide = ord(character) > 0x2E7F  # from here on scripts are written without blanks
        if not words or words[-1].endswith(" ") or wide or ord(words[-1][-1]) > 0x2E7F or len(words[-1]) > 30:
            words.append(character)
        else:
            words[-1] += character
    return words


def _runs(text: str) -> list[tuple[str, str]]:
    """The text in pieces that one font can draw, with that font's path."""
    runs: list[tuple[str, str]] = []
    for character in text:
        path = _font_for(character)
        if runs and runs[-1][1] == path:
            runs[-1] = (runs[-1][0] + character, path)
        else:
            runs.append((character, path))
    return runs


@lru_cache(maxsize=4096)
def _font_for(character: str) -> str:
    for font in _base_fonts():
        if ord(character) in font.characters or character.isspace():
            return font.path
    for font in _system_fonts():
        if ord(character) in font.characters:
            return font.path
    _warn_missing(character)
    return _base_fonts()[-1].path


@lru_cache(maxsize=1)
def _warn_missing_once() -> None:
    log.warning("no font here shows some characters; install Noto (fonts-noto-cjk) or set EVO_VLAC_FONT to a font file")


def _warn_missing(character: str) -> None:
    log.debug("no font for U+%04X", ord(character))
    _warn_missing_once()


@lru_cache(maxsize=1)
def _base_fonts() -> tuple[_Font, ...]:
    import matplotlib

    paths = [os.environ.get("EVO_VLAC_FONT", ""), str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")]
    return tuple(font for font in (_load(path) for path in paths if path) if font.characters)


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[_Font, ...]:
    """The machine's fonts, known broad and upright ones first."""
    from matplotlib import font_manager

    found = [path for path in font_manager.findSystemFonts() if path.lower().endswith(_ENDS)]
    ranked = sorted(found, key=lambda path: (_rank(Path(path).name.lower()), path))
    return tuple(font for font in map(_load, ranked[:60]) if font.characters)


def _rank(name: str) -> int:
    known = next((i for i, part in enumerate(_KNOWN) if part in name), len(_KNOWN))
    return known + (100 if any(style in name for style in _STYLED) else 0)


def _load(path: str) -> _Font:
    from fontTools.ttLib import TTCollection, TTFont, TTLibError

    try:
        font = TTCollection(path, lazy=True).fonts[0] if path.lower().endswith(".ttc") else TTFont(path, lazy=True)
        return _Font(path, frozenset(font.getBestCmap() or ()))
    except (OSError, TTLibError, KeyError, ValueError, AssertionError) as error:
        log.debug("font %s left out: %s", path, error)
        return _Font(path, frozenset())


@lru_cache(maxsize=64)
def _sized(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
