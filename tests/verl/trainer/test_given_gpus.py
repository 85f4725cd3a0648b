"""Ray gives GPUs that torch does not see: the run ends with a line that says why, before anything is loaded."""

from __future__ import annotations

import dataclasses

import pytest

from tests.support.own_ray import own_ray
from tests.verl.workers.test_learner import options
from verl.errors import RunFailedError
from verl.trainer.heartbeat import LearnerWatch, reporting
from verl.workers.learner import Learner


def test_a_learner_with_a_gpu_that_torch_does_not_see_ends_the_run(monkeypatch):
    """It trained on the CPU. The line has the versions, and no traceback of Ray's."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with own_ray(gpus=1):
        given = dataclasses.replace(options("nowhere"), gpus=1.0)
        learner = reporting(Learner).options(num_cpus=1, num_gpus=1).remote(given, 0, 1, "127.0.0.1:1")
        with pytest.raises(RunFailedError, match=r"a learner could not be made: .*gave this actor 1 GPU") as caught:
            LearnerWatch([learner], print, 60.0).start(120)
    told = str(caught.value)
    assert "\n" not in told and "torch" in told and "NVIDIA driver" in told
