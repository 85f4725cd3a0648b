"""The measurement itself: all ways do the same work, and what it says adds up."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from tests.support.launching import ROOT
from verl.bench.__main__ import PLAIN, main
from verl.bench.report import print_report
from verl.bench.way import Finished, Row


@pytest.mark.timeout(300)
def test_all_ways_roll_the_same_episodes_out():
    """With a critic that says done at a given step every way ends every episode there; the report has all parts."""
    command = [
        sys.executable,
        "-m",
        "verl.bench",
        "--json",
        "--envs",
        "2",
        "--rounds",
        "1",
        "--repeats",
        "1",
        "--fixed-ms",
        "5",
        "--done-at",
        "10",
        "--ways",
        "ours,plain-our-simulator",
        "env.max_steps=16",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rows = {row["way"]: row for row in report["rows"]}
    assert set(rows) == {"ours", "plain-our-simulator"} and report["ratios"]["plain-our-simulator"] > 0
    for row in rows.values():
        # the default asks for three dones in a row: steps 10 to 12
        assert (row["episodes"], row["done"], row["mean_steps"], row["mean_score"]) == (2, 2, 12, 1.0)
        assert {"reset", "physics", "render"} <= set(row["stage_s"])
        assert all(row["cpu_s"][part] > 0 for part in ("simulators", "critic", "driver"))


def test_a_row_is_all_episodes_over_all_the_time():
    """Repeats of different lengths weigh by their time; seconds are of one episode."""
    row = Row("plain", "text")
    row.minutes, row.rates = [1.0, 3.0], [2.0, 2 / 3]
    row.episodes = [Finished(i, 10 + i, i < 1, 0.5, {"reset": 2.0 * i}) for i in range(4)]
    row.cpu_s = {"simulators": 8.0, "critic": 4.0, "driver": 2.0}
    summary = row.summary()
    assert summary["episodes_per_minute"] == 1.0 and summary["mean_steps"] == 11.5 and summary["done"] == 1
    assert summary["steps_per_second"] == round(46 / 240, 1)
    assert summary["stage_s"] == {"reset": 3.0} and summary["cpu_s"]["simulators"] == 2.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--envs", "0"], "--envs 0"),
        (["--ways", "ours,plain-swift", "--fixed-ms", "30"], "plain-swift"),
        (["data.n_smaples=3"], "data.n_samples"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, capsys):
    """Exit code 2 before anything is started."""
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_the_report_shows_every_way_with_its_text():
    """Rows with different stages share the tables; each way's text is what a reader has to judge it by."""
    rows = []
    for name, variant in PLAIN.items():
        row = Row(name, variant.text, [1.0], [4.0], [Finished(0, 9, True, 1.0, {name: 1.0})])
        rows.append(row.summary())
    shown = Console(record=True, width=200, file=io.StringIO())
    print_report(shown, {"title": "four ways", "rows": rows, "ratios": {"plain": 3.21}})
    text = shown.export_text()
    assert "3.21 x" in text
    for name, variant in PLAIN.items():
        assert name in text and variant.text in text
