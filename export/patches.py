"""Named edits that make a module easier to export or to run, without changing its result.

A patch is a context manager over the module being traced: the training code stays as it reads
best, and the edit is undone afterwards. `PATCHES` lists what each component needs; the value
check of `validation.py` runs against the unpatched module, so a patch that is wrong stops the
build.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import nn

from xmask3d_rt.model.pixel_decoder import DeformableAttention, sample_levels_gather


@contextmanager
def gather_instead_of_grid_sample(module: nn.Module) -> Iterator[None]:
    """Deformable attention by row gathers: some TensorRT releases compile GridSample wrongly."""
    layers = [part for part in module.modules() if isinstance(part, DeformableAttention)]
    originals = [layer.sample for layer in layers]
    try:
        for layer in layers:
            layer.sample = sample_levels_gather
        yield
    finally:
        for layer, sample in zip(layers, originals, strict=True):
            layer.sample = sample


PATCHES = {"mask_head": (gather_instead_of_grid_sample,)}


@contextmanager
def patched(component: str, module: nn.Module) -> Iterator[None]:
    """Apply every patch of a component for the duration of an export."""
    with ExitStack() as stack:
        for patch in PATCHES.get(component, ()):
            stack.enter_context(patch(module))
        yield
