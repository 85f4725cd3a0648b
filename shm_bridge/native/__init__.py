"""The native backend: the ordinary question's way through the bridge, compiled. See ``shm_bridge.backend``."""
