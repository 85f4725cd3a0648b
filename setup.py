"""The one thing pyproject.toml cannot say: native code is compiled where there is a compiler, and else not."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("shm_bridge.native._native", ["shm_bridge/native/_native.pyx"], optional=True)])
