"""Which questions go into the next batch. Pure logic: no threads, no clock of its own, no model.

    add --> waiting tasks, by priority, bucket and lane --> take --> one batch: one bucket, lanes in turn

The rules. An idle engine takes what is ready; a busy one does not call :meth:`take`, so everything that arrives
meanwhile joins the next batch. A batch holds tasks of one bucket (same shapes; an engine that schedules requests one by
one has all of them in one). The most urgent priority decides which bucket is served, within it the bucket whose oldest
task has waited longest. Lanes are served in turn, one task each per round, so that a lane with many questions never
starves one with few. Tasks whose deadline has passed are handed back apart, never run.

With several engines a task has a home, the engine that knows its episode. An engine takes its own tasks before
another's, which count as asked later by ``AWAY_NS``: a batch is of one home, and nobody waits long for a slow engine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass, field

from sidecar.query_task import Priority, QueryTask

AWAY_NS = 500_000_000  # longer than a batch takes, far shorter than anybody's patience


@dataclass(slots=True)
class _Bucket:
    """The waiting tasks of one (priority, bucket, home): a queue per lane, and the order in which lanes come next."""

    lanes: dict[Hashable, deque[QueryTask]] = field(default_factory=dict)
    turn: deque[Hashable] = field(default_factory=deque)
    size: int = 0

    def add(self, task: QueryTask) -> None:
        if task.lane not in self.lanes:
            self.lanes[task.lane] = deque()
            self.turn.append(task.lane)
        self.lanes[task.lane].append(task)
        self.size += 1

    def pop(self) -> QueryTask:
        """The next task of the lane whose turn it is; that lane then goes to the end."""
        lane = self.turn.popleft()
        queue = self.lanes[lane]
        task = queue.popleft()
        if queue:
            self.turn.append(lane)
        else:
            del self.lanes[lane]
        self.size -= 1
        return task

    def remove(self, drop: Callable[[QueryTask], bool]) -> list[QueryTask]:
        removed: list[QueryTask] = []
        for lane, queue in list(self.lanes.items()):
            kept: deque[QueryTask] = deque()
            for task in queue:
                (removed if drop(task) else kept).append(task)
            if kept:
                self.lanes[lane] = kept
            else:
                del self.lanes[lane]
                self.turn.remove(lane)
        self.size -= len(removed)
        return removed

    def oldest_ns(self) -> int:
        return min(queue[0].asked_ns for queue in self.lanes.values())


_Key = tuple[Priority, Hashable, int]


class Batcher:
    """Collects tasks and hands out batches. Not thread-safe: the caller holds a lock.

    ``clock`` gives nanoseconds. ``max_wait_ns``: how long the oldest task of a batch that is not full may be held back
    in the hope of more (0: never).
    """

    def __init__(self, max_size: int, max_wait_ns: int, clock: Callable[[], int]) -> None:
        self.max_size, self.max_wait_ns = max_size, max_wait_ns
        self._clock = clock
        self._buckets: dict[_Key, _Bucket] = {}
        self._next_expiry_ns: int | None = None

    def __len__(self) -> int:
        return sum(bucket.size for bucket in self._buckets.values())

    def add(self, task: QueryTask, home: int = 0) -> None:
        """One more task; its place in its lane's queue is the last."""
        self._buckets.setdefault((task.priority, task.bucket, home), _Bucket()).add(task)
        if task.deadline_ns and (self._next_expiry_ns is None or task.deadline_ns < self._next_expiry_ns):
            self._next_expiry_ns = task.deadline_ns

    def take(self, home: int = 0, leave: Container[int] = ()) -> list[QueryTask]:
        """The next batch for engine ``home``, at most ``max_size`` tasks of one bucket; empty when nothing is due yet.

        To be called only when that engine is idle. ``leave``: other engines that are idle and take what is theirs.
        """
        key = self._choose(self._clock(), home, leave)
        if key is None:
            return []
        bucket = self._buckets[key]
        batch = [bucket.pop() for _ in range(min(self.max_size, bucket.size))]
        if not bucket.size:
            del self._buckets[key]
        return batch

    def wait_ns(self, leave: Container[int] = ()) -> int | None:
        """How long until :meth:`take` may have something without another :meth:`add`; None: for ever."""
        now = self._clock()
        waits = [max(0, self._due_ns(bucket) - now) for key, bucket in self._buckets.items() if key[2] not in leave]
        return min(waits) if waits else None

    def expired(self) -> list[QueryTask]:
        """Removes and returns the tasks whose deadline has passed."""
        now = self._clock()
        if self._next_expiry_ns is None or now < self._next_expiry_ns:
            return []
        gone = self._remove(lambda task: 0 < task.deadline_ns <= now)
        waiting = (task for bucket in self._buckets.values() for queue in bucket.lanes.values() for task in queue)
        self._next_expiry_ns = min((task.deadline_ns for task in waiting if task.deadline_ns), default=None)
        return gone

    def _remove(self, drop: Callable[[QueryTask], bool]) -> list[QueryTask]:
        removed: list[QueryTask] = []
        for key, bucket in list(self._buckets.items()):
            removed.extend(bucket.remove(drop))
            if not bucket.size:
                del self._buckets[key]
        return removed

    def _choose(self, now: int, home: int, leave: Container[int]) -> _Key | None:
        """The bucket to serve: most urgent priority, then the longest wait; None when none is due."""
        due = [
            (key[0], bucket.oldest_ns() + (0 if key[2] == home else AWAY_NS), i, key)
            for i, (key, bucket) in enumerate(self._buckets.items())
            if key[2] not in leave and self._due_ns(bucket) <= now
        ]
        return min(due, key=lambda entry: entry[:3])[3] if due else None

    def _due_ns(self, bucket: _Bucket) -> int:
        if bucket.size >= self.max_size or not self.max_wait_ns:
            return 0
        return bucket.oldest_ns() + self.max_wait_ns


def kind_of(batch: Sequence[QueryTask]) -> str:
    """Of a batch's queries, in a word."""
    kinds = {task.query.kind for task in batch}
    return kinds.pop() if len(kinds) == 1 else "mixed"
