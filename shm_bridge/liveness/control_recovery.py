"""How a sidecar comes into a run: the first makes its control segment, a successor takes it over, or replaces it."""

from __future__ import annotations

import logging
import resource
import time

from shm_bridge.errors import ForeignOwner, SegmentError
from shm_bridge.memory.control import Control, ControlRole, create_control, open_control
from shm_bridge.memory.layout import ServerWord
from shm_bridge.names import bell_name
from shm_bridge.sync.ordering import MASK
from shm_bridge.sync.semaphore import Semaphore

logger = logging.getLogger(__name__)


def take_over(run_id: str, max_lanes: int) -> Control:
    """The predecessor's control segment when it is sound, else a new one in its place; the epoch grows either way.

    The caller holds the sidecar's lock.
    """
    epoch = 1
    try:
        control = open_control(run_id, ControlRole.SIDECAR)
    except FileNotFoundError:
        pass
    except ForeignOwner:
        raise
    except SegmentError as error:
        logger.warning("run %s: the control segment is made anew (%s)", run_id, error)
        epoch = max(1, time.time_ns() >> 30)  # larger than any epoch that counted up from 1
    else:
        epoch = (control.epoch + 1) & MASK or 1
        if control.lanes == max_lanes:
            control.server[ServerWord.READY] = 0
            control.server[ServerWord.EPOCH] = epoch
            return control
        control.close()
    control = create_control(run_id, max_lanes, epoch)
    control.server[ServerWord.EPOCH] = epoch
    return control


def open_bell(run_id: str, control: Control) -> Semaphore:
    """The doorbell that belongs to this control segment; a damaged or missing one is made anew."""
    name = bell_name(run_id, control.header.instance)
    try:
        bell = Semaphore(name, create=False)
    except ForeignOwner:
        raise
    except (SegmentError, FileNotFoundError):
        Semaphore.remove(name)
        bell = Semaphore(name, create=True)
    control.server[ServerWord.BELL] = control.header.instance
    return bell


def make_room_for_lanes(lanes: int) -> None:
    """Lets this process open what so many lanes need: CPython keeps a descriptor for each of a lane's two mappings."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = lanes * 2 + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        enough = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
        if enough < wanted:
            logger.warning("%d lanes need %d open files; the limit is %d (ulimit -n)", lanes, wanted, enough)
