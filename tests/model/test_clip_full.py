"""ViT-L-14 with synthetic weights against the recorded text and mask embeddings."""

import numpy as np
import pytest
import torch

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.clip import Clip
from xmask3d_rt.model.synthetic import synthetic_tensor
from xmask3d_rt.text.tokenizer import tokenize

pytestmark = pytest.mark.full
CONFIG = get_preset("b15n4")


@pytest.fixture(scope="module")
def golden(shared):
    return shared / "golden"


@pytest.fixture(scope="module")
def clip():
    model = Clip(CONFIG.clip).eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            tensor.copy_(torch.from_numpy(synthetic_tensor("clip", key, tensor.shape)))
    return model


def relative_l2(got, want):
    return float(np.linalg.norm(got.double().numpy() - want) / np.linalg.norm(want))


@pytest.mark.parametrize(
    ("names", "recorded"),
    [
        (CONFIG.split.names, "text_embed_19"),
        (CONFIG.split.base_names, "text_embed_15_train"),
        (("",), "empty_text_embed_open_clip"),
    ],
)
@torch.no_grad()
def test_text_embeddings(names, recorded, clip, golden):
    embed = clip.encode_text(tokenize(list(names)))
    assert relative_l2(embed, np.load(golden / "common.npz")[recorded]) <= 5e-6


@pytest.mark.parametrize("case", ["A", "C"])
@torch.no_grad()
def test_mask_embeddings_of_recorded_masks(case, clip, golden):
    """With the reference's own masks no patch bit can flip, so the tight tolerance holds."""
    recorded = np.load(golden / f"case_{case}_golden.npz")
    image = torch.from_numpy(np.load(golden / f"case_{case}_inputs.npz")["image_512"])
    image = image.permute(2, 0, 1)[None].float() / 255
    masks = torch.from_numpy(recorded["pred_masks"])[None]
    embed = clip.encode_masks(image, masks)[0]
    assert relative_l2(embed, recorded["mask_embed_clip"]) <= 2e-5


def test_temperature(clip, golden):
    recorded = np.load(golden / "case_A_golden.npz")["logit_scale"]
    assert clip.temperature().item() == pytest.approx(float(recorded), rel=1e-6)
