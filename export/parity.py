"""Compare one run with a recorded reference case, stage by stage.

A case is two `.npz` files: inputs (cloud, image, depth, camera) and golden outputs, many of them
strided or sampled to stay small. A run is a `Trace`: the same quantities in full, by name.
Every comparison gives a `Row`: what was measured, the tolerance, and whether it holds.

Tolerances are those of measured noise: for fp32, image noise of 1e-6, another thread count and
float64; for half precision, relative noise of 1e-3 (fp16) and 1e-2 (bf16) on every component.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from xmask3d_rt.config import Precision

Arrays = Mapping[str, np.ndarray]
FEATURES = ("enc5", "enc7", "unet2", "unet5", "unet8", "unet11", "dec2", "dec5")
HEADS = ("fused", "2d", "3d")
# Large maps are stored strided: name in a run → name in a reference file.
STORED_MAPS = {name: f"sd_feat{i}" for i, name in enumerate(FEATURES)} | {
    name: name for name in ("s2", "s3", "s4", "s5", "ms0", "ms1", "ms2", "mask_features")
}

FP32_TOLERANCE = {
    "bottleneck": 5e-6,
    "enc_out": 5e-6,
    "pred_3d": 5e-6,
    "binary_logit": 5e-6,
    "imp_condition": 5e-6,
    "text_embed": 5e-6,
    "latent": 1e-5,
    "noisy_latent": 1e-5,
    "cond_inputs": 5e-6,
    "cond_emb": 5e-6,
    **dict.fromkeys(FEATURES, 1e-05),
    **dict.fromkeys(("s2", "s3", "s4", "s5", "ms0", "ms1", "ms2"), 1e-05),
    "mask_features": 2e-5,
    "pred_masks": 1e-4,
    "mask_pooled_features": 5e-4,
    "mask_embed": 5e-4,
    "pred_logits": 5e-4,
    "mask_embed_clip": 2e-5,
}
PATCH_FLIP_TOLERANCE = 5e-3  # mask_embed_clip, where one bit of a patch mask flips
MAX_SIGN_FLIPS = 50  # of the 819,200 mask logits of a case
MIN_AGREEMENT = {
    Precision.FP32: {"fused": 0.9995, "2d": 0.9995, "3d": 0.9995},
    Precision.FP16: {"fused": 0.992, "2d": 0.990, "3d": 0.992},
    Precision.BF16: {"fused": 0.96, "2d": 0.93, "3d": 0.993},
}


@dataclass(frozen=True)
class Row:
    """One comparison; `ok` when `value` is on the right side of `limit`."""

    stage: str
    metric: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def ok(self) -> bool:
        """Whether the limit holds; NaN never does."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def to_dict(self) -> dict[str, str | float | bool]:
        """Plain values for JSON."""
        return {
            "stage": self.stage,
            "metric": self.metric,
            "value": self.value,
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


def unpack_bits(bits: np.ndarray, count: int) -> np.ndarray:
    """Boolean array [count] from `numpy.packbits` output."""
    return np.unpackbits(bits, count=count).astype(bool)


def compare_case(trace: Arrays, inputs: Arrays, golden: Arrays, precision: Precision) -> list[Row]:
    """Every stage that both the run and the reference recorded, in the method's order.

    Half precision is judged by its labels alone: its intermediates are listed against no limit.

    Args:
        trace: the run, from `Segmenter.trace_view`.
        inputs: the case's inputs; `mapping` and `voxel_coords` may lie in `golden` instead.
        golden: the case's reference outputs.
        precision: of the run.

    Raises:
        ValueError: the case lacks `mapping` or `voxel_coords`, or a shape differs.
    """
    strict = precision is Precision.FP32
    geometry = ("mapping", "voxel_coords")
    inputs = {**inputs, **{name: golden[name] for name in geometry if name in golden}}
    missing = [name for name in geometry if name not in inputs]
    if missing:
        raise ValueError(f"the case has no {missing[0]!r}, neither in its inputs nor its outputs")
    rows = list(_compare_geometry(trace, inputs))
    for stage, got, want in _pair_tensors(trace, inputs, golden):
        limit = FP32_TOLERANCE[stage] if strict else float("inf")
        if stage == "mask_embed_clip" and strict and _patch_bits_flipped(trace, golden):
            limit = PATCH_FLIP_TOLERANCE
        rows.append(Row(stage, "relative L2", relative_l2(got, want), limit))
        if stage == "pred_masks":
            flips = int(((got > 0) != (want > 0)).sum())
            rows.append(Row(stage, "sign flips", flips, MAX_SIGN_FLIPS if strict else float("inf")))
    if strict:
        rows += _compare_masks(trace, golden)
    rows += _compare_labels(trace, golden, precision)
    return rows


def _compare_geometry(trace: Arrays, inputs: Arrays) -> Iterator[Row]:
    """Projection and voxels: exact, whatever the precision."""
    visible = inputs["mapping"][:, 2].astype(bool)
    yield Row("projection", "visibility differs", float((trace["visible"] != visible).sum()), 0)
    both = trace["visible"] & visible
    pixels = np.stack([trace["row"], trace["col"]], axis=1)[both]
    moved = (pixels != inputs["mapping"][both, :2]).any(axis=1)
    yield Row("projection", "pixels differ", float(moved.sum()), 0)
    got = _sort_rows(trace["coords"])[0]
    want = _sort_rows(inputs["voxel_coords"])[0]
    differ = 0 if got.shape == want.shape and np.array_equal(got, want) else len(got) or 1
    yield Row("voxels", "coordinates differ", float(differ), 0)


def _sort_rows(coords: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in lexicographic order, and their indices."""
    order = np.lexsort(coords.T[::-1])
    return coords[order], order


def _match_rows(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """For every row of `want` the index of the same row in `got`; both hold the same set."""
    match = np.empty(len(want), np.int64)
    match[_sort_rows(want)[1]] = _sort_rows(got)[1]
    return match


def _pair_tensors(
    trace: Arrays, inputs: Arrays, golden: Arrays
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(stage, got, want) of equal shape for every tensor that both sides recorded."""
    if trace["coords"].shape == inputs["voxel_coords"].shape:
        yield from _pair_sparse(trace, inputs, golden)
    direct = ("imp_condition", "latent", "noisy_latent", "cond_inputs", "cond_emb")
    late = ("pred_masks", "mask_pooled_features", "mask_embed", "pred_logits", "mask_embed_clip")
    for name in direct:
        if name in trace and name in golden:
            yield name, trace[name], golden[name]
    for name, stored in STORED_MAPS.items():
        if name in trace and f"{stored}_sub" in golden:
            yield name, _stride(trace[name], stored, golden), golden[f"{stored}_sub"]
    for name in late:
        if name in trace and name in golden:
            yield name, trace[name].reshape(golden[name].shape), golden[name]
    if "text_embed" in trace:
        yield "text_embed", trace["text_embed"], golden["text_embed"]


def _pair_sparse(
    trace: Arrays, inputs: Arrays, golden: Arrays
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Sparse-net outputs, matched by voxel coordinate."""
    match = _match_rows(trace["coords"], inputs["voxel_coords"])
    rows = match[golden["vox_rows"]]
    if "bottleneck" in trace:
        order = np.lexsort(trace["bottleneck_coords"].T[::-1])
        yield "bottleneck", trace["bottleneck"][order], golden["bott_F"]
    if "enc_out" in trace:
        yield "enc_out", trace["enc_out"][rows], golden["enc_out_rows"]
    yield "pred_3d", trace["pred_3d"][rows], golden["pred_3d_vox_rows"]
    yield "binary_logit", trace["binary_logit"][match], golden["binary_logit_vox"]


def _stride(tensor: np.ndarray, stored: str, golden: Arrays) -> np.ndarray:
    """`tensor[0, ::s0, ::s1, ::s2]`, as the reference stored large maps.

    The strides are recorded beside the map, or follow from the sizes.
    """
    want = golden[f"{stored}_sub"].shape
    if f"{stored}_stride" in golden:
        s0, s1, s2 = (int(stride) for stride in golden[f"{stored}_stride"])
    else:
        s0, s1, s2 = (size // kept for size, kept in zip(tensor.shape[1:], want, strict=True))
    return tensor[0, ::s0, ::s1, ::s2]


def _patch_bits_flipped(trace: Arrays, golden: Arrays) -> bool:
    """Whether some mask logit changed sign, so that a patch-mask bit may differ, too."""
    if "pred_masks" not in trace:
        return False
    got, want = trace["pred_masks"].reshape(golden["pred_masks"].shape), golden["pred_masks"]
    return bool(((got > 0) != (want > 0)).any())


def _compare_masks(trace: Arrays, golden: Arrays) -> Iterator[Row]:
    """Which queries survive, exactly; scores of the kept ones."""
    if "kept" not in trace:
        return
    differ = float((trace["kept"] != golden["keep_full"]).sum())
    yield Row("kept masks", "queries differ", differ, 0)
    if "final" in trace:
        final = np.zeros_like(trace["final"])
        final[golden["final_keep_query"]] = True
        yield Row("final masks", "queries differ", float((trace["final"] != final).sum()), 0)
    if differ == 0:
        got = trace["mask_score"][golden["keep_full"]]
        yield Row("mask scores", "relative L2", relative_l2(got, golden["mask_scores"]), 5e-4)


def _compare_labels(trace: Arrays, golden: Arrays, precision: Precision) -> Iterator[Row]:
    """Agreement of the visible points' labels, head by head."""
    for head in HEADS:
        name = f"label_{head}"
        yield agreement_row(name, trace[name], golden[name], MIN_AGREEMENT[precision][head])


def agreement_row(stage: str, got: np.ndarray, want: np.ndarray, limit: float) -> Row:
    """Share of equal labels; 0 where the numbers of points differ."""
    equal = float((got == want).mean()) if got.shape == want.shape else 0.0
    return Row(stage, "labels equal", equal, limit, at_least=True)


def compare_scene(
    golden: Arrays,
    views: list[Arrays],
    scene: Arrays,
    precision: Precision,
) -> list[Row]:
    """Rows of a whole scene: every view's visible points and labels, then the voted labels.

    Args:
        golden: the scene's reference.
        views: per view, in the order of `view_ids`: `visible` [P] and `label_*` of its points.
        scene: `scene_label_*` [P].
        precision: of the run.
    """
    rows = []
    points = len(golden["scene_label_fused"])
    for j, view in enumerate(views):
        name = f"view {golden['view_ids'][j]}"
        want = unpack_bits(golden[f"visible_mask_{j}"], points)
        rows.append(Row(name, "visibility differs", float((view["visible"] != want).sum()), 0))
        for head in HEADS:
            limit = MIN_AGREEMENT[precision][head]
            got = view[f"label_{head}"]
            rows.append(agreement_row(f"{name} {head}", got, golden[f"label_{head}_{j}"], limit))
    for head in HEADS:
        limit = MIN_AGREEMENT[precision][head]
        got, want = scene[f"scene_label_{head}"], golden[f"scene_label_{head}"]
        rows.append(agreement_row(f"scene {head}", got, want, limit))
    return rows
