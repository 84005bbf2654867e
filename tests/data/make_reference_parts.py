"""Cut `reference_parts.npz` from the reference cases beside the checkout.

    python tests/data/make_reference_parts.py

The arrays are outputs of the released XMask3D with synthetic weights: the view of the generated
room (case C), and labels of a piece of the kitchen scene. No image, depth or cloud is among them.
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
GOLDEN = HERE.parents[2] / "shared" / "golden"
QUERIES = 12
POSITIONS = (0, 1, 40, 76)  # of the 77 text positions
MARGIN = 1e-3  # rows whose best two classes are closer may go either way
PIECE = slice(60_000, 90_000)  # of the kitchen's points


def main() -> None:
    """Write the file."""
    arrays = cut_view() | cut_scene()
    np.savez_compressed(HERE / "reference_parts.npz", **arrays)


def cut_view() -> dict[str, np.ndarray]:
    """Whole small arrays of case C, and the sampled points that a few of its masks own."""
    golden = np.load(GOLDEN / "case_C_golden.npz")
    whole = ("bott_F", "imp_condition", "cond_emb", "text_embed", "null_embed", "logit_scale")
    arrays = {name: golden[name] for name in whole}
    arrays["cond_inputs"] = golden["cond_inputs"][:, POSITIONS]
    arrays["uncond_inputs"] = np.load(GOLDEN / "common.npz")["uncond_inputs"][:, POSITIONS]

    shape = golden["final_mask_3d_shape"]
    owned = np.unpackbits(golden["final_mask_3d"], axis=1, count=shape[1]) > 0  # [n_final, Np]
    sure = np.minimum.reduce([golden[f"margin_{head}"] for head in ("fused", "2d", "3d")]) > MARGIN
    at_rows = (owned & sure)[:, golden["pt_rows"]]  # [n_final, 384]
    chosen = np.argsort(-at_rows.sum(axis=1).astype(int), kind="stable")[:QUERIES]
    query = golden["final_keep_query"][chosen]
    # The least and the most certain base point of every mask, so that both gates are met.
    prob = golden["binary_score_point"][golden["pt_rows"]]
    sorted_rows = [np.flatnonzero(mask)[np.argsort(prob[mask])] for mask in at_rows[chosen]]
    picks = [rows[[0, -1]] for rows in sorted_rows]
    rows = np.concatenate(picks)
    arrays["row_query"] = np.repeat(np.arange(QUERIES), [len(pick) for pick in picks])
    for name in ("mask_pooled_features", "mask_embed", "mask_embed_clip", "pred_logits"):
        arrays[name] = golden[name][query]
    for name in ("fused_rows", "pure3d_rows", "final_logits_fused_rows", "final_logits_3d_rows"):
        arrays[name] = golden[name][rows]
    points = golden["pt_rows"][rows]
    for name in ("binary_score_point", "label_fused", "label_2d", "label_3d"):
        arrays[name] = golden[name][points]
    return arrays


def cut_scene() -> dict[str, np.ndarray]:
    """Labels of a piece of the kitchen, view by view and voted, where some view saw it."""
    golden = np.load(GOLDEN / "scene_KITCHEN_golden.npz")
    count = len(golden["scene_label_fused"])
    arrays, seen = {}, np.zeros(count, bool)
    for j in range(len(golden["view_ids"])):
        visible = np.unpackbits(golden[f"visible_mask_{j}"], count=count).astype(bool)
        labels = np.full(count, 255, np.uint8)
        labels[visible] = golden[f"label_fused_{j}"]
        arrays[f"vote_{j}"] = labels[PIECE]
        seen |= visible
    arrays["voted"] = np.where(seen, golden["scene_label_fused"], 255)[PIECE].astype(np.uint8)
    return arrays


if __name__ == "__main__":
    main()
