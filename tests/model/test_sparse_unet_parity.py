"""Both sparse nets at full width against the reference cases, as module and with folded weights."""

import numpy as np
import pytest
import torch
from torch import Tensor

from xmask3d_rt.config import get_preset
from xmask3d_rt.kernels import build_unet_maps
from xmask3d_rt.model.sparse_unet import BinaryHead, PointEncoder
from xmask3d_rt.model.synthetic import synthetic_tensor
from xmask3d_rt.nets.sparse_unet import FoldedSparseUNet, fold_sparse_unet

CONFIG = get_preset("b15n4")
TOLERANCE = 5e-6  # relative L2 in float32; another order of summation moves them by 1e-6


def fill(net: torch.nn.Module, prefix: str) -> torch.nn.Module:
    state = {
        name: torch.from_numpy(synthetic_tensor("xmask3d", f"{prefix}.{name}", tensor.shape))
        for name, tensor in net.state_dict().items()
    }
    net.load_state_dict(state)
    return net.eval()


@pytest.fixture(scope="module")
def point_encoder():
    return fill(PointEncoder(CONFIG.point_encoder, CONFIG.clip.embed_dim), "pc_decoder")


@pytest.fixture(scope="module")
def binary_head():
    return fill(BinaryHead(CONFIG.binary_head), "pc_binary_head")


class Case:
    """One reference case, its voxels in a random order: any order must do."""

    def __init__(self, folder, name: str):
        inputs = np.load(folder / "golden" / f"case_{name}_inputs.npz")
        golden = np.load(folder / "golden" / f"case_{name}_golden.npz")
        self.golden = {
            key: torch.from_numpy(golden[key])
            for key in ("vox_rows", "bott_C", "bott_F", "enc_out_rows", "imp_condition")
            + ("pred_3d_vox_rows", "binary_logit_vox")
        }
        coords = torch.from_numpy(inputs["voxel_coords"])
        order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(0))
        self.maps = build_unet_maps(coords[order])
        self.feats = torch.from_numpy(inputs["voxel_feats"])[order]
        self.row_of = torch.argsort(order)  # of the released voxel order

    def check(self, name: str, ours: Tensor) -> None:
        expected = self.golden[name]
        assert ours.shape == expected.shape
        assert (ours - expected).norm() <= TOLERANCE * expected.norm(), name

    def check_nets(self, bottleneck: Tensor, encoded: Tensor) -> None:
        coarse = self.maps.coords[4]
        order = np.lexsort(coarse.numpy().T[::-1])
        assert torch.equal(coarse[order], self.golden["bott_C"])
        self.check("bott_F", bottleneck[order])
        self.check("enc_out_rows", encoded[self.row_of][self.golden["vox_rows"]])


@pytest.fixture(scope="module", params=["A", "C"])
def case(request, shared):
    return Case(shared, request.param)


@torch.no_grad()
def test_module_equals_released_nets(case, point_encoder, binary_head):
    out = point_encoder(case.feats, case.maps)
    case.check_nets(out["bottleneck"], out["enc_out"])
    case.check("imp_condition", out["imp_condition"])
    voxels = out["pred_3d"][case.row_of][case.golden["vox_rows"]]
    case.check("pred_3d_vox_rows", voxels)
    case.check("binary_logit_vox", binary_head(case.feats, case.maps)[case.row_of])


@torch.no_grad()
def test_folded_nets_equal_released_nets(case, point_encoder, binary_head):
    encoder = FoldedSparseUNet(fold_sparse_unet(point_encoder.encoder.state_dict()))
    case.check_nets(*encoder(case.feats, case.maps))
    head = FoldedSparseUNet(fold_sparse_unet(binary_head.encoder.state_dict()))
    encoded = head(case.feats, case.maps)[1]
    logits = binary_head.fc(torch.relu(binary_head.batch_norm(encoded))).squeeze(1)
    case.check("binary_logit_vox", logits[case.row_of])
