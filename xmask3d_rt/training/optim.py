"""The optimiser and its learning rates.

AdamW in two groups: the sparse nets (`lr_3d`) and everything else that is trained (`lr_others`).
Both rates fall along half a cosine, without warm-up:

    lr(n) = base · ½ · (1 + cos(π · n / total)),  n = iterations done
"""

import math

import torch
from torch import nn

from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.training.config import OptimSettings

SPARSE_NETS = ("pc_decoder.", "pc_binary_head.")


def is_sparse(name: str) -> bool:
    """Whether a parameter belongs to the group of the sparse nets."""
    return name.startswith(SPARSE_NETS)


def named_trained(model: XMask3D) -> list[tuple[str, nn.Parameter]]:
    """Trained parameters in the optimiser's order: the sparse nets, then the others."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return sorted(trained, key=lambda item: not is_sparse(item[0]))


def make_optimizer(model: XMask3D, settings: OptimSettings) -> torch.optim.AdamW:
    """AdamW over everything trained, norms and biases decayed like the rest.

    Args:
        model: on its device.
        settings: rates and decay.
    """
    trained = named_trained(model)
    groups = [
        {"params": [p for name, p in trained if is_sparse(name)], "lr": settings.lr_3d},
        {"params": [p for name, p in trained if not is_sparse(name)], "lr": settings.lr_others},
    ]
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay)


def cosine_rate(base: float, done: int, total: int) -> float:
    """Learning rate after `done` of `total` iterations."""
    return base * 0.5 * (1 + math.cos(math.pi * done / total))


def set_rates(
    optimizer: torch.optim.Optimizer, settings: OptimSettings, done: int, total: int
) -> tuple[float, float]:
    """Set the rates of the next iteration.

    Returns:
        (lr_3d, lr_others).
    """
    rates = (
        cosine_rate(settings.lr_3d, done, total),
        cosine_rate(settings.lr_others, done, total),
    )
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    return rates
