"""How the learner's copy is sharded: what its collectives run on."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from verl.trainer.load_config import load_config
from verl.workers.sharded_policy import backends


@pytest.mark.parametrize(
    ("device", "offload", "expected"),
    [("cpu", False, "gloo"), ("cpu", True, "gloo"), ("cuda", False, "nccl"), ("cuda", True, "cpu:gloo,cuda:nccl")],
)
def test_offloaded_parameters_have_a_backend_that_reduces_main_memory(device, offload, expected):
    """The gradient's norm is summed where the gradients are; NCCL alone raised at the first step."""
    fsdp = dataclasses.replace(load_config([])[0].actor.fsdp_config, param_offload=offload)
    assert backends(torch.device(device), fsdp) == expected
