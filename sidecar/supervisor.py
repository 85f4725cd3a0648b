"""The parent process: starts the service, watches it, starts it again, ends it. Imports nothing heavy.

    supervisor --Popen--> service            stdin: the Config  SIGCHLD: it died  pipe: ready, beats, last words
        SIGTERM, SIGINT --SIGTERM--> service drains --> both end with 0

A service that dies is started again after a back-off, under the bridge's next epoch, so that workers' questions are
asked again. One that ends with a permanent error (a wrong key, a missing checkpoint) is not, and neither is one that
dies too often. A service that hangs, at start or later, is killed first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shm_bridge.inspect import clean_run
from sidecar.config import Config
from sidecar.errors import NO_ROOM, PERMANENT, CrashLoopError
from sidecar.lifeline import Listener

logger = logging.getLogger(__name__)
_KILL_MARGIN_S = 2.0  # beyond the drain time, before SIGKILL


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    listener: Listener
    started: float
    last_sign: float
    ready: bool = False
    last_words: str | None = None


class Supervisor:
    """Keeps one service alive. ``on_event`` sees every event of the service (tests use it)."""

    def __init__(self, config: Config, on_event: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.config, self.health, self._start_s = config, config.health, config.start_s
        self._on_event = on_event
        self._crashes: deque[float] = deque()
        self._no_room_since: float | None = None
        self._stop_asked: float | None = None
        self._wake_read, self._wake_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)

    def run(self) -> int:
        """Until the service ended in order (0), or cannot be helped (its exit code). Raises CrashLoopError."""
        handlers: dict[int, Any] = {signal.SIGTERM: self._asked_to_stop, signal.SIGINT: self._asked_to_stop}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup's word holds
            handlers[signal.SIGHUP] = self._asked_to_stop
        handlers[signal.SIGCHLD] = _look_up
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        previous_wakeup = signal.set_wakeup_fd(self._wake_write)
        try:
            return self._run()
        finally:
            signal.set_wakeup_fd(previous_wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._wake_read)
            os.close(self._wake_write)
            removed = clean_run(self.config.run_id)  # what a killed service left; never what a living worker holds
            if removed:
                logger.info("removed %s", ", ".join(removed))

    def _run(self) -> int:
        while True:
            child = self._start()
            try:
                code = self._watch(child)
            finally:
                self._end_group(child)
                child.listener.close()
            if self._stop_asked is not None:
                return 0 if code in (0, -signal.SIGTERM) else self._unclean_stop(code)
            if code == 0:
                logger.warning("the service ended by itself")
            if code == PERMANENT:
                sys.stderr.write(f"error: {child.last_words or 'the service cannot run'}\n")
                return PERMANENT
            if not self._wait_before_restart(child, code):
                return 0

    def _asked_to_stop(self, *_: object) -> None:
        if self._stop_asked is None:
            self._stop_asked = time.monotonic()

    def _start(self) -> _Child:
        read, write = os.pipe()
        command = [sys.executable, "-m", "sidecar.service_main", str(os.getpid()), str(write), self.config.run_id]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(write,), start_new_session=True)
        finally:
            os.close(write)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:  # one that has died already is seen by _watch
            process.stdin.write(pickle.dumps(self.config))
        now = time.monotonic()
        return _Child(process, Listener(read), now, now)

    def _watch(self, child: _Child) -> int:
        """Until the child has ended; its exit code."""
        asked = False
        with selectors.DefaultSelector() as selector:
            for descriptor in (child.listener.descriptor, self._wake_read):
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                ready = [key.fd for key, _ in selector.select(self._patience(child))]
                if self._wake_read in ready:
                    os.read(self._wake_read, 512)
                code = child.process.poll()  # before its last words are read: they are all there then
                if code is not None or child.listener.descriptor in ready:
                    self._listen(child, selector)
                if code is not None:
                    return code
                if self._stop_asked is not None and not asked:
                    asked = True
                    child.process.terminate()
                self._kill_when_silent(child)

    def _listen(self, child: _Child, selector: selectors.BaseSelector) -> None:
        events = child.listener.events()
        if not events and child.listener.descriptor in selector.get_map():
            selector.unregister(child.listener.descriptor)  # the other end is closed; SIGCHLD tells the rest
        for event in events:
            child.last_sign = time.monotonic()
            if event["event"] == "ready":
                child.ready = True
            if event["event"] == "waiting":
                child.started, self._no_room_since = child.last_sign, None
            if event["event"] == "failed":
                child.last_words = str(event.get("error"))
            if self._on_event is not None:
                self._on_event(event)

    def _patience(self, child: _Child) -> float:
        return max(0.0, self._deadline(child) - time.monotonic())

    def _deadline(self, child: _Child) -> float:
        if self._stop_asked is not None:
            return self._stop_asked + self.health.drain_s + _KILL_MARGIN_S
        if not child.ready:
            return child.started + self._start_s
        return child.last_sign + self.health.heartbeat_s

    def _kill_when_silent(self, child: _Child) -> None:
        if time.monotonic() < self._deadline(child):
            return
        if self._stop_asked is not None:
            reason = f"it did not end within {self.health.drain_s + _KILL_MARGIN_S:.0f} s"
        elif child.ready:
            reason = f"no sign of life for {self.health.heartbeat_s:g} s"
        else:
            size = self.config.model_bytes
            more = f" and the {self._start_s - self.health.start_s:.0f} s that {size / 1e9:.1f} GB take" if size else ""
            reason = f"it was not ready within health.start_s={self.health.start_s:g} s{more}"
        child.last_words = reason
        logger.error("killing the service: %s", reason)
        child.process.kill()
        child.process.wait()

    def _wait_before_restart(self, child: _Child, code: int) -> bool:
        """Sleeps the back-off; False when asked to stop meanwhile. Raises CrashLoopError."""
        now = time.monotonic()
        if code == NO_ROOM:
            self._wait_for_room(child, now)
            return self._stop_asked is None
        self._no_room_since = None
        self._crashes.append(now)
        while self._crashes and self._crashes[0] < now - self.health.crash_window_s:
            self._crashes.popleft()
        reason = child.last_words or _how_it_ended(code)
        count = len(self._crashes)
        if count >= self.health.max_crashes:
            raise CrashLoopError(
                f"the service ended {count} times within {self.health.crash_window_s:g} s, the last time because:"
                f" {reason}{self._where_to_look()}"
            )
        pause = min(self.health.backoff_max_s, self.health.backoff_s * 2 ** (count - 1))
        logger.error("the service ended (%s); starting it again in %.1f s", reason, pause)
        self._sleep(pause)
        return self._stop_asked is None

    def _wait_for_room(self, child: _Child, now: float) -> None:
        """The device was full when the model was loaded: no crash for as long as a start may take. Raises
        CrashLoopError after that."""
        if self._no_room_since is None:
            self._no_room_since = now
        if now - self._no_room_since >= self._start_s:
            reason = f"{child.last_words or 'it is full'}{self._where_to_look()}"
            raise CrashLoopError(f"no room on the device for {self._start_s:.0f} s: {reason}")
        pause = self.health.backoff_max_s
        logger.warning("%s; trying again in %.1f s", child.last_words or "no room on the device", pause)
        self._sleep(pause)

    def _where_to_look(self) -> str:
        return f"; its log: {self.config.log.file}" if self.config.log.file else ""

    def _sleep(self, seconds: float) -> None:
        """Until the time is over or a stop is asked for; other signals only interrupt it."""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            while self._stop_asked is None and (left := deadline - time.monotonic()) > 0:
                if selector.select(left):
                    os.read(self._wake_read, 512)

    def _end_group(self, child: _Child) -> None:
        """Nothing that the service started outlives it (it leads a session of its own)."""
        try:
            os.killpg(child.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        finally:
            child.process.wait(timeout=10)

    def _unclean_stop(self, code: int) -> int:
        logger.error("the service did not end in order: %s", _how_it_ended(code))
        return 1


def _look_up(*_: object) -> None:
    """For SIGCHLD: a handler, so that it is written to the wake-up pipe. (A pidfd, which some containers refuse and
    old kernels lack, would tell the same.)"""


def _how_it_ended(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
