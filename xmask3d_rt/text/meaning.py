"""Which classes count as trained, where their names are other words for those of training."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xmask3d_rt.classes import ClassList, normalize_name, split_base_novel
from xmask3d_rt.config import ClassSplit

Embed = Callable[[Sequence[str]], Tensor]


def split_by_meaning(
    classes: ClassList, split: ClassSplit, embed: Embed, least: float
) -> np.ndarray:
    """Which classes were trained with labels, by name or by meaning.

    A class that has a name of the split is what the split says. Any other is base if one of its
    names is close to a base class of the split, and closer than to every novel one.

    Args:
        classes: the caller's.
        split: of the checkpoint.
        embed: names to embeddings [T, E], not normalised.
        least: cosine that is close.

    Returns:
        is_base [C] bool.
    """
    is_base = split_base_novel(classes, split)
    listed = {normalize_name(name) for name in split.names}
    unknown = [
        (index, name)
        for index, names in enumerate(classes.names)
        if listed.isdisjoint(map(normalize_name, names))
        for name in names
    ]
    if not unknown:
        return is_base
    known = F.normalize(embed(split.names).float(), dim=-1)
    words = F.normalize(embed([name for _, name in unknown]).float(), dim=-1)
    cosine, nearest = (words @ known.T).max(dim=-1)
    trained = torch.tensor([name in split.base_names for name in split.names])
    meant = (trained.to(nearest.device)[nearest] & (cosine >= least)).tolist()
    for (index, _), found in zip(unknown, meant, strict=True):
        is_base[index] |= found
    return is_base
