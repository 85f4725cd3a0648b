"""Looks at runs without disturbing them; removes what dead ones left."""

from shm_bridge.liveness.cleaning import clean_all, clean_run

__all__ = ["clean_all", "clean_run"]
