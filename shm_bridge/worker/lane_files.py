"""What a lane has in /dev/shm: its segment, and the semaphore that wakes its worker."""

from __future__ import annotations

from shm_bridge.liveness.attachment import Attachment
from shm_bridge.memory import segment
from shm_bridge.memory.header import LaneIdentity
from shm_bridge.memory.lane_memory import LaneMemory, create_lane
from shm_bridge.names import lane_name
from shm_bridge.spec import LaneSpec
from shm_bridge.sync.semaphore import Semaphore


def create_files(
    attachment: Attachment, spec: LaneSpec, name: str, first_ticket: int, first_frame: int
) -> tuple[LaneMemory, Semaphore]:
    """Of the lane's next generation. The sidecar cannot find them before ``attachment.register()``.

    Raises:
        NoSpace, SegmentError.
    """
    identity = LaneIdentity(attachment.index, attachment.next_generation(), name, spec)
    memory = create_lane(attachment.run_id, identity, attachment.control.epoch, first_ticket, first_frame)
    semaphore = lane_name(attachment.run_id, identity.index, identity.generation)
    Semaphore.remove(semaphore)
    return memory, Semaphore(semaphore, create=True)


def remove_files(attachment: Attachment, memory: LaneMemory, semaphore: Semaphore) -> None:
    """First from the sidecar's sight; the lane's number is given back. Images that were handed out stay readable."""
    attachment.withdraw()
    segment.unlink(lane_name(attachment.run_id, memory.identity.index, memory.identity.generation))
    semaphore.unlink()
    semaphore.close()
    attachment.detach()
    memory.close()
