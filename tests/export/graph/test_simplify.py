"""Simplified graphs are those of torch's own optimisation."""

import onnx_ir as ir
import pytest
import torch
from onnxscript import optimizer
from torch import nn
from torch.nn import functional as F

from xmask3d_rt.export.graph.simplify import simplify


class Block(nn.Module):
    """Much of what the components are made of, with no-ops and twins between."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, bias=False)
        self.norm = nn.GroupNorm(2, 8)
        self.project = nn.Linear(8, 8)

    def forward(self, x):
        h = self.norm(self.conv(F.pad(x, (1, 1, 1, 1)))) * 1 / 1.0
        tokens = h.flatten(2).transpose(1, 2)
        twin = self.project(tokens.transpose(1, 2).transpose(1, 2))
        attended = F.scaled_dot_product_attention(twin[:, None], tokens[:, None], tokens[:, None])
        out = attended.squeeze(1).float().reshape(1, -1).reshape(1, 8, -1) + twin.mT
        return out.unsqueeze(0).unsqueeze(0).expand(1, 1, 1, 8, out.shape[-1]), x[:, :, :2, 1:]


@pytest.fixture(scope="module")
def program():
    """As the exporter leaves it."""
    x = torch.randn(1, 4, 8, 8)
    return torch.onnx.export(
        Block().eval(), (x,), dynamo=True, opset_version=18, optimize=False, verbose=False
    )


def test_graphs_are_those_of_the_whole_optimisation(program):
    message = ir.serde.serialize_model(program.model)
    ours, theirs = (ir.serde.deserialize_model(message) for _ in range(2))
    simplify(ours)
    optimizer.optimize_ir(theirs)
    nodes = [len(list(model.graph.all_nodes())) for model in (program.model, ours)]
    assert nodes[1] < nodes[0] / 2
    ours, theirs = (
        ir.serde.serialize_model(model).SerializeToString(deterministic=True)
        for model in (ours, theirs)
    )
    assert ours == theirs
