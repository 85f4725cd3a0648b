"""An actor whose process does not come is named, with what Ray knows of it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from verl.trainer import ray_arrivals
from verl.trainer.ray_arrivals import LATE_S, Arrivals


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def watched(
    monkeypatch: pytest.MonkeyPatch, session: Path | None, waiting: dict[str, str]
) -> tuple[Arrivals, Clock, list[str]]:
    """Arrivals that see ``waiting``, with their clock and what they say."""
    monkeypatch.setattr(ray_arrivals, "awaited_actors", lambda: dict(waiting))
    said: list[str] = []
    clock = Clock()
    return Arrivals(said.append, session, clock), clock, said


def test_what_has_not_come_within_a_minute_is_named_once_with_rays_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The shell that Ray starts a worker through says what is wrong into a log of the raylet's."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "raylet.err").write_text("bash: line 1: /home/me/My: No such file or directory\n" * 4)
    arrivals, clock, said = watched(monkeypatch, tmp_path, {"a1": "RolloutWorker"})
    for clock.now in (0.0, 30.0, LATE_S - 1):
        arrivals.look()
    assert said == []
    for clock.now in (LATE_S + 5, LATE_S + 60):
        arrivals.look()
    assert len(said) == 1 and said[0].count("No such file") == 1
    assert "the process of a RolloutWorker within 60 s" in said[0]


def test_what_comes_in_time_is_not_named_and_a_replacement_has_its_own_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second actor in the place of one that came or was ended counts from its own start."""
    waiting = {"a1": "RolloutWorker"}
    arrivals, clock, said = watched(monkeypatch, None, waiting)
    arrivals.look()
    waiting.clear()
    waiting["a2"] = "RolloutWorker"
    for clock.now in (LATE_S - 5, LATE_S + 5):
        arrivals.look()
    assert said == []


def test_ray_really_tells_of_an_interpreter_that_it_cannot_start(tmp_path: Path) -> None:
    """Ray hands the interpreter to a shell without quotes. An actor that is only slow to load has come."""
    program = textwrap.dedent("""
        import time, ray
        from pathlib import Path
        from verl.errors import NoAnswerError
        from verl.trainer import ray_arrivals, ray_wait
        from verl.trainer.load_config import load_config
        from verl.trainer.ray_session import ray_session
        ray_arrivals.LATE_S, ray_arrivals.LOOK_S = 6.0, 0.5

        class Slow:
            def __init__(self): time.sleep(60)
            def work(self): return 1
        class Lost(Slow): pass

        with ray_session(load_config([])[0], [], Path(LOGS)) as session:
            said = []
            with ray_wait.looking(ray_arrivals.Arrivals(said.append, session).look):
                slow = ray.remote(Slow).options(num_cpus=0).remote()
                while "Slow" in ray_arrivals.awaited_actors().values():
                    time.sleep(0.1)
                nowhere = {"py_executable": "/nowhere/my python"}
                lost = ray.remote(Lost).options(num_cpus=0, runtime_env=nowhere).remote()
                for _ in range(20):
                    try:
                        ray_wait.get([lost.work.remote(), slow.work.remote()], 2, "both")
                    except NoAnswerError:
                        pass
                    if said:
                        break
            print(said, flush=True)
    """).replace("LOGS", repr(str(tmp_path)))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert "Lost" in done.stdout and "/nowhere/my: No such file" in done.stdout and "Slow" not in done.stdout
