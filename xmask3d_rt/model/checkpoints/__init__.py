"""Weight files: opening, checking, converting, loading.

    load_checkpoints(model, xmask3d=..., sd=..., clip=..., cache_dir=...)
    inspect_weights(path)

One file per step: containers.py reads single files into lazy tensors, those of torch by
torch_files.py and pickled.py; layouts.py knows the kinds, weight_file.py opens files and folders,
matching.py compares them with a model, converted.py keeps copies, loading.py and report.py are
the two uses.
"""

from xmask3d_rt.model.checkpoints.loading import (
    LoadedWeights,
    check_checkpoints,
    load_checkpoints,
)
from xmask3d_rt.model.checkpoints.report import WeightReport, inspect_weights

__all__ = [
    "LoadedWeights",
    "WeightReport",
    "check_checkpoints",
    "inspect_weights",
    "load_checkpoints",
]
