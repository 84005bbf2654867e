"""Parts of the full-size model against outputs of the released code that are small enough to keep.

`data/reference_parts.npz` holds them; `data/make_reference_parts.py` says what they are. Weights
come from the synthetic rule, layer by layer, so nothing here needs the whole model.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from xmask3d_rt.config import get_preset
from xmask3d_rt.export.build.modules import build_text_tower, load_weights, skip_initialization
from xmask3d_rt.export.build.tensors import head_shapes
from xmask3d_rt.export.build.weights import SyntheticWeights
from xmask3d_rt.export.parity.compare import relative_l2
from xmask3d_rt.export.parity.limits import STAGES
from xmask3d_rt.kernels import (
    build_label_tables,
    finish_votes,
    label_points,
    make_votes,
    mask_class_logits,
    vote,
)
from xmask3d_rt.model.fusion import Fuser
from xmask3d_rt.model.mask_decoder import PooledMaskEmbed
from xmask3d_rt.model.projections import ConditionProjection
from xmask3d_rt.nets.heads import HEAD_TENSORS, Heads
from xmask3d_rt.text.tokenizer import tokenize

DATA = Path(__file__).parent / "data" / "reference_parts.npz"
CONFIG = get_preset("b15n4")
CLASSES = len(CONFIG.split.names)
POSITIONS = [0, 1, 40, 76]
EMBED = CONFIG.clip.embed_dim


@pytest.fixture(scope="module")
def reference():
    with np.load(DATA) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def heads():
    shapes, weights = head_shapes(CONFIG), SyntheticWeights()
    return Heads({name: weights.read(name, shapes[name]) for name in HEAD_TENSORS})


def load(build, prefix):
    """A module with synthetic weights."""
    with skip_initialization():
        module = build()
    load_weights(module, SyntheticWeights(), lambda name: prefix + name)
    return module.eval().requires_grad_(False)


def assert_close(got, want, limit):
    assert relative_l2(got.numpy(), want.numpy()) <= limit


def test_condition_is_the_maximum_over_coarse_voxels(heads, reference):
    got = heads.condition(reference["bott_F"])
    assert_close(got, reference["imp_condition"], STAGES["imp_condition"].limit)


def test_order_of_coarse_voxels_does_not_matter(heads, reference):
    flipped = heads.condition(reference["bott_F"].flip(0))
    assert_close(flipped, reference["imp_condition"], STAGES["imp_condition"].limit)


def test_condition_of_the_unet(reference):
    projection = load(lambda: ConditionProjection(CONFIG), "backbone.feature_extractor.")
    uncond = torch.zeros(1, CONFIG.diffusion.context_length, CONFIG.diffusion.context_dim)
    uncond[:, POSITIONS] = reference["uncond_inputs"]
    cond_inputs, cond_emb = projection(reference["imp_condition"], uncond)
    limit = STAGES["cond_inputs"].limit
    assert_close(cond_inputs[:, POSITIONS], reference["cond_inputs"], limit)
    assert_close(cond_emb, reference["cond_emb"], limit)


@pytest.mark.slow
def test_text_embeddings(reference):
    names = ["wall", "shower curtain"]
    clip = load(lambda: build_text_tower(CONFIG.clip), "clip.")
    rows = [CONFIG.split.names.index(name) for name in names]
    want = reference["text_embed"][rows]
    assert_close(clip.encode_text(tokenize(names)), want, STAGES["text_embed"].limit)


def test_mask_embedding_of_pooled_features(reference):
    """The released code records the projected features with the query added."""
    prefix = "sem_seg_head.predictor.post_mask_embed."
    module = load(lambda: PooledMaskEmbed(CONFIG.mask_head, EMBED), prefix)
    got = module.mask_embed(reference["mask_pooled_features"])
    assert_close(got, reference["mask_embed"], STAGES["mask_embed"].limit / 100)


def test_class_logits_of_masks(heads, reference):
    assert_close(heads.null_embed, reference["null_embed"], 0)
    assert heads.logit_scale == pytest.approx(float(reference["logit_scale"]), rel=1e-6)
    got = mask_class_logits(
        reference["mask_embed"],
        reference["text_embed"],
        torch.arange(CLASSES),
        CLASSES,
        heads.null_embed,
        heads.logit_scale,
    )
    assert_close(got, reference["pred_logits"], STAGES["pred_logits"].limit / 100)


def test_fused_features(heads, reference):
    fuser = Fuser(EMBED)
    fuser.load_state_dict({"linear.weight": heads.fuser_weight, "linear.bias": heads.fuser_bias})
    with torch.no_grad():
        masks = reference["mask_embed"][reference["row_query"]]
        got = fuser(masks, reference["pure3d_rows"])
    assert_close(got, reference["fused_rows"], 5e-6)


@pytest.fixture(scope="module")
def labels(heads, reference):
    """Labels of the sampled points, each in a voxel of its own."""
    is_base = torch.ones(CLASSES, dtype=torch.bool)
    is_base[list(CONFIG.split.novel)] = False
    tables = build_label_tables(
        reference["text_embed"],
        torch.arange(CLASSES),
        is_base,
        heads.fuser_weight,
        heads.fuser_bias,
        heads.logit_scale,
        CONFIG.base_ratio,
        CONFIG.novel_ratio,
        CONFIG.binary_threshold,
    )
    count = len(reference["row_query"])
    return label_points(
        reference["pure3d_rows"],
        torch.arange(count),
        reference["row_query"].int(),
        reference["mask_embed"],
        reference["mask_embed_clip"],
        reference["binary_score_point"],
        torch.arange(count)[:, None] * torch.ones(3),
        tables,
    )


def test_labels_of_the_three_heads(labels, reference):
    prob = reference["binary_score_point"]
    assert (prob > CONFIG.binary_threshold).any()
    assert (prob <= CONFIG.binary_threshold).any()
    assert torch.equal(labels.fused, reference["label_fused"].long())
    assert torch.equal(labels.two_d, reference["label_2d"].long())
    assert torch.equal(labels.three_d, reference["label_3d"].long())


def test_scores_of_covered_points(labels, reference):
    """The released scores are log(p^r q^(1-r)), far below everything where gated."""
    logits = reference["final_logits_fused_rows"]
    allowed = logits.masked_fill(logits < -1e9, -torch.inf)
    torch.testing.assert_close(labels.score, allowed.softmax(1).amax(1), rtol=1e-4, atol=1e-6)


def test_3d_head_is_a_scaled_cosine(heads, reference):
    feats = F.normalize(reference["pure3d_rows"], dim=1)
    cosine = feats @ F.normalize(reference["text_embed"], dim=1).T
    want = reference["final_logits_3d_rows"]
    allowed = want > -1e9
    torch.testing.assert_close(
        (heads.logit_scale * cosine)[allowed], want[allowed], rtol=1e-4, atol=1e-5
    )


def test_votes_of_a_scene(reference):
    """Four views of 30,000 points; a quarter of the points tie, the lowest class wins."""
    views = [reference[f"vote_{j}"].long() for j in range(4)]
    votes = make_votes(len(views[0]), CLASSES)
    for labels in views:
        indices = (labels < CLASSES).nonzero()[:, 0]
        vote(votes, indices, labels[None, indices], torch.ones(len(indices)))
    seen = votes.coverage > 0
    every = torch.arange(len(seen))
    result = finish_votes(votes, every)
    assert torch.equal(result.label[0, seen], reference["voted"].long()[seen])
    assert torch.equal(seen, reference["voted"] < CLASSES)
    best = votes.counts[0, seen].topk(2, dim=1).values
    assert (best[:, 0] == best[:, 1]).float().mean() > 0.2
