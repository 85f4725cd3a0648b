"""The engines, one adapter a file, chosen by name; see :mod:`sidecar.engines.registry`."""
