"""Hours of faults in minutes: ``python -m shm_bridge.soak``."""
