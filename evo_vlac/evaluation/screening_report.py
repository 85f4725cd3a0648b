"""The screening as one HTML file with pictures; nothing to load from elsewhere."""

from __future__ import annotations

import base64
import html
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from evo_vlac.datasets import Skipped, Trajectory
from evo_vlac.evaluation.screening import Row
from evo_vlac.outputs import write_text
from evo_vlac.video import Annotation, Series, summary_picture

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1280px; color: #222; padding: 0 1em }
table { border-collapse: collapse; width: 100% } th, td { padding: .3em .6em; text-align: right }
th:nth-child(2), td:nth-child(2), th:nth-child(3), td:nth-child(3), td:last-child, th:last-child { text-align: left }
tr:nth-child(even) { background: #f5f6f7 } .no td { color: #a33 } th { border-bottom: 2px solid #888 }
figure { margin: 2em 0; border: 1px solid #ddd; padding: 1em; border-radius: 6px } img { max-width: 100% }
.tag { padding: 0 .5em; border-radius: 4px; color: white; background: #2e8b57 } .no.tag { background: #c0392b }
"""

_NUMBERS = ("VOC", "VROC", "F1", "NR", "value", "done", "masked", "unreadable")
_COLUMNS = ("#", "trajectory", "task", "frames", *_NUMBERS, "verdict")

_LEGEND = (
    "<p>VOC: rank correlation of the values with time, -1 to 1; 1 is steady progress. VROC: the same with each pair "
    "shown in reverse; a good critic says the same of both. F1: the harmonic mean of VOC and VROC. NR: the share of "
    "steps that go back, 0 to 1. value: how much is done at the last frame. done: the highest probability of done of "
    "the last frames (?: no answer can be read). -: nothing was judged. masked: steps that a negative critic spans. "
    "unreadable: answers that count as nothing.</p><p>In the pictures the value is green where it rises and orange "
    "where it falls. A bar is a critic's answer, blue for progress, red for a step back; a cross cannot be read.</p>"
)


def picture(trajectory: Trajectory, row: Row) -> bytes:
    """A PNG of the trajectory with its curves."""
    values, critics = Series(row.scored, row.values), Series(row.scored[1:], row.critics)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        summary_picture(path, list(trajectory.frames), Annotation(task=row.task, values=values, critics=critics))
        return path.read_bytes()


def write_html(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    pictures: Mapping[str, bytes],
    title: str = "Screening",
    skipped: Sequence[Skipped] = (),
) -> Path:
    """Writes the report: a table in the order of ``rows``, what was ``skipped`` (it cannot be read), and a picture (PNG
    by name) of each trajectory."""
    kept = sum(row.keep for row in rows)
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    body = "".join(_line(rank, row) for rank, row in enumerate(rows, 1))
    broken = "".join(f"<li>{html.escape(one.name)}: {html.escape(one.reason)}</li>" for one in skipped)
    missing = f"<p>{len(skipped)} cannot be read and are left out:</p><ul>{broken}</ul>" if skipped else ""
    figures = "".join(_figure(row, pictures[row.name]) for row in rows if row.name in pictures)
    text = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1><p>{kept} of {len(rows)} trajectories kept.</p>"
        f"{_LEGEND}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{missing}{figures}</html>\n"
    )
    return write_text(path, text)


def _line(rank: int, row: Row) -> str:
    name = html.escape(row.name)
    cells = [
        str(rank),
        f'<a href="#{name}">{name}</a>',
        html.escape(row.task),
        str(row.frames),
        *(_number(v) if row.judged else "-" for v in (row.voc, row.vroc, row.voc_f1, row.negative_rate)),
        f"{row.value:.0f} %" if row.judged else "-",
        _number(row.done) or ("?" if row.tail else ""),
        str(row.mask.count(False)),
        str(row.invalid),
        "keep" if row.keep else "drop: " + html.escape("; ".join(row.reasons)),
    ]
    return f'<tr class="{"yes" if row.keep else "no"}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _figure(row: Row, png: bytes) -> str:
    name = html.escape(row.name)
    tag = '<span class="tag">keep</span>' if row.keep else '<span class="no tag">drop</span>'
    reasons = html.escape("; ".join(row.reasons))
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure id="{name}"><figcaption><b>{name}</b> {tag} {reasons}</figcaption>'
        f'<img alt="{name}" src="data:image/png;base64,{data}"></figure>'
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
