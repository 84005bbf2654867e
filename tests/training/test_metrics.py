"""Means and counts between two reports, and across a checkpoint."""

import torch

from xmask3d_rt.model.fusion import PointFeatures
from xmask3d_rt.training.metrics import LossMeans, TrainingIoU

CPU = torch.device("cpu")


def test_means_go_on_where_a_checkpoint_was_made():
    whole, first, second = LossMeans(), LossMeans(), LossMeans()
    values = torch.rand(3, 2, generator=torch.Generator().manual_seed(0))
    steps = [{"loss_a": a, "loss_b": b} for a, b in values]
    for means, part in ((whole, steps), (first, steps[:2])):
        for step in part:
            means.add(step)
    second.load_state_dict(first.state_dict(), CPU)
    second.add(steps[2])
    expected = values.double().mean(0).tolist()
    found = whole.read()
    assert [found["loss_a"], found["loss_b"], found["total"]] == [*expected, sum(expected)]
    assert second.read() == found
    assert second.read() == {}


def test_counts_go_on_where_a_checkpoint_was_made():
    embed = torch.eye(3)  # two classes and "no object"
    feats = embed[[0, 0, 1, 2]]
    points = PointFeatures(feats, feats, feats, torch.ones(4, dtype=torch.bool))
    labels = torch.tensor([0, 1, 1, 2])  # the last is ignored
    first, second = TrainingIoU(2, CPU), TrainingIoU(2, CPU)
    first.add(points, labels, embed[:2], torch.arange(2), embed[2:])
    second.load_state_dict(first.state_dict())
    assert second.read() == dict.fromkeys(("fused", "2d", "3d"), 50.0)
    assert second.read() == dict.fromkeys(("fused", "2d", "3d"), 0.0)
