"""The full-size module with synthetic weights against the recorded reference cases."""

from pathlib import Path

import numpy as np
import pytest
import torch

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.labelling import label_views
from xmask3d_rt.model.synthetic import fill_synthetic
from xmask3d_rt.model.xmask3d import FEATURE_NAMES, ViewBatch, XMask3D

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
MAX_SIGN_FLIPS = 50  # of 819,200 mask logits: image noise of 1e-6 flips that many
MIN_AGREEMENT = 0.9995
PATCH_FLIP = 5e-3  # one changed patch bit changes what a mask token attends to
TOLERANCE = {
    "imp_condition": 5e-6,
    "binary_logit": 5e-6,
    "cond_inputs": 5e-6,
    "cond_emb": 5e-6,
    "latent": 1e-5,
    "noisy_latent": 1e-5,
    **dict.fromkeys((*FEATURE_NAMES, "s2", "s3", "s4", "s5", "ms0", "ms1", "ms2"), 1e-5),
    "mask_features": 2e-5,
    "pred_masks": 1e-4,
    "mask_pooled_features": 5e-4,
    "mask_embed": 5e-4,
    "pred_logits": 5e-4,
    "mask_embed_clip": 2e-5,
}

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not GOLDEN.exists(), reason="shared/golden is not next to the repository"),
]


@pytest.fixture(scope="module")
def model():
    model = XMask3D(get_preset("b15n4"))
    fill_synthetic(model)
    model.diffusion.embed_empty_prompt()
    return model.eval()


def load(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def make_batch(inputs, golden):
    point_to_voxel = torch.from_numpy(inputs["inds_reconstruct"]).long()
    return ViewBatch(
        images=torch.from_numpy(inputs["image_512"]).permute(2, 0, 1)[None].float() / 255,
        coords=torch.from_numpy(inputs["voxel_coords"]),
        colors=torch.from_numpy(inputs["voxel_feats"]),
        point_to_voxel=point_to_voxel,
        point_view=torch.zeros_like(point_to_voxel),
        row=torch.from_numpy(inputs["x_label"]).long(),
        col=torch.from_numpy(inputs["y_label"]).long(),
        text_embed=torch.from_numpy(golden["text_embed"]),
        text_class=torch.arange(len(golden["text_embed"])),
    )


def relative_l2(got, want):
    want = want.astype(np.float64)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def sample(name, tensor, golden):
    """(got, want) of equal shape; the reference kept strided samples of the large maps."""
    stored = f"sd_feat{FEATURE_NAMES.index(name)}" if name in FEATURE_NAMES else name
    if f"{stored}_sub" not in golden:
        stored = {"binary_logit": "binary_logit_vox"}.get(name, name)
        return tensor.numpy().reshape(golden[stored].shape), golden[stored]
    want = golden[f"{stored}_sub"]
    if f"{stored}_stride" in golden:
        steps = golden[f"{stored}_stride"]
    else:
        steps = [size // kept for size, kept in zip(tensor.shape[1:], want.shape, strict=True)]
    slices = tuple(slice(None, None, int(step)) for step in steps)
    return tensor[0].numpy()[slices], want


@pytest.mark.parametrize("case", ["A", "C"])
@torch.no_grad()
def test_every_intermediate_and_the_labels(model, case):
    golden, inputs = load(f"case_{case}_golden"), load(f"case_{case}_inputs")
    batch = make_batch(inputs, golden)
    output = model(batch)
    named = output.named()
    masks = named["pred_masks"][0].numpy()
    flips = int(((masks > 0) != (golden["pred_masks"] > 0)).sum())
    limits = TOLERANCE | ({"mask_embed_clip": PATCH_FLIP} if flips else {})
    errors = {name: relative_l2(*sample(name, named[name], golden)) for name in limits}
    print(f"case {case}: {flips} sign flips", *(f"{n} {e:.1e}" for n, e in errors.items()))
    wrong = {name: error for name, error in errors.items() if not error <= limits[name]}
    assert wrong == {}
    assert flips <= MAX_SIGN_FLIPS
    rows = named["pred_3d"].numpy()[golden["vox_rows"]]
    assert relative_l2(rows, golden["pred_3d_vox_rows"]) <= 5e-6

    split = model.config.split
    is_base = torch.tensor([name in split.base_names for name in split.names])
    visible = inputs["mapping"][:, 2].astype(bool)
    points = torch.from_numpy(inputs["points_xyz"][visible])
    [(assignment, labels)] = label_views(model, batch, output, points, is_base)
    np.testing.assert_array_equal(assignment.kept, golden["keep_full"])
    np.testing.assert_array_equal(assignment.final.nonzero()[:, 0], golden["final_keep_query"])
    for head, got in (("fused", labels.fused), ("2d", labels.two_d), ("3d", labels.three_d)):
        equal = float((got.numpy() == golden[f"label_{head}"]).mean())
        print(f"case {case}: {head} labels {equal:.4%} equal")
        assert equal >= MIN_AGREEMENT, head


@torch.no_grad()
def test_auxiliary_heads(model):
    golden, inputs = load("case_A_golden"), load("case_A_inputs")
    output = model(make_batch(inputs, golden))
    predictor = model.sem_seg_head.predictor
    queries = predictor.decode(output.levels, output.mask_features)[:-1]
    masks = torch.cat([predictor.predict_masks(q, output.mask_features) for q in queries])
    share = (masks > 0).float().mean((2, 3)).numpy()
    assert np.abs(share - golden["aux_pred_masks_posfrac"]).max() * masks[0, 0].numel() <= 5
    np.testing.assert_allclose(masks.mean((2, 3)).numpy(), golden["aux_pred_masks_mean"], atol=1e-3)


def test_empty_prompt(model):
    want = load("common")["uncond_inputs"]
    assert relative_l2(model.diffusion.uncond_inputs.numpy(), want) <= 5e-6


def test_shared_noise(model):
    np.testing.assert_array_equal(
        model.diffusion.noise.numpy(), load("shared_noise")["shared_noise"]
    )
