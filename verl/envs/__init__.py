"""Simulated environments, the processes they live in, and the pool that hands out episodes."""
