"""The injector's own rules: what its verdict sees, that every fault has a promise, that the page lists each once."""

from __future__ import annotations

import dataclasses
import re

import pytest

from tests.faults.judge import Facts, cause, judge
from tests.faults.outage import Outage, problems
from tests.faults.promises import EndsWithin, Exact, Refused
from tests.faults.registry import choose, load
from tests.faults.report import BEGIN, DOC, END, markdown, write_table
from tests.faults.worker import KEPT, Outcome

TOTAL = 8
ROW = {"seed": 3, "task": 0, "group": 0, "steps": 12, "complete": True, "score": 1.0, "invalid": 0}
ROWS = [{"episode": number, **ROW} for number in range(TOTAL)]
EXPECTED = {row["episode"]: row for row in ROWS}
GOOD = Facts(0, 20.0, "run x\nready\n", list(ROWS), EXPECTED, TOTAL)
ENDED = dataclasses.replace(GOOD, code=1, screen="ready\nerror: a learner died\n  go on with ...", rows=ROWS[:3])
REFUSED = dataclasses.replace(GOOD, code=2, screen="error: run_id=x is held by process 7", rows=[])
ENDS = EndsWithin(30, "learner")


def row(episode, **changes):
    return {"episode": episode, **ROW, **changes}


def test_a_kept_promise_has_no_problem():
    """Each class, when all is as promised."""
    assert judge(Exact(), GOOD) == []
    assert judge(ENDS, ENDED) == []
    assert judge(Refused("held by process"), REFUSED) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"code": None}, "still running"),
        ({"code": 1}, "exit code 1"),
        ({"seconds": 181.0}, "took 181 s"),
        ({"rows": ROWS[:-1]}, "7 of 8 episodes"),
        ({"rows": [*ROWS, ROWS[0]]}, "duplicate episode(s): 0"),
        ({"rows": [*ROWS[1:], row(0, score=0.0, complete=False)]}, "score 0.0, not 1.0"),
        ({"rows": [*ROWS[1:], row(0, steps=13)]}, "steps 13, not 12"),
        ({"rows": [*ROWS[1:], row(0, seed=4)]}, "seed 4, not 3"),
        ({"rows": [*ROWS, row(99)]}, "nobody asked for: 99"),
        ({"rows": [*ROWS, {"broken": "{"}]}, "no JSON"),
        ({"processes": ["7 raylet"]}, "process(es) left: 7 raylet"),
        ({"shm": ["vlac:x:control"]}, "left in /dev/shm: vlac:x:control"),
        ({"sessions": ["session_2026"]}, "session_2026"),
        ({"screen": "Traceback (most recent call last):"}, "traceback"),
        ({"notes": ["the fault did not happen"]}, "the fault did not happen"),
    ],
)
def test_everything_that_is_wrong_is_named(changes, words):
    """One thing wrong in a run that was to be exact: it, and nothing else, is a problem."""
    (problem,) = judge(Exact(), dataclasses.replace(GOOD, **changes))
    assert words in problem


def test_rewards_that_are_wrong_in_both_runs_are_wrong():
    """The undisturbed run is no excuse: its critic says done in every episode."""
    wrong = [row(number, score=0.5) for number in range(TOTAL)]
    facts = dataclasses.replace(GOOD, rows=wrong, expected={one["episode"]: one for one in wrong})
    assert any("score 0.5, not 1.0" in problem for problem in judge(Exact(), facts))


def test_dropped_episodes_may_be_missing_and_no_more():
    facts = dataclasses.replace(GOOD, rows=ROWS[:5])
    assert judge(Exact(may_drop=3), facts) == []
    assert len(judge(Exact(may_drop=2), facts)) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"code": 0}, "exit code 0, not 1"),
        ({"seconds": 31.0}, "took 31 s"),
        ({"screen": "ready\n"}, "no line 'error: ...'"),
        ({"screen": "the learner is ready\nerror: Get timed out"}, "is not named in: error: Get timed out"),
        ({"rows": [row(0, score=0.0)]}, "score 0.0"),
    ],
)
def test_an_end_is_in_time_and_names_its_cause(changes, words):
    (problem,) = judge(ENDS, dataclasses.replace(ENDED, **changes))
    assert words in problem


def test_a_kill_may_tear_the_last_line_alone():
    """In a run that ends; one that goes on leaves whole lines."""
    torn = {"broken": '{"episode": 3, "sc'}
    assert judge(ENDS, dataclasses.replace(ENDED, rows=[*ROWS[:3], torn])) == []
    assert len(judge(ENDS, dataclasses.replace(ENDED, rows=[torn, *ROWS[:3]]))) == 1


def test_where_nobody_is_left_nobody_must_speak():
    """Launcher and driver are dead: no words are asked for, an empty machine is."""
    promise = EndsWithin(30, "", codes=(-9,), nobody_left=True)
    facts = dataclasses.replace(ENDED, code=-9, screen="")
    assert judge(promise, facts) == []
    assert len(judge(promise, dataclasses.replace(facts, processes=["7 sidecar"]))) == 1


def test_a_refusal_has_its_code_and_its_words():
    assert len(judge(Refused("held"), dataclasses.replace(REFUSED, code=1))) == 1
    assert len(judge(Refused("nothing like it"), REFUSED)) == 1


def test_the_cause_begins_at_its_line():
    assert cause("learner\n error: one\n two") == " error: one\n two"
    assert cause("\ninterrupted: everything was stopped").startswith("interrupted")
    assert cause("an error: in the middle") == ""


def test_the_registry_holds_forty_faults_with_a_promise_each():
    """Of one of the three classes; names are fit for a command line."""
    faults = load()
    assert len(faults) >= 40
    for name, fault in faults.items():
        assert name == fault.name and re.fullmatch(r"[a-z0-9-]+", name) and fault.what
        assert isinstance(fault.promise, (Exact, EndsWithin, Refused))
    assert {type(fault.promise) for fault in faults.values()} == {Exact, EndsWithin, Refused}


def test_a_wrong_name_is_told():
    assert {fault.name for fault in choose(["kill-*"])} < set(load())
    with pytest.raises(ValueError, match="kil-env"):
        choose(["kil-env"])


def test_the_page_lists_each_fault_once():
    """The table of docs/training.md is between its marks, with a row for every fault and its promise."""
    table = DOC.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \| (.+) \| (.+) \| (.*) \|$", table, re.MULTILINE)
    assert [name for name, *_ in rows] == list(load())
    for name, _, promise, _, _ in rows:
        assert promise == load()[name].promise.text, name


def test_the_table_is_written_between_the_marks(tmp_path):
    """What stands before and after stays; a fault that was not run says so."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    faults = choose(["kill-env", "head"])
    write_table(faults, [Outcome("kill-env", "exact", "", KEPT, 12.4)], page)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| kept | 12 |" in text and "| not run |  |" in text
    assert markdown(faults, []).count("\n") == 3
    (tmp_path / "without.md").write_text("no marks\n")
    with pytest.raises(ValueError, match="once each"):
        write_table(faults, [], tmp_path / "without.md")


def test_an_outage_that_did_not_happen_is_no_proof():
    """Equal digests count only when batches failed, in the last one those of a value list."""
    same = {1: (10, "ab")}
    real = [Outage("in a rollout", 3, 0), Outage("while a value list is open", 4, 2)]
    assert problems(same, dict(same), real) == []
    assert problems(same, {1: (10, "cd")}, real) and problems(same, {}, real) and problems({}, {}, real)
    assert problems(same, dict(same), [Outage("in a rollout", 0, 0)])
    assert problems(same, dict(same), [Outage("while a value list is open", 4, 0)])
