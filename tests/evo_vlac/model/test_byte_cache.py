"""The byte-bounded cache."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from evo_vlac.model.byte_cache import ByteCache


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12)), max_size=60), st.integers(0, 30))
def test_never_over_its_limit_and_never_wrong(puts: list[tuple[int, int]], limit: int) -> None:
    """Bytes held equal the sizes of what is held, stay within the limit; a value got back is the last one put."""
    cache: ByteCache[tuple[int, int]] = ByteCache(limit, lambda value: value[1])
    last: dict[int, tuple[int, int]] = {}
    for i, (key, size) in enumerate(puts):
        last[key] = (i, size)
        cache.put(key, (i, size))
        held = [value for k in last if (value := cache.get(k)) is not None]
        assert cache.bytes == sum(size for _, size in held) <= limit
        assert all(value in last.values() for value in held)


def test_the_longest_unused_goes_first() -> None:
    """Getting counts as use."""
    cache: ByteCache[str] = ByteCache(2, len)
    cache.put("a", "1")
    cache.put("b", "2")
    cache.get("a")
    cache.put("c", "3")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("1", None, "3")
