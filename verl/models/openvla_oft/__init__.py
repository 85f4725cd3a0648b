"""OpenVLA-OFT: the policy, its configuration and its errors."""

from verl.models.openvla_oft.config import PolicyConfig
from verl.models.openvla_oft.errors import (
    CheckpointError,
    ConfigError,
    InputError,
    NormStatsError,
    PolicyError,
)
from verl.models.openvla_oft.outputs import Evaluation, PolicyOutput
from verl.models.openvla_oft.policy import OpenVLAOFTPolicy

__all__ = [
    "CheckpointError",
    "ConfigError",
    "Evaluation",
    "InputError",
    "NormStatsError",
    "OpenVLAOFTPolicy",
    "PolicyConfig",
    "PolicyError",
    "PolicyOutput",
]
