"""Screening finds what is bad and says why; its report is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evo_vlac.critic import Critic
from evo_vlac.datasets import Trajectory
from evo_vlac.errors import OptionError
from evo_vlac.evaluation import Row, ScreenOptions, Thresholds, screen, write_html
from evo_vlac.evaluation.screening import ranked, table
from evo_vlac.evaluation.screening_report import picture
from tests.evo_vlac.conftest import TASK, ChosenEngine


def trajectory(name: str, levels: list[int]) -> Trajectory:
    """Frames whose brightness is the progress, 0 to 100."""
    return Trajectory(name, TASK, [np.full((12, 12, 3), level, np.uint8) for level in levels])


def level(query: Any) -> list[int]:
    return [int(np.asarray(image)[0, 0, 0]) for image in query.images]


def reply(query: Any) -> str:
    """A critic that sees the brightness."""
    seen = level(query)
    if query.kind == "done":
        return "1" if seen[0] >= 95 else "0"
    before, after = seen[-2:]
    return f"{round(max(-99, min(100, 100 * (after - before) / max(1, 100 - before)))):+d}"


GOOD = trajectory("good", list(range(0, 101, 5)))
REVERSED = trajectory("reversed", list(range(100, -1, -5)))
FAILED = trajectory("failed", [*range(0, 60, 5), *([60] * 9)])
HESITANT = trajectory("hesitant", [0, 20, 40, 30, 50, 70, 60, 80, 90, 100, 100])


def rows(options: ScreenOptions | None = None) -> dict[str, Row]:
    critic = Critic(ChosenEngine(reply))
    found = screen(critic, [GOOD, REVERSED, FAILED, HESITANT], options or ScreenOptions(skip=1, mode=True))
    return {row.name: row for _, row in found}


def test_good_ones_are_kept_and_bad_ones_dropped_with_reasons() -> None:
    """Reversed by order, failed by its end."""
    found = rows()
    assert {name for name, row in found.items() if row.keep} == {"good", "hesitant"}
    assert any("VOC" in reason for reason in found["reversed"].reasons)
    assert found["failed"].reasons == ("done 0.00 under 0.5",)
    assert found["good"].voc == 1.0 and found["good"].vroc == 1.0 and found["good"].voc_f1 == 1.0


def test_steps_with_a_negative_critic_are_masked() -> None:
    """A flag per step; where pairs are wide, every step of the pair."""
    mask = rows()["hesitant"].mask
    assert len(mask) == 10 and [i for i, keep in enumerate(mask) if not keep] == [2, 5]
    wide = rows(ScreenOptions(skip=2, mode=True))["reversed"]
    assert wide.mask == (False,) * 20


def test_the_table_is_ranked() -> None:
    """Kept ones first, best first; as many rows as trajectories, ready for JSON."""
    ordered = ranked(rows().values())
    assert [row.name for row in ordered][:2] == ["good", "hesitant"] and ordered[-1].name == "reversed"
    listed = table(ordered)
    assert [row["rank"] for row in listed] == [1, 2, 3, 4] and listed[1]["masked_steps"] == 2


OFF = dict.fromkeys(("min_voc", "min_vroc", "min_f1", "max_nr", "min_value", "min_done"))


@pytest.mark.parametrize(
    ("bound", "kept"),
    [
        ({}, {"good", "hesitant", "failed", "reversed"}),
        ({"min_voc": 0.9}, {"good", "hesitant", "failed"}),
        ({"min_vroc": 0.97}, {"good", "hesitant"}),
        ({"min_f1": 0.98}, {"good"}),
        ({"max_nr": 0.1}, {"good", "failed"}),
        ({"min_value": 70}, {"good", "hesitant"}),
        ({"min_done": 0.5}, {"good", "hesitant"}),
    ],
)
def test_each_bound_filters(bound: dict[str, float], kept: set[str]) -> None:
    """Every threshold alone, and none."""
    found = rows(ScreenOptions(skip=1, mode=True, thresholds=Thresholds(**{**OFF, **bound})))
    assert {name for name, row in found.items() if row.keep} == kept


def test_what_is_not_asked_is_not_known() -> None:
    """Without reverse there is no VROC, without a tail no done; neither drops anything."""
    found = rows(ScreenOptions(skip=1, reverse=False, tail=0, mode=True))["failed"]
    assert found.vroc is None and found.voc_f1 is None and found.done is None and found.keep


def test_unreadable_answers_are_counted() -> None:
    """A critic that says nothing readable: order 0, dropped, and said how often."""
    critic = Critic(ChosenEngine(lambda _: "hm"))
    _, row = next(iter(screen(critic, [GOOD], ScreenOptions(skip=5))))
    assert row.invalid == 11 and row.done is None and row.voc == 0 and not row.keep and all(row.mask)


def test_the_report_holds_everything(tmp_path: Path) -> None:
    """A line and a picture for each, names escaped, nothing loaded from elsewhere."""
    evil = trajectory("<b>evil</b>", [0, 50, 100])
    critic = Critic(ChosenEngine(reply))
    found = [(t, row) for t, row in screen(critic, [GOOD, evil], ScreenOptions(skip=1))]
    pictures = {row.name: picture(t, row) for t, row in found}
    text = write_html(tmp_path / "r.html", ranked(row for _, row in found), pictures).read_text()
    assert text.count("<figure") == 2 and text.count("data:image/png;base64,") == 2
    assert "<b>evil" not in text and "&lt;b&gt;evil" in text and "http" not in text
    assert "<figure" not in write_html(tmp_path / "n.html", [row for _, row in found], {}).read_text()


def test_bad_options_are_named() -> None:
    """A skip of 0, a negative tail."""
    with pytest.raises(OptionError, match="skip is 0"):
        ScreenOptions(skip=0)
    with pytest.raises(OptionError, match="tail is -1"):
        ScreenOptions(tail=-1)
