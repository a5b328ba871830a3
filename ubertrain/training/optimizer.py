"""The optimizer and its learning rate as functions of the configuration."""

import math

import torch
from torch import nn

from ubertrain.training.config import LrScheduleConfig, OptimizerConfig


def make_optimizer(graph: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """An optimizer over what `graph` trains, in four groups: trunk and heads, with and without weight decay.

    Every group has the entry "top_lr", its learning rate at the top of the schedule. Vectors (biases, the scales of norms) do
    not decay: shrinking them only fights what the norm re-scales.
    """
    kinds = [(part, decay) for part in ("trunk", "heads") for decay in (True, False)]
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {kind: [] for kind in kinds}
    for name, parameter in graph.named_parameters():
        if parameter.requires_grad:
            groups["trunk" if name.startswith("trunk.") else "heads", parameter.ndim > 1].append(parameter)
    settings = []
    for (part, decay), parameters in groups.items():
        lr = config.lr * (config.head_lr if part == "heads" else 1.0)
        weight_decay = config.weight_decay if decay else 0.0
        settings.append({"params": parameters, "lr": lr, "top_lr": lr, "weight_decay": weight_decay})
    settings = [group for group in settings if group["params"]]
    if config.type == "adamw":
        return torch.optim.AdamW(settings, betas=(config.momentum, 0.999))
    return torch.optim.SGD(settings, momentum=config.momentum)


def lr_factor(config: LrScheduleConfig, step: int, steps: int) -> float:
    """The learning rate of step `step` (0 is the first) of `steps`, as a share of its top.

    During warm-up it is (step + 1) / (warmup + 1). Then, with t from 0 to 1 over the steps that are left, it is (1 - t)^power
    for "poly" (Chen et al., DeepLab, arXiv:1606.00915, section 4.1), (1 + cos(pi t)) / 2 for "cosine", 1 for "constant".
    """
    if step < config.warmup:
        return (step + 1) / (config.warmup + 1)
    if config.type == "constant":
        return 1.0
    t = min((step - config.warmup) / max(steps - config.warmup, 1), 1.0)
    return (1 - t) ** config.power if config.type == "poly" else (1 + math.cos(math.pi * t)) / 2


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its top."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["top_lr"]
