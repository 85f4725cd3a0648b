"""A real, tiny, untrained checkpoint and the engine over it; pictures; an engine whose answers a test chooses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from evo_vlac.engine import Answer, Query
from evo_vlac.swift_engine import SwiftEngine
from evo_vlac.tiny.model import TinyConfig, build_tiny_vlac

TASK = "lift the red cube"


class ChosenEngine:
    """Answers by a function of the query; remembers what it was asked and in which portions."""

    name = "chosen"

    def __init__(self, reply: Callable[[Query], Answer | str]) -> None:
        self.reply = reply
        self.asked: list[Query] = []
        self.portions: list[int] = []

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        self.asked.extend(queries)
        self.portions.append(len(queries))
        replies = [self.reply(query) for query in queries]
        return [Answer(reply) if isinstance(reply, str) else reply for reply in replies]

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny architecture with random weights, smaller than the shipped one."""
    config = TinyConfig(vision_hidden=64, vision_layers=2, vision_mlp=128, text_hidden=96, text_layers=2, text_mlp=192)
    return build_tiny_vlac(tmp_path_factory.mktemp("checkpoint") / "tiny", config)


@pytest.fixture(scope="session")
def engine(checkpoint: Path) -> Iterator[SwiftEngine]:
    built = SwiftEngine(checkpoint, device="cpu")
    yield built
    built.close()


def picture(seed: int, height: int = 60, width: int = 80) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def frames() -> list[npt.NDArray[np.uint8]]:
    return [picture(i) for i in range(7)]
