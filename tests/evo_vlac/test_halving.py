"""Batches shrink where memory ends; a failure stays with the item that causes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evo_vlac.engine import Answer
from evo_vlac.halving import HalvingBatches, is_out_of_memory


def engine(room: int, bad: frozenset[int] = frozenset()) -> tuple[HalvingBatches[int], list[int]]:
    """Batches over something with room for ``room`` items that does not like ``bad``; and the sizes it was given."""
    sizes: list[int] = []

    def run(items: list[int]) -> list[Answer]:
        sizes.append(len(items))
        if len(items) > room:
            raise MemoryError("no room")
        if bad & set(items):
            raise ValueError("bad item")
        return [Answer(str(item)) for item in items]

    return HalvingBatches(run, 16), sizes


@given(st.integers(0, 40), st.integers(1, 20), st.frozensets(st.integers(0, 39)))
def test_every_item_is_answered_in_order(count: int, room: int, bad: frozenset[int]) -> None:
    """Whatever fits and whatever fails: bad items get an error, all others their own answer."""
    batches, sizes = engine(room, bad)
    answers = batches.answer(range(count))
    assert [answer.text for answer in answers] == ["" if i in bad else str(i) for i in range(count)]
    assert all((answer.error is not None) == (i in bad) for i, answer in enumerate(answers))
    assert len(sizes) <= 2 * count


def test_the_limit_grows_again_where_asked() -> None:
    """After so many calls without trouble, doubled, and never over the largest batch."""
    batches: HalvingBatches[int] = HalvingBatches(lambda items: [Answer("")] * len(items), 16, grow_after=2)
    batches.limit = 4
    for _ in range(4):
        batches.answer([1])
    assert batches.limit == 16


def test_what_is_passed_on_is_not_split() -> None:
    """It reaches the caller from the first batch."""
    seen: list[int] = []

    def run(items: list[int]) -> list[Answer]:
        seen.append(len(items))
        raise TimeoutError("stuck")

    with pytest.raises(TimeoutError):
        HalvingBatches(run, 8, passed_on=(TimeoutError,)).answer(range(8))
    assert seen == [8]


def test_too_few_answers_are_errors() -> None:
    """Nobody gets the answer of another question."""
    batches: HalvingBatches[int] = HalvingBatches(lambda items: [Answer("1")], 8)
    assert all("1 answers for 3" in str(answer.error) for answer in batches.answer(range(3)))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA driver error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "NCCL error in: ProcessGroupNCCL.cpp:3384, unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'",
        "NCCL error: unhandled cuda error\nLast error:\nFailed to CUDA calloc 10485760 bytes",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
        "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.",
        "Free memory on device (9.1/79.1 GiB) on startup is less than desired GPU memory utilization (0.4, 31.6 GiB).",
        "Triton Error [CUDA]: CUDA_ERROR_OUT_OF_MEMORY",
        "unable to mmap 15032385536 bytes from file </torch_417_1>: Cannot allocate memory (12)",
    ],
)
def test_a_full_card_is_known_whoever_says_so(text: str) -> None:
    """torch's own allocator has an exception for it; CUDA, its libraries, NCCL and vLLM have texts."""
    kind = ValueError if "GPU memory utilization" in text or "cache blocks" in text else RuntimeError
    assert is_out_of_memory(kind(text))


def test_vllms_assertion_about_its_profile_is_worth_another_try() -> None:
    """Whoever lets go of a card while vLLM measures it makes it fail; other assertions are mistakes."""
    text = "Error in memory profiling. Initial free memory 8.43 GiB, current free memory 8.82 GiB. This happens"
    assert is_out_of_memory(AssertionError(text)) and not is_out_of_memory(AssertionError("out of range"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasSgemm(...)`"),
        ValueError("model=x: not a folder"),
        OSError(2, "No such file"),
    ],
)
def test_other_failures_are_not_taken_for_it(error: Exception) -> None:
    """They would be tried again in smaller and smaller batches."""
    assert not is_out_of_memory(error)


def test_memory_that_the_system_refuses_is_out_of_memory() -> None:
    """A file that cannot be mapped, say."""
    assert is_out_of_memory(OSError(12, "Cannot allocate memory"))
