"""Rollout throughput against the plain way: ``python -m verl.bench``."""
