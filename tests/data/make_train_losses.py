"""Cut `train_losses.npz` from the recorded losses beside the checkout: one or two cases a group.

    python tests/data/make_train_losses.py

The arrays are inputs made at random, and values and gradients of the released losses for them.
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
WHOLE = HERE.parents[2] / "shared" / "golden" / "train_losses.npz"
KEPT = (
    "set.more_targets_than_queries.",
    "set.one_image_empty.",
    "set.all_empty.",
    "ce3d.one_class.",
    "ce3d.all_ignored.",
    "contra3d.nothing_selected.",
    "fusion.masks_cover_no_point.",
    "caption_bce.one_point_base_only.",
    "caption_bce.all_ignored_nan.",
)


def main() -> None:
    """Write the file."""
    with np.load(WHOLE) as whole:
        kept = {name: whole[name] for name in whole.files if name.startswith(KEPT)}
    np.savez_compressed(HERE / "train_losses.npz", **kept)


if __name__ == "__main__":
    main()
