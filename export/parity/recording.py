"""Write a run in the format of the reference cases, so that users can keep cases of their own.

Maps are strided and voxel rows sampled as in the reference files: a case of the full-size model
takes about 10 MB in place of 300.
"""

from collections.abc import Sequence

import numpy as np

from xmask3d_rt.export.parity.compare import HEADS, STORED_MAPS, Arrays, drop_batch

SAMPLED_ROWS = 384
KEPT = (64, 16, 16)  # channels, rows and columns kept of a feature map
WHOLE = (
    "imp_condition",
    "latent",
    "noisy_latent",
    "cond_inputs",
    "cond_emb",
    "text_embed",
    "pred_masks",
    "mask_pooled_features",
    "mask_embed",
    "pred_logits",
    "mask_embed_clip",
)
PER_QUERY = ("pred_masks", "mask_pooled_features", "mask_embed", "mask_embed_clip")


def record_case(trace: Arrays) -> dict[str, np.ndarray]:
    """Reference arrays of a one-view run.

    `voxel_coords` and `mapping`, inputs of the reference cases, are recorded as well: the case
    that is compared later may not have them.

    Args:
        trace: from `Segmenter.trace_view`.
    """
    rows = np.unique(np.linspace(0, len(trace["coords"]) - 1, SAMPLED_ROWS).astype(np.int64))
    order = np.lexsort(trace["bottleneck_coords"].T[::-1])
    pixels = np.stack([trace["row"], trace["col"]], axis=1) * trace["visible"][:, None]
    recorded = {
        "voxel_coords": trace["coords"],
        "mapping": np.column_stack([pixels, trace["visible"]]).astype(np.int16),
        "vox_rows": rows,
        "bott_C": trace["bottleneck_coords"][order],
        "bott_F": trace["bottleneck"][order],
        "enc_out_rows": trace["enc_out"][rows],
        "pred_3d_vox_rows": trace["pred_3d"][rows],
        "binary_logit_vox": trace["binary_logit"],
        "keep_full": trace["kept"],
        "mask_scores": trace["mask_score"][trace["kept"]],
        "final_keep_query": np.flatnonzero(trace["final"]),
    }
    for name, stored in STORED_MAPS.items():
        if name in trace:
            strides = _choose_strides(trace[name].shape[1:])
            s0, s1, s2 = strides
            recorded[f"{stored}_stride"] = np.array(strides)
            recorded[f"{stored}_sub"] = trace[name][0, ::s0, ::s1, ::s2]
    for name in WHOLE:
        if name in trace:
            recorded[name] = drop_batch(trace[name]) if name in PER_QUERY else trace[name]
    return recorded | {f"label_{head}": trace[f"label_{head}"] for head in HEADS}


def record_scene(
    view_ids: Sequence[str], views: Sequence[Arrays], scene: Arrays
) -> dict[str, np.ndarray]:
    """Reference arrays of a whole scene.

    Args:
        view_ids: names of the views, in order.
        views: per view `visible` [P] and `label_*` of its points.
        scene: `scene_label_*` [P].
    """
    recorded = {"view_ids": np.array(view_ids), **scene}
    for j, view in enumerate(views):
        recorded[f"visible_mask_{j}"] = np.packbits(view["visible"])
        for head in HEADS:
            recorded[f"label_{head}_{j}"] = view[f"label_{head}"]
    return recorded


def _choose_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides that keep about `KEPT` of a map [C, H, W]."""
    return tuple(max(size // kept, 1) for size, kept in zip(shape, KEPT, strict=True))
