"""Ctrl-C ends a run even where the exception itself was dropped."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from verl.launch import interrupt


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(interrupt, "_asked", False)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_dropped_interrupt_is_raised_again(number: signal.Signals) -> None:
    interrupt.install()
    interrupt.look()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt):
        interrupt.look()
