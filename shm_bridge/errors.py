"""Everything that can go wrong with the bridge, one class for each failure."""

from __future__ import annotations


class BridgeError(RuntimeError):
    """Base of all errors of the bridge."""


class ConfigError(BridgeError, ValueError):
    """A run id, a lane's specification or an argument is outside what is allowed."""


class SegmentError(BridgeError):
    """A segment cannot be trusted; nothing behind its header was read."""


class BadMagic(SegmentError):
    """The segment was not made by this software, or its creator died before it was finished."""


class VersionMismatch(SegmentError):
    """The segment was made by another version of the protocol."""


class LayoutMismatch(SegmentError):
    """The segment's layout differs although the version is the same."""


class CorruptSegment(SegmentError):
    """A checksum, a size or an offset in the segment is impossible."""


class WrongRun(SegmentError):
    """The segment belongs to another run, lane or generation than its name says."""


class ForeignOwner(SegmentError):
    """The segment or semaphore belongs to another user, or others may write to it."""


class NoSpace(BridgeError):
    """The shared memory file system has no room for the segment.

    Attributes:
        needed: bytes that were asked for.
        free: bytes that are free.
    """

    def __init__(self, what: str, needed: int, free: int) -> None:
        super().__init__(
            f"/dev/shm has no room for {what}: needed {needed} bytes, free {free} bytes; "
            "use fewer lanes, fewer or smaller frames, or a larger /dev/shm (docker run --shm-size=...)"
        )
        self.needed, self.free = needed, free


class FilesRemoved(BridgeError):
    """Somebody removed files of a living run from /dev/shm: processes that have them open go on; new ones do not find
    them."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"run_id={run_id!r}: its files were removed from /dev/shm. systemd does that when their user logs out: "
            "loginctl enable-linger USER, or RemoveIPC=no in /etc/systemd/logind.conf"
        )


class NoSharedMemory(BridgeError):
    """/dev/shm is missing, or cannot be written to."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"/dev/shm cannot be used ({error.strerror}): a tmpfs that this user may write to must be mounted there"
        )


class RunInUse(BridgeError):
    """A living sidecar already serves this run."""


class TooManyLanes(BridgeError):
    """Every lane of the run has a living owner."""


class LaneNotFound(BridgeError):
    """No lane of that name or number is attached."""


class BridgeTimeout(BridgeError, TimeoutError):
    """Base of everything that ended because its deadline passed."""


class SidecarUnreachable(BridgeTimeout):
    """No sidecar created the run's control segment, or became ready, before the deadline."""


class SidecarDied(BridgeError):
    """The sidecar's process is gone and no successor came within the grace time; questions stay pending."""


class VerdictTimeout(BridgeTimeout):
    """The sidecar lives but did not answer before the deadline; the question stays pending."""


class ReserveTimeout(BridgeTimeout):
    """The sidecar still needed the next frame's place when the deadline passed."""


class QuestionsFull(BridgeTimeout):
    """As many questions as the lane holds were unanswered when the deadline passed."""


class PhaseTimeout(BridgeTimeout):
    """The sidecar did not acknowledge a phase before the deadline."""


class FramesFull(BridgeError):
    """The episode has more frames than the lane was made for; they are all retained until it ends."""


class Cancelled(BridgeError):
    """The question was cancelled; no verdict will be delivered."""


class BridgeClosed(BridgeError):
    """The lane, reader, server or controller was closed."""


class ForkedProcess(BridgeClosed):
    """The object belongs to the parent process; a forked child must attach a lane of its own."""


class InvalidRequest(BridgeError, ValueError):
    """A call that does not fit the lane's state: an unpublished frame, an unknown ticket, no episode."""
