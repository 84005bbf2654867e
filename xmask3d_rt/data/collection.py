"""Labelled scenes on disk, whatever their layout: what training and evaluation read.

`open_collection` tells the two layouts apart: the released one (`released.py`) and folders of
scene folders (`scene_folders.py`), which conversion writes and people bring their own scans in.
Nothing but names is read until a scene is used.
"""

import os
from pathlib import Path

import numpy as np

from xmask3d_rt.data.labelled import SceneCollection
from xmask3d_rt.data.released import is_released, open_released
from xmask3d_rt.data.scene_folders import open_scene_folders
from xmask3d_rt.scene.image_files import read_ids


def open_collection(folder: str | os.PathLike[str], split: str) -> SceneCollection:
    """The scenes of a split.

    Args:
        folder: in one of the two layouts.
        split: a folder without `train/` and `val/` gives all its scenes for every split.

    Raises:
        FileNotFoundError: no such folder or no scene of the split in it.
        ValueError: a file that describes the collection is damaged.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no data folder {root}")
    if is_released(root):
        return open_released(root, split)
    return open_scene_folders(root, split)


def read_label_image(path: Path) -> np.ndarray:
    """Ids of a one-channel label image, [H, W] int64.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an image of one channel.
    """
    return read_ids(path).astype(np.int64)
