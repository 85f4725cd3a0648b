"""Everything that can be wrong with a policy checkpoint or its use; one class per failure."""

from __future__ import annotations


class PolicyError(Exception):
    """Base of the errors of this package."""


class ConfigError(PolicyError):
    """A key of a checkpoint's configuration is missing or has a value that is not allowed."""


class CheckpointError(PolicyError):
    """A checkpoint's files are missing, unreadable, or hold other tensors than the configuration asks for."""


class NormStatsError(PolicyError):
    """The statistics that un-normalise actions are missing, or lack the key that was asked for."""


class InputError(PolicyError):
    """Images, instructions, proprioception or tokens of a shape or type that the policy cannot take."""
