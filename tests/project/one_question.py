"""One DONE question on its way from the renderer's write to the score: ``python -m tests.project.one_question``.

    here: the pool --actions--> environment process --frame, question--> sidecar's service (engine=fixed)
                                      ^-------------- verdict ----------------'
          each process writes down what it enters and makes, with the time; between draw and score it counts

Nothing on the way is a double but the simulator and the model. Traced is the last of some episodes, so that arrays
which are made once for each place of the lane are there. Printed are, where each came first:

- the files of the four packages in which a function was entered; a star: one that was handed, or returned, one of
  the types below. The others serve the way: order of stores, semaphores, prompts, figures;
- the types of the four packages of which an object was made, without those that are private to their file.

It is the bridge's Python way (``SHM_BRIDGE_NATIVE=0``): of compiled code a profile sees nothing. ``--native`` shows
what is left beside the compiled one. Not counted is what runs by the clock, whatever is asked (``BY_THE_CLOCK``).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("shm_bridge", "evo_vlac", "sidecar", "verl")
LOG = "ONE_QUESTION_LOG"
EPISODES = 4  # of two frames each in three places: in the last, every place was drawn into and asked about before
BY_THE_CLOCK = {  # heartbeats, looks whether the other side lives, figures once a second
    "CriticLink._check_progress",
    "Lifeline.beat",
    "Patience.look",
    "Patience.reset",
    "Server._reap",
    "Service._probe_when_idle",
    "Service._publish",
    "Service._watch_engine",
    "SocketChannel.alive",
}
COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>")  # calls in Python 3.11, none in 3.12
VERDICT_WRITTEN = ("ServedLane.answer", "VerdictRecords.write")  # native code writes it within the first
START = """
import os
from tests.project.one_question import LOG, Recorder
if LOG in os.environ:
    Recorder(os.environ[LOG]).start()
"""


class Entry(NamedTuple):
    """What a process did: it entered a ``file``, made a ``type``, or was ``handed`` one in a file (``FILE TYPE``)."""

    time_ns: int
    pid: int
    kind: str
    name: str
    function: str


class Way(NamedTuple):
    """What the question came through. ``files``: and whether one was handed a type of the way."""

    files: dict[str, bool]
    types: list[str]


class Recorder:
    """Writes down what its process does in the files of the four packages, in all threads."""

    def __init__(self, log: str) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._thread = threading.local()

    def start(self) -> None:
        threading.setprofile(self)
        sys.setprofile(self)

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        if event not in ("call", "return") or self._is_muted(frame, event):
            return
        code = frame.f_code
        if code.co_name in COMPREHENSIONS:
            return
        if code.co_filename == "<string>":  # what dataclass and NamedTuple write
            if event == "call" and code.co_name == "__init__":
                self._made(type(frame.f_locals.get("self")), code.co_qualname)
            elif event == "return":
                self._made(type(value), code.co_qualname)
        elif (file := _ours(code.co_filename)) is not None:
            if event == "call":
                self._entered(frame, file)
            else:
                self._handed([value], file, code.co_qualname)
                if isinstance(value, tuple):  # made by tuple.__new__, without a call that a profile sees
                    self._made(type(value), code.co_qualname)

    def _is_muted(self, frame: FrameType, event: str) -> bool:
        """Whether it is part of an import, or of what runs by the clock."""
        outermost = getattr(self._thread, "muted", None)
        if outermost is None:
            code = frame.f_code
            imports = code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__"
            if event == "call" and (imports or code.co_qualname in BY_THE_CLOCK):
                self._thread.muted = outermost = frame
        elif frame is outermost and event == "return":
            self._thread.muted = None
        return outermost is not None

    def _entered(self, frame: FrameType, file: str) -> None:
        code = frame.f_code
        self._write("file", file, code.co_qualname)
        given = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
        if code.co_name == "__init__" and given:
            self._made(type(given[0]), code.co_qualname)
        self._handed(given, file, code.co_qualname)

    def _handed(self, values: list[Any], file: str, function: str) -> None:
        for value in values:
            some = value[:1] if isinstance(value, (list, tuple)) and not _name(type(value)) else [value]
            for name in filter(None, (_name(type(one)) for one in some)):
                self._write("handed", f"{file} {name}", function)

    def _made(self, kind: type, function: str) -> None:
        if name := _name(kind):
            self._write("type", name, function)

    def _write(self, kind: str, name: str, function: str) -> None:
        os.write(self._log, f"{time.monotonic_ns()}\t{os.getpid()}\t{kind}\t{name}\t{function}\n".encode())


def _ours(file: str) -> str | None:
    """Relative to the repository; None for a file of nobody's or of somebody else's."""
    path = file.removeprefix(f"{ROOT}/")
    return path if path != file and path.partition("/")[0] in PACKAGES else None


def _name(kind: type) -> str | None:
    """Module and name of a public type of the four packages."""
    module = kind.__module__
    return f"{module}.{kind.__qualname__}" if module.partition(".")[0] in PACKAGES and kind.__name__[0] != "_" else None


def play(folder: Path, native: bool = False) -> list[Entry]:
    """Plays episodes of one step that the critic calls done; what was written down, in the order of time."""
    log = folder / "log"
    (folder / "sitecustomize.py").write_text(START)
    sys.path.insert(0, str(folder))  # an environment process gets this process's path
    os.environ.update({"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), LOG: str(log)})
    os.environ["SHM_BRIDGE_NATIVE"] = str(int(native))
    from shm_bridge import Controller
    from tests.verl.envs.test_critic_link import pool_of, training
    from tests.verl.envs.test_pool import drive

    run_id = f"test-question-{os.getpid()}"
    keys = ["engine=fixed", "fixed.done_at_step=1", "fixed.delay_ms=400", "health.probe_every_s=0", "log.level=warning"]
    with subprocess.Popen([sys.executable, "-m", "sidecar", f"run_id={run_id}", *keys], cwd=ROOT) as sidecar:
        try:
            with Controller.connect(run_id, 30) as controller:
                controller.wait_ready(30)
            with pool_of(run_id, overlap=False, reward="done", env={"max_steps": 1}) as pool:
                for episode in range(EPISODES - 1):
                    pool.submit(training(episode))
                ends = drive(pool, EPISODES - 1)
                _wait_until_counted(log, EPISODES - 1)
                pool.submit(training(EPISODES - 1))
                ends += drive(pool, 1)
        finally:
            sidecar.terminate()
            sidecar.wait(20)
    assert all(end.score == 1.0 for end in ends), ends
    lines = (line.split("\t") for line in log.read_text().splitlines())
    return sorted(Entry(int(at), int(pid), *rest) for at, pid, *rest in lines)


def _wait_until_counted(log: Path, answers: int) -> None:
    """The service counts an answer after it was written: that is to be over, not a part of the next one's way."""
    deadline = time.monotonic() + 20
    while log.read_text().count("\tfile\tsidecar/metrics.py\tMetrics.answered\n") < answers:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def on_the_way(entries: list[Entry]) -> list[Entry]:
    """Those between the last draw and the score: the asking environment's, the service's, the environment's again.

    The service's end with the verdict's record: it wakes the environment, and what is counted after it is in no hurry.
    """
    draw = [one for one in entries if one.function == "CriticLink.draw"][-1]
    score = [one for one in entries if one.kind == "type" and one.name == "verl.episode.EpisodeEnd"][-1]
    verdict = [one for one in entries if one.function in VERDICT_WRITTEN][-1]
    environment = [one for one in entries if one.pid == draw.pid and draw.time_ns <= one.time_ns <= score.time_ns]
    service = [one for one in entries if one.pid == verdict.pid and draw.time_ns <= one.time_ns <= verdict.time_ns]
    waits = next(i for i, one in enumerate(environment) if one.function == "CriticLink.wait")
    return [*environment[:waits], *service, *environment[waits:]]


def way(entries: list[Entry]) -> Way:
    """The files and types of some entries, each once, where it came first."""
    types = list(dict.fromkeys(one.name for one in entries if one.kind == "type"))
    handed = {one.name.split()[0] for one in entries if one.kind == "handed" and one.name.split()[1] in types}
    files = dict.fromkeys(one.name for one in entries if one.kind == "file")
    return Way({file: file in handed for file in files}, types)


def told(found: Way) -> Iterator[str]:
    """The lines that are printed."""
    yield f"{len(found.files)} files, {sum(found.files.values())} of them handed a type of the way (*)"
    yield from (f"{file} *" if handed else file for file, handed in found.files.items())
    yield f"{len(found.types)} types"
    yield from found.types


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = way(on_the_way(play(Path(folder), native="--native" in sys.argv)))
    print("\n".join(told(found)))


if __name__ == "__main__":
    main()
