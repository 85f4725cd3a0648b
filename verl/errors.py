"""Every error that this package raises on purpose, one class a failure."""

from __future__ import annotations


class VerlError(Exception):
    """Base of all errors raised by this package."""


class ConfigError(VerlError):
    """A configuration key has an unknown name or a value that is not allowed."""


class DeviceError(VerlError):
    """An actor was given a GPU that torch does not see."""


class UnknownTaskError(ConfigError):
    """A suite, task or task number that the environment does not have."""


class RenderingUnavailableError(VerlError):
    """The off-screen renderer could not be started, most often because a system library is missing."""


class AssetsMissingError(VerlError):
    """A simulator's data files (meshes, textures, initial states) were not found."""


class RunInUseError(VerlError):
    """A living process owns the run's id or folder."""


class CheckpointDamagedError(VerlError):
    """A checkpoint's file is missing, cut short or changed."""


class EnvironmentFailedError(VerlError):
    """An environment process could not be started, or went on dying after it was replaced."""


class InvalidObservationError(VerlError):
    """An environment's proprioception is not finite or has another shape. A failure of that environment, as a crash."""


class InvalidActionError(VerlError):
    """The policy's actions or their log-probabilities are not finite."""


class InvalidVerdictError(VerlError):
    """The critic's answer could not be parsed and ``critic.invalid`` is ``stop``."""


class SidecarLostError(VerlError):
    """The sidecar died and none took its place within the deadline."""


class QuestionFailedError(SidecarLostError):
    """One question to the critic gets no reply again and again, while others do."""


class RunFolderRemovedError(VerlError):
    """The run's folder, or one in it, was removed or moved while the run wrote into it."""


class SharedMemoryRemovedError(VerlError):
    """Somebody removed the run's files from /dev/shm, and what has ended since cannot be started again."""


class CriticBridgeError(VerlError):
    """The bridge to the critic cannot be used: no sidecar there, no memory, too many lanes, a foreign segment."""


class WeightsError(VerlError):
    """Weights that were handed over do not fit the rollout's policy, or not all of them have come."""


class RunFailedError(VerlError):
    """The run cannot go on: too many lost episodes, a failed worker, or an audit that was told to stop it."""


class NoAnswerError(RunFailedError):
    """A Ray actor did not answer within its time: it is stopped, or hangs in one call."""
