"""Batch normalisation over the voxels of all processes; for CPUs and GPUs alike."""

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class SyncBatchNorm(nn.BatchNorm1d):
    """BatchNorm whose batch is that of all processes together, however many rows each has."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise rows [M, C]."""
        if not self.training:
            return super().forward(input)
        rows = input.float()
        totals = torch.cat([rows.sum(0), rows.new_full((1,), len(rows))])
        totals = all_reduce(totals)
        count = totals[-1].detach()
        mean = totals[:-1] / count
        centred = rows - mean
        variance = all_reduce((centred * centred).sum(0)) / count
        self._update(mean.detach(), variance.detach() * count / (count - 1))
        out = centred * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return out.to(input.dtype)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of this batch."""
        momentum = 0.1 if self.momentum is None else self.momentum
        for running, value in ((self.running_mean, mean), (self.running_var, variance)):
            if running is not None:
                running.lerp_(value, momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


def synchronise_batch_norm(module: nn.Module) -> None:
    """Replace every BatchNorm1d in a module by a `SyncBatchNorm` of the same parameters."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm1d:
            replaced = SyncBatchNorm(child.num_features, child.eps, child.momentum)
            replaced.load_state_dict(child.state_dict())
            setattr(module, name, replaced.to(child.weight.device))
        else:
            synchronise_batch_norm(child)
