"""Sparse operators on a GPU against their torch references on the CPU."""

import pytest
import torch
from torch import Tensor

from tests.kernels.clouds import random_voxels
from xmask3d_rt.config import get_preset
from xmask3d_rt.kernels import Epilogue, UNetMaps, build_unet_maps, sparse_conv, voxelize
from xmask3d_rt.model.sparse_unet import MinkUNet
from xmask3d_rt.nets.sparse_unet import FoldedSparseUNet, fold_sparse_unet

pytestmark = pytest.mark.gpu
# Relative L2: another order of summation; one rounding of inputs that were rounded alike.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def relative(ours: Tensor, theirs: Tensor) -> float:
    ours, theirs = ours.detach().cpu().double(), theirs.detach().double()
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("n", [0, 1, 31, 99991])
def test_voxelize(n):
    torch.manual_seed(n)
    points, batch = torch.randn(n, 3), torch.randint(0, 3, (n,))
    expected = voxelize(points, 0.02, batch)
    for ours, theirs in zip(voxelize(points.cuda(), 0.02, batch.cuda()), expected, strict=True):
        assert torch.equal(ours.cpu(), theirs)


def test_voxelize_rejects_what_the_cpu_rejects():
    with pytest.raises(ValueError, match="voxel coordinates must lie in"):
        voxelize(torch.full((4, 3), 1e9).cuda(), 0.02)


def assert_same_maps(ours: UNetMaps, theirs: UNetMaps) -> None:
    for a, b in zip(ours.coords, theirs.coords, strict=True):
        assert torch.equal(a.cpu(), b)
    for name in ("conv", "down", "up"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert torch.equal(a.neighbors.cpu(), b.neighbors)
            for part, expected in zip(a.plan, b.plan, strict=True):
                assert torch.equal(part.cpu(), expected)
    assert torch.equal(ours.stem.neighbors.cpu(), theirs.stem.neighbors)


@pytest.mark.parametrize("n", [0, 1, 31, 30000])
def test_unet_maps(n):
    coords = random_voxels(n, batches=2)
    coords = coords[torch.randperm(len(coords))]
    assert_same_maps(build_unet_maps(coords.cuda()), build_unet_maps(coords))


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(
    ("kind", "channels", "skip_channels", "out_channels"),
    [
        ("conv", 96, 32, 96),
        ("conv", 64, 64, 128),
        ("conv", 17, 5, 9),
        ("stem", 3, 0, 32),
        ("down", 32, 0, 32),
        ("up", 128, 0, 96),
        ("1x1", 96, 0, 256),
    ],
)
def test_sparse_conv_and_gradients(kind, channels, skip_channels, out_channels, dtype):
    coords = random_voxels(6000)
    torch.manual_seed(0)
    outputs = []
    for device in ("cuda", "cpu"):
        maps = build_unet_maps(coords.to(device), levels=1)
        kernel_map = {"conv": maps.conv[0], "stem": maps.stem, "down": maps.down[0]}.get(kind)
        kernel_map = maps.up[0] if kind == "up" else kernel_map
        rows = maps.coords[1 if kind == "up" else 0].shape[0]
        rows_out = rows if kernel_map is None else kernel_map.neighbors.shape[0]
        volume = 1 if kernel_map is None else kernel_map.neighbors.shape[1]
        generator = torch.Generator().manual_seed(0)
        shapes = [(rows, channels), (rows, skip_channels), (rows_out, out_channels)]
        shapes += [(volume, channels + skip_channels, out_channels)]
        values = [torch.randn(s, generator=generator).to(dtype) for s in shapes]
        feats, skip, residual, weight = (v.to(device).requires_grad_() for v in values)
        both = (feats, skip) if skip_channels else feats
        out = sparse_conv(both, weight, kernel_map, Epilogue(None, residual, relu=True))
        inputs = [feats, residual, weight] + ([skip] if skip_channels else [])
        target = torch.linspace(-1, 1, out_channels, device=device, dtype=dtype)
        outputs.append([out, *torch.autograd.grad(out, inputs, target.expand_as(out).clone())])
    for ours, theirs in zip(*outputs, strict=True):
        assert relative(ours, theirs) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_folded_net(dtype):
    torch.manual_seed(0)
    folded = fold_sparse_unet(MinkUNet(get_preset("b15n4").binary_head).eval().state_dict())
    coords = random_voxels(20000)
    feats = torch.rand(len(coords), 3) * 2 - 1
    theirs = FoldedSparseUNet(folded)(feats, build_unet_maps(coords))
    net = FoldedSparseUNet(folded, "cuda", dtype)
    ours = net(feats.cuda(), build_unet_maps(coords.cuda()))
    for a, b in zip(ours, theirs, strict=True):
        assert relative(a, b) <= 10 * TOLERANCE[dtype]  # fifty layers


def test_folded_net_in_a_graph():
    folded = fold_sparse_unet(MinkUNet(get_preset("tiny").binary_head).eval().state_dict())
    net = FoldedSparseUNet(folded, "cuda", torch.float16)
    coords = random_voxels(2000).cuda()
    maps = build_unet_maps(coords)
    feats = torch.rand(len(coords), 3, device="cuda")
    expected = net(feats, maps)[1]
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = net(feats, maps)[1]
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(captured, expected)
