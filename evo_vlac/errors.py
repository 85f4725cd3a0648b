"""The exceptions of this package, one class per failure."""

from __future__ import annotations


class EvoVlacError(Exception):
    """Base of every error that this package raises on purpose."""


class PromptError(EvoVlacError, ValueError):
    """A prompt cannot be filled: an unknown key, an empty task, a slot or an image that is missing."""


class ImageError(EvoVlacError, ValueError):
    """Something given as an image is not one: a missing file, a broken file, a wrong dtype or shape."""


class OptionError(EvoVlacError, ValueError):
    """An option has a value that is not allowed; the message names the option, the value and what is
    allowed."""


class CheckpointError(EvoVlacError):
    """A checkpoint or adapter cannot be used: missing, incomplete, or of another architecture."""


class RemoteCodeCheckpoint(CheckpointError):
    """The checkpoint needs its own modelling code, which the installed transformers runs wrongly."""


class EngineError(EvoVlacError):
    """The model could not be run."""


class OutOfMemoryError(EngineError):
    """The model does not fit on its device. What else is there may become free: worth another try."""


class VideoError(EvoVlacError):
    """A video cannot be read or written."""


class DatasetError(EvoVlacError):
    """A dataset is missing, of an unknown layout, or broken."""


class OutputError(EvoVlacError):
    """A result cannot be written where it was asked for."""


class TrainingError(EvoVlacError):
    """Fine-tuning failed; the message carries the end of its log."""
