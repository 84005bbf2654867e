"""Means of the losses and IoU over the training points of an epoch, over all processes.

What is under way goes into checkpoints summed over the processes; a run that is resumed gives it to
its first process.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from xmask3d_rt.kernels import mask_class_logits
from xmask3d_rt.model.fusion import PointFeatures
from xmask3d_rt.training.ranks import rank, sum_over_ranks, world_size

HEADS = ("fused", "2d", "3d")


class LossMeans:
    """Running means of weighted losses; nothing waits for a GPU until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the losses of a step."""
        for name, value in values.items():
            value = value.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def read(self) -> dict[str, float]:
        """Means over steps and processes, with their sum as `total`; starts anew."""
        if not self._count:
            return {}
        sums = sum_over_ranks(torch.stack(list(self._sums.values())))
        means = (sums / (self._count * world_size())).tolist()
        named = dict(zip(self._sums, means, strict=True))
        self._sums, self._count = {}, 0
        return named | {"total": sum(means)}

    def state_dict(self) -> dict[str, Any]:
        """What was added since the last reading, over all processes."""
        sums = {name: sum_over_ranks(value).cpu() for name, value in self._sums.items()}
        return {"sums": sums, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from `state_dict`, with sums on a device."""
        own = int(rank() == 0)
        self._sums = {name: own * value.to(device) for name, value in state["sums"].items()}
        self._count = state["count"]


class TrainingIoU:
    """IoU of points with a training label, over the base classes, for the three heads.

    The label is the arg-max over the base classes and "no object", without gating.

    Args:
        classes: base classes C.
        device: where counts are kept.
    """

    def __init__(self, classes: int, device: torch.device) -> None:
        self._classes = classes
        # per head: intersection, prediction, target
        self._counts = torch.zeros(len(HEADS), 3, classes, dtype=torch.int64, device=device)

    @torch.no_grad()
    def add(
        self,
        points: PointFeatures,
        labels: Tensor,
        text_embed: Tensor,
        text_class: Tensor,
        null_embed: Tensor,
    ) -> None:
        """Count the points of a step.

        Args:
            points: features [n, E].
            labels: [n] in 0..C, C = ignored.
            text_embed, text_class, null_embed: what features are compared with.
        """
        known = labels < self._classes
        target = labels[known]
        feats = {"fused": points.fused, "2d": points.two_d, "3d": points.three_d}
        for count, name in zip(self._counts, HEADS, strict=True):
            logits = mask_class_logits(
                feats[name][known], text_embed, text_class, self._classes, null_embed, 1.0
            )
            label = logits.argmax(1)  # [n], C = no object
            hit = torch.where(label == target, label, self._classes)
            for row, values in zip(count, (hit, label, target), strict=True):
                row += torch.bincount(values, minlength=self._classes + 1)[: self._classes]

    def read(self) -> dict[str, float]:
        """Mean IoU in percent of the classes that occur, by head; starts anew."""
        counts = sum_over_ranks(self._counts)
        self._counts.zero_()
        hit, predicted, target = counts.double().unbind(1)
        union = predicted + target - hit
        occurs = target > 0
        iou = 100 * hit / union.clamp(min=1) * occurs
        means = iou.sum(1) / occurs.sum(1).clamp(min=1)
        return dict(zip(HEADS, means.tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        """What was counted since the last reading, over all processes."""
        return {"counts": sum_over_ranks(self._counts).cpu()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._counts.copy_(int(rank() == 0) * state["counts"])
