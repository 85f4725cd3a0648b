"""Supervised warm start of a policy on demonstrations: data, training, and its success in the simulator."""

from verl.models.warm_start.demonstrations import Demonstrations
from verl.models.warm_start.evaluate import success_rate
from verl.models.warm_start.train import TrainConfig, train

__all__ = ["Demonstrations", "TrainConfig", "success_rate", "train"]
