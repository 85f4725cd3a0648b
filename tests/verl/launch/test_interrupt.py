"""Ctrl-C ends a run even where the exception itself was dropped."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from verl.launch import interrupt


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in interrupt.SIGNALS}
    monkeypatch.setattr(interrupt, "_asked", [])
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_dropped_interrupt_is_raised_again(number: signal.Signals) -> None:
    interrupt.install()
    interrupt.look()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    with pytest.raises(KeyboardInterrupt):
        interrupt.look()


def test_an_update_under_way_is_finished_first() -> None:
    interrupt.install()
    with interrupt.held(60):
        signal.raise_signal(signal.SIGTERM)
        interrupt.look()
        assert interrupt.asked()
        signal.raise_signal(signal.SIGTERM)  # as a scheduler does
        interrupt.look()
    with pytest.raises(KeyboardInterrupt):
        interrupt.look()


def test_a_second_ctrl_c_and_the_end_of_the_time_are_not_held_back() -> None:
    interrupt.install()
    with interrupt.held(60):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupt.look()
    with interrupt.held(0), pytest.raises(KeyboardInterrupt):
        interrupt.look()
