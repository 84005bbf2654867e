"""What torch's exporters are told of a component, whatever comes of the trace."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from xmask3d_rt.engines.base import Signature


def list_dynamic_shapes(signature: Signature) -> tuple[dict[int, torch.export.Dim], ...] | None:
    """Symbolic dimensions of each input, for the axes whose profile leaves a choice.

    Returns:
        axis → dimension for each input; None where no axis leaves one.
    """
    if signature.is_static:
        return None
    dims = {
        axis: torch.export.Dim(axis, min=bounds.min, max=bounds.max)
        for axis, bounds in signature.profile.items()
        if bounds.min < bounds.max
    }
    return tuple(
        {i: dims[a] for i, a in enumerate(spec.shape) if isinstance(a, str) and a in dims}
        for spec in signature.inputs
    )


@contextmanager
def quiet(names: Sequence[str], category: type[Warning]) -> Iterator[None]:
    """Silence notes of libraries about themselves; what matters raises.

    Args:
        names: of the loggers that then speak of errors alone.
        category: of the warnings that are left out.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
