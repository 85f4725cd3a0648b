"""The one thing pyproject.toml cannot say: the bridge's helper is compiled where there is a compiler, and else not."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("shm_bridge._native", ["shm_bridge/_native.pyx"], optional=True)])
