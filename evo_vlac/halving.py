"""Keeps one bad query or a full accelerator from failing a batch.

    items -> batches of at most ``limit`` -> run -> answers in the items' order

Out of memory halves the batch, goes on, and remembers the size that fitted. Any other exception halves it, too, down to
the one item that causes it, which gets an error and no more. A batch of n costs at most 2n calls that way.
"""

from __future__ import annotations

import errno
import gc
import logging
import re
import sys
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from evo_vlac.engine import Answer

log = logging.getLogger(__name__)
# How it is told where no exception has a name for it. torch has one for its own allocator only.
OUT_OF_MEMORY = re.compile(
    r"(can't|cannot) allocate memory"  # torch on the CPU; the system, of a file that it cannot map
    r"|out.of.memory"  # CUDA, its driver, NCCL, NVRTC: "CUDA error: ...", "Cuda failure 2 '...'", "..._OUT_OF_MEMORY"
    r"|Failed to CUDA (m|c)alloc"  # NCCL
    r"|STATUS_ALLOC_FAILED|_ALLOCATION_FAILED"  # cuBLAS, cuDNN, cuSPARSE, cuSOLVER
    r"|STATUS_NOT_INITIALIZED.* `?cublasCreate"  # what a handle's memory ends with on a full card
    r"|Error in memory profiling"  # vLLM, when others give memory back meanwhile; the next three, too
    r"|No available memory for the cache blocks"
    r"|Free memory on device .* is less than desired"
    r"|KV cache is needed, which is larger than the available KV cache memory",
    re.IGNORECASE | re.DOTALL,
)
Item = TypeVar("Item")


class HalvingBatches(Generic[Item]):
    """Runs items in batches.

    Attributes:
        max_size: largest batch.
        limit: largest batch that fits at present; after ``grow_after`` calls without trouble it doubles again (None:
            never).
        out_of_memory: batches that did not fit, so far.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], list[Answer]],
        max_size: int,
        *,
        grow_after: int | None = None,
        passed_on: tuple[type[Exception], ...] = (),
    ) -> None:
        """``run`` answers a batch, or raises; the exceptions ``passed_on`` are not split but raised."""
        self.max_size = self.limit = max_size
        self.out_of_memory = 0
        self._run, self._grow_after, self._passed_on = run, grow_after, passed_on
        self._calm = 0

    def answer(self, items: Sequence[Item]) -> list[Answer]:
        """As many answers as items, in their order; raises what is passed on."""
        answers: list[Answer] = []
        while len(answers) < len(items):  # the limit may shrink on the way
            answers += self._part(list(items[len(answers) : len(answers) + self.limit]))
        self._calm += 1
        if self._grow_after is not None and self._calm >= self._grow_after and self.limit < self.max_size:
            self.limit, self._calm = min(self.max_size, self.limit * 2), 0
        return answers

    def _part(self, items: list[Item]) -> list[Answer]:
        try:
            answers = self._run(items)
        except self._passed_on:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a model raises must not take the other items with it
            return self._split(items, error)
        if len(answers) != len(items):
            return [Answer("", error=f"the engine gave {len(answers)} answers for {len(items)} queries")] * len(items)
        return answers

    def _split(self, items: list[Item], error: Exception) -> list[Answer]:
        full = is_out_of_memory(error)
        if full:
            self.out_of_memory += 1
            self.limit, self._calm = -(-len(items) // 2), 0
            log.warning("out of memory with a batch of %d; going on with %d", len(items), self.limit)
            empty_cache()
        if len(items) > 1:
            middle = len(items) // 2
            return self._part(items[:middle]) + self._part(items[middle:])
        text = "out of memory with a single query" if full else f"{type(error).__name__}: {first_line(error)}"
        log.warning("a query failed: %s", text, exc_info=None if full else error)
        return [Answer("", error=text)]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was lacking, on the CPU or an accelerator, in any library's words: :data:`OUT_OF_MEMORY`."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, and ours
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    kinds = RuntimeError | ValueError | AssertionError
    return isinstance(error, kinds) and OUT_OF_MEMORY.search(str(error)) is not None


def empty_cache() -> None:
    """Gives memory that nothing uses back to the accelerator. An engine without torch does not get it for this."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, at most 400 characters of it."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:400]
