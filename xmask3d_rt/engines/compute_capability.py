"""Compute capabilities of NVIDIA GPUs, as builds name them: `89` for 8.9."""

import re

import torch

from xmask3d_rt.errors import EngineError


def find_gpu() -> str | None:
    """Compute capability of the current CUDA device, such as `90`; None where there is none."""
    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}"


def parse_compute_capability(text: str) -> str:
    """`8.9`, `89`, `sm_89` or `SM89` as `89`.

    Raises:
        EngineError: none of these forms.
    """
    match = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", text.strip().lower())
    if match is None:
        raise EngineError(f"compute capability {text!r} is not of the form 8.9, 89 or sm_89")
    return match[1] + match[2]
