"""The latency benchmark: ``python -m shm_bridge.bench``."""
