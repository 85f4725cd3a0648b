"""What the injector puts in others' place: the remote critic, the faulty environment, the switch of the engine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from evo_vlac.engine import Query
from evo_vlac.parsing import parse_done
from sidecar.config import OpenaiConfig
from sidecar.engines.openai import OpenaiEngine
from tests.faults.fake_openai import DONE_AT, REPLIES, FakeServer
from tests.faults.fenv import FaultEnv, write_fault
from tests.faults.outage import Engine
from tests.support.launching import ROOT

SIZE = 32


@pytest.fixture
def server():
    with FakeServer() as one:
        yield one


@pytest.fixture
def engine(server):
    config = OpenaiConfig(url=server.url, image_size=0, timeout_s=1, retries=0)
    one = OpenaiEngine(config, sleep=lambda _: None)
    yield one
    one.close()


def picture(step):
    """What the critic sees of the faulty environment after ``step`` steps."""
    env = FaultEnv({"max_steps": 24})
    env.reset(1)
    for _ in range(step):
        env.step(np.zeros(7))
    out = np.zeros((SIZE, SIZE, 3), np.uint8)
    env.render("agentview", out)
    return out


def done_query(step):
    return Query("done", "<image>done?", (picture(step),), "", 1, choices=("0", "1"), top_logprobs=2)


@pytest.mark.parametrize("step", [0, 1, DONE_AT - 1, DONE_AT, 23])
@pytest.mark.parametrize("turned", [(), (0,), (0, 1)])
def test_the_remote_critic_answers_by_the_picture(engine, step, turned):
    """Done from the same step on as the fixed engine, whichever way up: a run with either is the same."""
    query = done_query(step)
    (answer,) = engine.answer([query.with_(images=(np.flip(query.images[0], turned),))])
    result = parse_done(answer, 0.9)
    assert result.valid and result.done == (step >= DONE_AT)


@pytest.mark.parametrize("mode", ["401", "500", "login", "null", "cut", "drop", "hang"])
def test_an_outage_of_it_is_an_error_and_it_comes_back(server, engine, mode):
    server.mode = mode
    (answer,) = engine.answer([done_query(DONE_AT)])
    assert answer.error and server.refused == 1
    server.mode = "ok"
    (answer,) = engine.answer([done_query(DONE_AT)])
    assert answer.error is None and answer.text == "1"


def test_the_poisoned_question_alone_is_refused(server, engine):
    """The first picture seen is never answered again, others are."""
    server.mode = "poison"
    answers = [engine.answer([done_query(step)])[0] for step in (3, 4, 3, 5)]
    assert [bool(answer.error) for answer in answers] == [True, False, True, False]


def test_every_reply_is_one_that_a_server_can_send():
    assert all(200 <= code < 600 and isinstance(body, bytes) for code, body in REPLIES.values())


def test_a_fault_happens_once_and_not_in_the_warm_up(tmp_path):
    """The file is taken by one reset; the first reset of a process takes none."""
    env = FaultEnv({"max_steps": 24, "faults": str(tmp_path)})
    write_fault(tmp_path, "raise_reset")
    env.reset(0)
    with pytest.raises(RuntimeError, match="reset failed"):
        env.reset(1)
    env.reset(1)
    write_fault(tmp_path, "nan", 0)
    for _ in range(2):
        env.reset(2)
        assert np.isnan(env.proprio()[0])


BATCHES = """
import sys, time
from types import SimpleNamespace
from sidecar.engines.direct import DirectEngine
done, pair = [SimpleNamespace(kind="done")], [SimpleNamespace(kind="critic")]
engine = SimpleNamespace()
def ask(queries):
    try:
        DirectEngine.answer(engine, queries)
    except RuntimeError as error:
        return str(error)
    except AttributeError:
        return "answered"
print([ask(done), ask(pair), ask(done)])
"""


def test_the_switch_goes_down_at_the_first_pair_of_a_value_list(tmp_path):
    """The real class, in a process that the wrapper started: down from the pair on, each failure written down."""
    engine = Engine(tmp_path / "engine")
    engine.armed.touch()
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.time()
    done = subprocess.run(
        [engine.python, "-c", BATCHES], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(["answered", "engine down", "engine down"])
    assert engine.down.exists() and not engine.armed.exists()
    assert [line.split()[1] for line in engine.failures()] == ["critic", "done"]
    assert float(engine.failures()[0].split()[0]) >= started
    assert sys.executable in engine.python.read_text()
