"""What can go wrong in the sidecar, one exception class per failure.

``exit_code`` is what the process ends with. 2 says that starting again cannot help (a wrong key, a missing
checkpoint): the supervisor then gives up at once. Anything else is worth another try.
"""

from __future__ import annotations

PERMANENT = 2
NO_ROOM = 71


class SidecarError(RuntimeError):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class ConfigError(SidecarError):
    """Keys, their values, or the file they stand in are wrong. ``problems``: one line each, with what is allowed."""

    exit_code = PERMANENT

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class EngineUnavailableError(SidecarError):
    """The engine needs a package or a device that this machine does not have."""

    exit_code = PERMANENT


class CheckpointError(SidecarError):
    """The model cannot be loaded: missing, incomplete, or of an architecture that the engine does not know."""

    exit_code = PERMANENT


class NoRoomError(SidecarError):
    """The device has no room for the model while it is loaded. Others may let go of theirs: worth another try, and no
    crash."""

    exit_code = NO_ROOM


class RunInUseError(SidecarError):
    """Another living sidecar serves this run id."""

    exit_code = PERMANENT


class SharedMemoryError(SidecarError):
    """The bridge's segments cannot be made: /dev/shm is too small, or not ours."""

    exit_code = PERMANENT


class PortInUseError(SidecarError):
    """The metrics port is taken."""

    exit_code = PERMANENT


class ProbeFailedError(SidecarError):
    """The model was loaded but did not answer the probe with a readable verdict."""


class EngineWedgedError(SidecarError):
    """A batch did not come back in time; only a new process helps."""

    exit_code = 75


class ReplicaLostError(EngineWedgedError):
    """A replica's process ended, or was ended because it hung; a neighbour may answer in its place."""


class ReplicaError(SidecarError):
    """What an engine raised in a replica's process: the same as if it had raised here."""


class CrashLoopError(SidecarError):
    """The service died too often in too short a time."""

    exit_code = 70


class QuestionError(SidecarError):
    """A question of the bridge cannot be asked: an unknown camera, frames that are no pair, a task without words."""


class RemoteEngineError(SidecarError):
    """The remote server cannot be reached or refuses; the message has its address."""


class RemoteTransportError(RemoteEngineError):
    """No whole reply came: no connection, cut off, too late. Asking again may help."""


class MemoryBudgetError(SidecarError):
    """The model does not fit into the memory budget it was given."""

    exit_code = PERMANENT
