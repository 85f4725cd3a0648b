"""A checkpoint that was not trained for a question says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evo_vlac import queries
from evo_vlac.abilities import FILE, Abilities
from evo_vlac.errors import CheckpointError

IMAGE = np.zeros((8, 8, 3), np.uint8)
SHIPPED = Path(__file__).resolve().parents[2] / "models" / "vlac-tiny"


def test_other_questions_are_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind once; reasoning first counts as a kind of its own; what it knows is asked in silence."""
    abilities = Abilities.of(SHIPPED)
    abilities.tell([queries.done_query(IMAGE, "lift"), queries.critic_query(IMAGE, IMAGE, "lift")])
    assert not caplog.records
    for _ in range(2):
        abilities.tell([queries.vqa_query([IMAGE], "what?"), queries.critic_query(IMAGE, IMAGE, "lift", think=True)])
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and all("not trained for this question" in text for text in told)
    assert "(vqa)" in told[0] and "(think)" in told[1] and "critic, done, task_description" in told[0]


def test_a_checkpoint_that_does_not_say_is_not_spoken_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Published checkpoints have no such file."""
    Abilities.of(tmp_path).tell([queries.vqa_query([IMAGE], "what?")])
    assert not caplog.records


@pytest.mark.parametrize("text", ["{}", "[1]", "nonsense"])
def test_a_file_that_is_no_list_of_names_is_refused(tmp_path: Path, text: str) -> None:
    """With its path."""
    (tmp_path / FILE).write_text(text)
    with pytest.raises(CheckpointError, match=FILE):
        Abilities.of(tmp_path)
