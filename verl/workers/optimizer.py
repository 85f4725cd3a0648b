"""The learner's optimizer: AdamW, with a rate of their own for adapters and for the value head."""

from __future__ import annotations

import torch
from torch import nn

from verl.config import OptimConfig


def make_optimizer(policy: nn.Module, optim: OptimConfig) -> torch.optim.AdamW:
    """Over what is trained. Each group keeps its rate before warm-up in ``rate``.

    ``optim.lora_lr`` is the policy's rate where it has adapters: rates that suit all weights starve two thin matrices.
    """
    named = [(n, p) for n, p in policy.named_parameters() if p.requires_grad]
    adapted = any(".lora_" in name for name, _ in named)
    rates = {False: optim.lora_lr if adapted else optim.lr, True: optim.value_lr}
    groups = []
    for head, rate in rates.items():
        if parameters := [p for n, p in named if n.startswith("value_head.") == head]:
            groups.append({"params": parameters, "lr": rate, "rate": rate})
    return torch.optim.AdamW(groups, weight_decay=optim.weight_decay, betas=optim.betas, eps=optim.eps)
