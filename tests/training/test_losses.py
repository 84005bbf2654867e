"""Every loss against the recorded values and gradients of the released code, in fp32."""

from pathlib import Path

import numpy as np
import pytest
import torch

from xmask3d_rt.model.fusion import Fuser, fuse_points, own_points
from xmask3d_rt.training.contrastive import contrastive_loss, mask_alignment, select_masks
from xmask3d_rt.training.matcher import MaskTargets, compute_costs, match_costs
from xmask3d_rt.training.point_losses import binary_loss, caption_loss, point_class_loss
from xmask3d_rt.training.points import choose_points
from xmask3d_rt.training.ranks import keep_own
from xmask3d_rt.training.set_loss import class_loss, count_targets, mask_losses

REDUCED = Path(__file__).parents[1] / "data" / "train_losses.npz"
WHOLE = Path(__file__).parents[3] / "shared" / "golden" / "train_losses.npz"
TOLERANCE = 1e-5  # relative; two float32 implementations differ by 1.3e-6


class Case:
    """One recorded case: inputs as leaves, outputs and gradients to compare with."""

    def __init__(self, arrays, name):
        self.arrays = {
            k.removeprefix(name + "."): v for k, v in arrays.items() if k.startswith(name + ".")
        }
        self.leaves = {}

    def __getitem__(self, name):
        if name not in self.leaves:
            tensor = torch.from_numpy(self.arrays[f"in.{name}"])
            self.leaves[name] = tensor.requires_grad_(tensor.is_floating_point())
        return self.leaves[name]

    def list_of(self, name, count):
        return [self[f"{name}_{i}"] for i in range(count)]

    def count(self, name):
        return sum(k.startswith(f"in.{name}_") for k in self.arrays)

    def check(self, **values):
        """Each value by its name and all its recorded gradients."""
        for name, value in values.items():
            close(value, self.arrays[f"out.{name}"], name)
            prefix = f"grad.{name}."
            recorded = [k.removeprefix(prefix) for k in self.arrays if k.startswith(prefix)]
            for leaf in recorded:
                if leaf.endswith("_l2"):
                    grad = self.gradient(value, leaf.removesuffix("_l2")).norm()
                else:
                    grad = self.gradient(value, leaf)
                close(grad, self.arrays[prefix + leaf], prefix + leaf)

    def gradient(self, value, leaf):
        (grad,) = torch.autograd.grad(value, self[leaf], retain_graph=True, allow_unused=True)
        return torch.zeros_like(self[leaf]) if grad is None else grad


def close(got, want, name=""):
    got = got.detach().numpy()
    assert got.shape == want.shape, name
    error = np.linalg.norm(got.astype(np.float64) - want) / max(np.linalg.norm(want), 1e-30)
    if np.linalg.norm(want) < 1e-7:  # a gradient that cancels: rounding is all there is
        error = np.linalg.norm(got)
    assert error <= TOLERANCE, (name, error)


def read_arrays():
    with np.load(WHOLE if WHOLE.is_file() else REDUCED) as file:
        return {name: file[name] for name in file.files}


ARRAYS = read_arrays()


def cases(group):
    names = dict.fromkeys(name.split(".")[1] for name in ARRAYS if name.startswith(group + "."))
    return pytest.mark.parametrize("case", [Case(ARRAYS, f"{group}.{n}") for n in names], ids=names)


def split_views(parts):
    return torch.cat([torch.full((len(part),), i) for i, part in enumerate(parts)])


@cases("set")
def test_matching_and_mask_losses(case):
    images = len(case["pred_masks"])
    targets = [
        MaskTargets(case[f"target_labels_{i}"], case[f"target_masks_{i}"].float())
        for i in range(images)
    ]
    matches = []
    for i, target in enumerate(targets):
        points = case["matcher_coords"][i]
        costs = compute_costs(case["pred_logits"][i], case["pred_masks"][i], target, points)
        close(costs, case.arrays[f"out.cost_{i}"], f"cost_{i}")
        matches.append(match_costs(costs))
        np.testing.assert_array_equal(matches[i].query, case.arrays[f"out.match_query_{i}"])
        np.testing.assert_array_equal(matches[i].target, case.arrays[f"out.match_target_{i}"])
    num_masks = count_targets(targets, keep_own, torch.device("cpu"))
    close(num_masks, case.arrays["out.num_masks"])

    class_weight = torch.ones(case["pred_logits"].shape[2])
    class_weight[-1] = 0.1
    case.check(loss_ce=class_loss(case["pred_logits"], targets, matches, class_weight))
    at = [case["pred_masks"], targets, matches]
    mask, dice = mask_losses(*at, case["loss_coords"].detach(), num_masks)
    case.check(loss_mask=mask, loss_dice=dice)

    pairs = torch.cat([m[k.query] for m, k in zip(case["pred_masks"], matches, strict=True)])
    chosen = choose_points(pairs, case["sampler_candidates"], case["sampler_rest"])
    for got, want in zip(chosen, case.arrays["out.sampler_coords"], strict=True):
        np.testing.assert_array_equal(np.unique(got.detach(), axis=0), np.unique(want, axis=0))
    mask, dice = mask_losses(*at, chosen.detach(), num_masks)
    case.check(sampled_loss_mask=mask, sampled_loss_dice=dice)


@cases("ce3d")
def test_class_loss_of_points(case):
    labels, classes = case["labels"], int(case["ignore_label"])
    text = case["text_embed"], torch.arange(classes), case["null_embed"], case["logit_scale"]
    scenes = case.count("fused")
    fused, pure = (torch.cat(case.list_of(n, scenes)) for n in ("fused", "pure3d"))
    loss_3d = point_class_loss(fused, labels, *text)
    loss_3d_pure = point_class_loss(pure, labels, *text)
    if bool((labels == classes).all()):  # the released code makes up a label here
        for loss in (loss_3d, loss_3d_pure):
            assert loss.item() == 0
            assert not case.gradient(loss, "null_embed").any()
        return
    case.check(loss_3d=loss_3d, loss_3d_pure=loss_3d_pure)


@cases("contra3d")
def test_contrastive_loss(case):
    scenes = len(case["pred_masks"])
    mask_shape = tuple(case["mask_shape"].tolist())
    totals, counts = [], []
    for i in range(scenes):
        points = case[f"row_{i}"], case[f"col_{i}"], case[f"binary_label_{i}"]
        selection = select_masks(case["pred_masks"][i], mask_shape, *points)
        want = case.arrays.get(f"out.selected_{i}", np.zeros(0))
        np.testing.assert_array_equal(selection.queries[selection.valid], want)
        embed = case["mask_embed_clip"][i]
        total, count = mask_alignment(case[f"pure3d_{i}"], embed, selection)
        totals.append(total)
        counts.append(count)
    loss = contrastive_loss(totals, counts)
    if not any(bool(count) for count in counts):
        assert loss.item() == 0
        assert loss.requires_grad
    case.check(loss_3d_contra=loss)


@cases("fusion")
def test_fusion_onto_points(case):
    """Ownership without gating; the released code declares a point covered where none is."""
    scenes = case["points_per_scene"].tolist()
    fuser = Fuser(case["fuser_bias"].shape[0])
    weights = {"linear.weight": case["fuser_weight"], "linear.bias": case["fuser_bias"]}

    def fuse(*parts):
        return torch.func.functional_call(fuser, weights, parts)

    rows, cols = case["row"].split(scenes), case["col"].split(scenes)
    shape = tuple(case["mask_shape"].tolist())
    views = []
    for i, feats in enumerate(case["pred_3d"].split(scenes)):
        masks, logits = case["pred_masks"][i], case["pred_logits"][i]
        owner = own_points(masks, logits, shape, rows[i], cols[i])
        views.append(fuse_points(fuse, case["mask_embed"][i], owner, feats))
    fused = torch.cat([view.fused for view in views])
    text = case["text_embed"], torch.arange(len(case["text_embed"])), case["null_embed"]
    loss_3d = point_class_loss(fused, case["labels"], *text, case["logit_scale"])
    pure = point_class_loss(case["pred_3d"], case["labels"], *text, case["logit_scale"])
    close(pure, case.arrays["out.loss_3d_pure"])
    if not any(bool(view.covered.any()) for view in views):
        torch.testing.assert_close(fused, case["pred_3d"])
        for name in ("mask_embed", "fuser_weight", "fuser_bias"):
            assert not case.gradient(loss_3d, name).any()
        caption = caption_loss(views[0].two_d[views[0].covered], torch.zeros(0).long(), text[0][:1])
        assert caption.item() == 0
        return
    for i, view in enumerate(views):
        close(view.fused, case.arrays[f"out.fused_{i}"])
        close(view.two_d, case.arrays[f"out.feature_2d_{i}"])
        close(view.two_d[view.covered], case.arrays[f"out.feature_2d_covered_{i}"])
        assert view.covered.sum() == case.arrays["out.covered_points"][i]
    case.check(loss_3d=loss_3d)


@cases("caption_bce")
def test_caption_and_binary_losses(case):
    captions = case["caption_embed"].detach()
    features = {
        "loss_explicit_contra": "fused",
        "loss_explicit_contra_3d": "pure3d",
        "loss_explicit_contra_2d_pre": "feature_2d_covered",
    }
    for name, feature in features.items():
        parts = case.list_of(feature, len(captions))
        case.check(**{name: caption_loss(torch.cat(parts), split_views(parts), captions)})
    weight = case["pos_weight"].detach()
    loss = binary_loss(case["binary_logits"][:, 0], case["binary_label"], weight)
    if not np.isfinite(case.arrays["out.loss_binary"]):
        assert loss.item() == 0
        assert not case.gradient(loss, "binary_logits").any()
        return
    case.check(loss_binary=loss)


def test_matches_are_the_cheapest_pairs():
    match = match_costs(torch.tensor([[3.0, 1.0], [1.0, 5.0], [9.0, 9.0]]))
    assert match.query.tolist() == [0, 1]
    assert match.target.tolist() == [1, 0]


def test_costs_that_are_not_finite_still_match():
    match = match_costs(torch.full((3, 2), torch.nan))
    assert len(match.query) == len(match.target) == 2
