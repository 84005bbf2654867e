"""Compare one run with a recorded reference case, stage by stage.

A case is two `.npz` files: inputs (cloud, image, depth, camera) and reference outputs, many of
them strided or sampled to stay small. A run is a trace: the same quantities in full, by name.
Every comparison gives a `Row`: what was measured, the limit, and whether it holds.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from xmask3d_rt.components import FEATURES
from xmask3d_rt.config import ClipConfig, Precision
from xmask3d_rt.export.parity.limits import (
    MAX_CHANGED_QUERIES,
    MAX_FLIP_SHARE,
    MIN_AGREEMENT,
    PATCH_FLIP_LIMIT,
    QUERIES,
    SCORE_TOLERANCE,
    STAGES,
    Precisions,
    find_lowest,
    is_exact,
)

Arrays = Mapping[str, np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]
HEADS = ("fused", "2d", "3d")
# Large maps are stored strided: name in a run → name in a reference file.
STORED_MAPS = {name: f"sd_feat{i}" for i, name in enumerate(FEATURES)} | {
    name: name for name in ("s2", "s3", "s4", "s5", "ms0", "ms1", "ms2", "mask_features")
}
VOXEL_STAGES = ("bottleneck", "enc_out", "pred_3d", "binary_logit")
# A patch whose largest mask logit is this close to 0, relative to all logits, may go either way.
PATCH_MARGIN = 1e-6


@dataclass(frozen=True)
class Row:
    """One comparison; `ok` when `value` is on the right side of `limit`.

    `limit` is None where nothing is promised; the value must still be a number.
    """

    stage: str
    metric: str
    value: float
    limit: float | None
    at_least: bool = False

    @property
    def ok(self) -> bool:
        """Whether the limit holds; NaN never does."""
        if self.limit is None:
            return math.isfinite(self.value)
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def to_dict(self) -> dict[str, str | float | bool | None]:
        """Plain values for JSON, which has no NaN."""
        return {
            "stage": self.stage,
            "metric": self.metric,
            "value": self.value if math.isfinite(self.value) else None,
            "limit": self.limit,
            "relation": ">=" if self.at_least else "<=",
            "ok": self.ok,
        }


def relative_l2(got: np.ndarray, want: np.ndarray) -> float:
    """‖got − want‖ / ‖want‖ in float64.

    Raises:
        ValueError: the shapes differ.
    """
    if got.shape != want.shape:
        raise ValueError(f"shapes differ: got {list(got.shape)}, expected {list(want.shape)}")
    want = want.astype(np.float64)
    return float(np.linalg.norm(got - want)) / max(float(np.linalg.norm(want)), 1e-30)


def compare_case(
    trace: Arrays,
    inputs: Arrays,
    golden: Arrays,
    clip: ClipConfig,
    precisions: Precisions,
) -> list[Row]:
    """Every stage that both the run and the reference recorded, in the method's order.

    Stages behind a half-precision component are listed with no limit; labels always have one.

    Args:
        trace: the run, from `Segmenter.trace_view`.
        inputs: the case's inputs; `mapping` and `voxel_coords` may lie in `golden` instead.
        golden: the case's reference outputs.
        clip: sizes of the image tower, to see which patch masks flip.
        precisions: of the run's components.

    Raises:
        ValueError: the case lacks geometry or labels, or belongs to another cloud or preset.
    """
    geometry = ("mapping", "voxel_coords")
    inputs = {**inputs, **{name: golden[name] for name in geometry if name in golden}}
    missing = [name for name in geometry if name not in inputs]
    if missing:
        raise ValueError(f"the case has no {missing[0]!r}, neither in its inputs nor its outputs")
    rows = list(_compare_geometry(trace, inputs))
    if "bott_C" in golden:
        rows.append(_compare_coords("coarse voxels", trace["bottleneck_coords"], golden["bott_C"]))
    same_voxels = all(row.ok for row in rows if row.metric == "coordinates differ")
    for stage, pair in _pair_tensors(trace, inputs, golden, same_voxels).items():
        rows += _compare_tensor(stage, pair, trace, golden, clip, precisions)
    rows += _compare_queries(trace, golden, is_exact(QUERIES, precisions))
    return rows + list(_compare_labels(trace, golden, find_lowest(precisions)))


def list_uncompared(rows: Sequence[Row]) -> list[str]:
    """Stages of a case that only one side recorded, or neither."""
    compared = {row.stage for row in rows}
    return [stage for stage in STAGES if stage not in compared]


def _compare_geometry(trace: Arrays, inputs: Arrays) -> Iterator[Row]:
    """Image, projection and voxels: exact, whatever the precision."""
    side = trace["image"].shape[-1]
    if "image_512" in inputs and inputs["image_512"].shape == (side, side, 3):
        image = np.rint(trace["image"][0].transpose(1, 2, 0) * 255)
        differ = (image != inputs["image_512"]).any(axis=2).sum()
        yield Row("image", "pixels differ", float(differ), 0)
    mapping, seen = inputs["mapping"], trace["visible"]
    if mapping.shape != (len(seen), 3):
        raise ValueError(
            f"mapping has shape {list(mapping.shape)}, the cloud has {len(seen)} points; the "
            "reference belongs to another cloud"
        )
    visible = mapping[:, 2].astype(bool)
    yield Row("projection", "visibility differs", float((seen != visible).sum()), 0)
    both = seen & visible
    pixels = np.stack([trace["row"], trace["col"]], axis=1)[both]
    moved = (pixels != mapping[both, :2]).any(axis=1)
    yield Row("projection", "pixels differ", float(moved.sum()), 0)
    yield _compare_coords("voxels", trace["coords"], inputs["voxel_coords"])


def _compare_coords(stage: str, got: np.ndarray, want: np.ndarray) -> Row:
    """How many voxels only one of two sets has."""
    union = len(np.unique(np.concatenate([got, want]), axis=0))
    return Row(stage, "coordinates differ", float(2 * union - len(got) - len(want)), 0)


def _sort_rows(coords: np.ndarray) -> np.ndarray:
    """Indices that put rows in lexicographic order."""
    return np.lexsort(coords.T[::-1])


def _match_rows(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """For every row of `want` the index of the same row in `got`; both hold the same set."""
    match = np.empty(len(want), np.int64)
    match[_sort_rows(want)] = _sort_rows(got)
    return match


def _pair_tensors(
    trace: Arrays, inputs: Arrays, golden: Arrays, same_voxels: bool
) -> dict[str, Pair]:
    """(got, want) of every tensor that both sides recorded, in the order of `STAGES`."""
    pairs = _pair_sparse(trace, inputs, golden) if same_voxels else {}
    for stage in STAGES:
        if stage in VOXEL_STAGES or stage not in trace:
            continue
        got = trace[stage]
        if stage not in STORED_MAPS:
            if stage in golden:
                pairs[stage] = (drop_batch(got), drop_batch(golden[stage]))
        elif f"{STORED_MAPS[stage]}_sub" in golden:
            pairs[stage] = _stride(got, STORED_MAPS[stage], golden)
    return {stage: pairs[stage] for stage in STAGES if stage in pairs}


def drop_batch(array: np.ndarray) -> np.ndarray:
    """Without leading axes of one, which references keep for some tensors and drop for others."""
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return array


def _pair_sparse(trace: Arrays, inputs: Arrays, golden: Arrays) -> dict[str, Pair]:
    """Sparse-net outputs, matched by voxel coordinate."""
    match = _match_rows(trace["coords"], inputs["voxel_coords"])
    pairs: dict[str, Pair] = {}
    if "bott_F" in golden:
        rows = _match_rows(trace["bottleneck_coords"], golden["bott_C"])
        pairs["bottleneck"] = (trace["bottleneck"][rows], golden["bott_F"])
    for stage, stored in (("enc_out", "enc_out_rows"), ("pred_3d", "pred_3d_vox_rows")):
        if stored in golden:
            pairs[stage] = (trace[stage][match[golden["vox_rows"]]], golden[stored])
    if "binary_logit_vox" in golden:
        pairs["binary_logit"] = (trace["binary_logit"][match], golden["binary_logit_vox"])
    return pairs


def _stride(tensor: np.ndarray, stored: str, golden: Arrays) -> Pair:
    """`tensor[0, ::s0, ::s1, ::s2]` and what the reference kept of it.

    The strides are recorded beside the map, or follow from the sizes.
    """
    want = golden[f"{stored}_sub"]
    if f"{stored}_stride" in golden:
        s0, s1, s2 = (int(stride) for stride in golden[f"{stored}_stride"])
    else:
        sizes = zip(tensor.shape[1:], want.shape, strict=True)
        s0, s1, s2 = (-(-size // kept) for size, kept in sizes)
    return tensor[0, ::s0, ::s1, ::s2], want


def _compare_tensor(
    stage: str,
    pair: Pair,
    trace: Arrays,
    golden: Arrays,
    clip: ClipConfig,
    precisions: Precisions,
) -> Iterator[Row]:
    """The relative L2 error of one stage; for masks also the logits that changed sign."""
    got, want = pair
    if got.shape != want.shape:
        raise ValueError(
            f"{stage} has shape {list(got.shape)} in the run and {list(want.shape)} in the "
            "reference; they belong to different presets or class lists"
        )
    exact = is_exact(STAGES[stage], precisions)
    limit = STAGES[stage].limit
    if stage == "mask_embed_clip" and exact and _patches_flip(trace, golden, clip):
        limit = PATCH_FLIP_LIMIT
    yield Row(stage, "relative L2", relative_l2(got, want), limit if exact else None)
    if stage == "pred_masks":
        flips = int(((got > 0) != (want > 0)).sum())
        most = math.ceil(MAX_FLIP_SHARE * want.size)
        yield Row(stage, "sign flips", float(flips), most if exact else None)


def _patches_flip(trace: Arrays, golden: Arrays, clip: ClipConfig) -> bool:
    """Whether a mask may open other patches to its token than in the reference."""
    if "pred_masks" not in trace or "pred_masks" not in golden:
        return False
    want = drop_batch(golden["pred_masks"])
    highest = _pool_patches(want, clip)
    borderline = np.abs(highest) <= PATCH_MARGIN * np.sqrt(np.mean(want**2))
    got = _pool_patches(drop_batch(trace["pred_masks"]), clip)
    return bool((((got >= 0) != (highest >= 0)) | borderline).any())


def _pool_patches(mask_logits: np.ndarray, clip: ClipConfig) -> np.ndarray:
    """Largest logit of each mask [Q, h, w] in each patch of the image tower's grid."""
    size = (clip.image_size, clip.image_size)
    logits = torch.from_numpy(np.ascontiguousarray(mask_logits, np.float32))[None]
    resized = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return F.max_pool2d(resized, clip.patch_size)[0].numpy()


def _compare_queries(trace: Arrays, golden: Arrays, exact: bool) -> Iterator[Row]:
    """Which queries have points, which own pixels in the end, and their class scores."""
    most = MAX_CHANGED_QUERIES if exact else None
    if "keep_full" not in golden:
        return
    kept = golden["keep_full"]
    yield Row("kept masks", "queries differ", float((trace["kept"] != kept).sum()), most)
    if "final_keep_query" in golden:
        final = np.zeros_like(kept)
        final[golden["final_keep_query"]] = True
        yield Row("final masks", "queries differ", float((trace["final"] != final).sum()), most)
    if "mask_scores" in golden:
        scores = golden["mask_scores"]
        want = np.zeros(len(kept))
        want[kept] = scores if len(scores) == kept.sum() else scores[kept]
        off = ~(np.abs(trace["mask_score"] - want) <= SCORE_TOLERANCE * want)  # NaN is off
        yield Row("mask scores", "queries differ", float((off & kept).sum()), most)


def _compare_labels(trace: Arrays, golden: Arrays, precision: Precision) -> Iterator[Row]:
    """Agreement of the visible points' labels, head by head."""
    for head in HEADS:
        name = f"label_{head}"
        yield agreement_row(name, trace[name], golden[name], MIN_AGREEMENT[precision][head])


def agreement_row(stage: str, got: np.ndarray, want: np.ndarray, limit: float) -> Row:
    """Share of equal labels; 0 where the numbers of points differ."""
    same_size = got.shape == want.shape and got.size > 0
    equal = float((got == want).mean()) if same_size else float(got.shape == want.shape)
    return Row(stage, "labels equal", equal, limit, at_least=True)


def compare_scene(
    golden: Arrays,
    views: Sequence[Arrays],
    scene: Arrays,
    precisions: Precisions,
) -> list[Row]:
    """Rows of a whole scene: every view's visible points and labels, then the voted labels.

    Args:
        golden: the scene's reference.
        views: per view, in the order of `view_ids`: `visible` [P] and `label_*` of its points.
        scene: `scene_label_*` [P].
        precisions: of the run's components.

    Raises:
        ValueError: the reference lacks an array or belongs to another cloud.
    """
    limits = MIN_AGREEMENT[find_lowest(precisions)]
    points = len(scene["scene_label_fused"])
    if len(golden["scene_label_fused"]) != points:
        raise ValueError(
            f"the reference has {len(golden['scene_label_fused'])} points, the scene {points}; "
            "they belong to different clouds"
        )
    rows = []
    for j, view in enumerate(views):
        name = f"view {golden['view_ids'][j]}"
        want = np.unpackbits(golden[f"visible_mask_{j}"], count=points).astype(bool)
        rows.append(Row(name, "visibility differs", float((view["visible"] != want).sum()), 0))
        for head in HEADS:
            got = view[f"label_{head}"]
            labels = golden[f"label_{head}_{j}"]
            rows.append(agreement_row(f"{name} {head}", got, labels, limits[head]))
    for head in HEADS:
        got, want = scene[f"scene_label_{head}"], golden[f"scene_label_{head}"]
        rows.append(agreement_row(f"scene {head}", got, want, limits[head]))
    return rows
