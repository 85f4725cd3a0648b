"""Minutes of kills: ``python -m shm_bridge.soak``."""
