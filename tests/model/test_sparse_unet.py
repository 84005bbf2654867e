"""The sparse UNets: folded runtime against the module, gradients, and the condition per item."""

import pytest
import torch

from xmask3d_rt.config import get_preset
from xmask3d_rt.errors import EngineError
from xmask3d_rt.kernels import build_unet_maps
from xmask3d_rt.model.sparse_unet import BinaryHead, MinkUNet, PointEncoder
from xmask3d_rt.nets.sparse_unet import FoldedSparseUNet, fold_sparse_unet

CONFIG = get_preset("tiny")


def make_voxels(items: int = 1, count: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    coords = []
    for item in range(items):
        cells = torch.randperm(12**3, generator=generator)[:count]
        xyz = torch.stack([cells // 144, cells // 12 % 12, cells % 12], dim=1)
        coords.append(torch.cat([torch.full((count, 1), item), xyz], dim=1))
    stacked = torch.cat(coords).to(torch.int32)
    return stacked, torch.rand(len(stacked), 3, generator=generator) * 2 - 1


def randomize_norms(net: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            for tensor in (module.weight, module.running_var):
                tensor.data = 0.5 + torch.rand(tensor.shape, generator=generator)
            for tensor in (module.bias, module.running_mean):
                tensor.data = torch.randn(tensor.shape, generator=generator) * 0.1


@pytest.mark.parametrize("config", [CONFIG.point_encoder, CONFIG.binary_head])
def test_folded_net_equals_module(config):
    net = MinkUNet(config).eval()
    randomize_norms(net)
    coords, feats = make_voxels()
    maps = build_unet_maps(coords)
    with torch.no_grad():
        want = net(feats, maps)
    got = FoldedSparseUNet(fold_sparse_unet(net.state_dict()))(feats, maps)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        assert torch.linalg.norm(a - b) <= 5e-6 * torch.linalg.norm(b)


def test_items_of_a_batch_are_independent():
    encoder = PointEncoder(CONFIG.point_encoder, CONFIG.clip.embed_dim).eval()
    coords, feats = make_voxels(items=2)
    with torch.no_grad():
        both = encoder(feats, build_unet_maps(coords))
        for item in range(2):
            rows = coords[:, 0] == item
            alone = coords[rows].clone()
            alone[:, 0] = 0
            single = encoder(feats[rows], build_unet_maps(alone))
            torch.testing.assert_close(both["imp_condition"][item], single["imp_condition"][0])
            torch.testing.assert_close(both["pred_3d"][rows], single["pred_3d"])


def test_gradients_reach_every_parameter():
    encoder = PointEncoder(CONFIG.point_encoder, CONFIG.clip.embed_dim).train()
    head = BinaryHead(CONFIG.binary_head).train()
    coords, feats = make_voxels(items=2)
    maps = build_unet_maps(coords)
    out = encoder(feats, maps)
    loss = out["imp_condition"].square().sum() + out["pred_3d"].square().sum()
    (loss + head(feats, maps).square().sum()).backward()
    silent = [
        name
        for net in (encoder, head)
        for name, p in net.named_parameters()
        if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert not silent


def test_incomplete_net_rejected(tmp_path):
    folded = fold_sparse_unet(MinkUNet(CONFIG.binary_head).state_dict())
    del folded["conv2p2s2.weight"]
    with pytest.raises(EngineError, match="conv2p2s2"):
        FoldedSparseUNet(folded)
    with pytest.raises(EngineError, match="cannot read"):
        FoldedSparseUNet.load(tmp_path / "none.safetensors")
