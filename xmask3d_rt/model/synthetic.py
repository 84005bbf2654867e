"""Synthetic weights: every tensor from its name and shape alone.

The released weights cannot be shipped, so tests, demos and parity cases use these. A tensor is
drawn from a generator seeded by the CRC-32 of `namespace:key`, where the key is the one in the
weight FILE (`key_map.py`); a table of patterns says how the normal draws are scaled, so that
activations keep a sensible size through every network:

    emb, bias, gain, mean, var   s·z, 0.05·z, 1 + 0.1·z, 0.1·z, 1 + 0.1·|z|
    matrix                       z · gain / √fan_in
    centred                      the same, z first centred over the fan-in axes: inputs behind a
                                 ReLU share a positive mean, and without centring it makes all
                                 mask queries agree

Arithmetic is float32 throughout and the same on every machine.
"""

import math
import re
import zlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np
import torch
from torch import Tensor, nn

from xmask3d_rt.model.key_map import NAMESPACES, Source, build_key_map
from xmask3d_rt.system.memory import count_cores

MAX_WORKERS = 4  # each holds one tensor beside the model

LOG_TEMPERATURE = 2.6592600369  # ln(1 / 0.07) in float32


class _Kind(Enum):
    KEEP = auto()  # not a learned weight: what the constructor computed stays
    CONSTANT = auto()
    COUNTER = auto()
    EMBEDDING = auto()
    BIAS = auto()
    GAIN = auto()
    MEAN = auto()
    VARIANCE = auto()
    MATRIX = auto()
    CENTRED = auto()
    RIGHT_MATRIX = auto()  # used as x @ W: the fan-in is the first axis
    KERNEL = auto()  # sparse kernel [K, Cin, Cout] or [Cin, Cout]


@dataclass(frozen=True)
class _Rule:
    pattern: str
    kind: _Kind
    value: float = 1.0
    vectors_only: bool = False


_EXTRACTOR = r"^xmask3d:backbone\.feature_extractor\."
_PREDICTOR = r"^xmask3d:sem_seg_head\.predictor\."
_SCHEDULE = (
    r"^sd:(betas|alphas_cumprod|alphas_cumprod_prev|sqrt_.*|log_one_minus_.*|posterior_.*"
    r"|lvlb_weights|logvar|scale_factor)$"
)
# The first match decides.
_RULES = (
    _Rule(r"^xmask3d:(criterion\.empty_weight|binary_loss_func\.pos_weight)$", _Kind.KEEP),
    _Rule(_SCHEDULE, _Kind.KEEP),
    _Rule(r"^sd:.*position_ids$", _Kind.KEEP),
    _Rule(r"logit_scale$", _Kind.CONSTANT, LOG_TEMPERATURE),
    _Rule(r"num_batches_tracked$", _Kind.COUNTER),
    _Rule(r"running_mean$", _Kind.MEAN),
    _Rule(r"running_var$", _Kind.VARIANCE),
    _Rule(_EXTRACTOR + r"alpha_cond(_time_embed)?$", _Kind.EMBEDDING, 0.5),
    _Rule(_EXTRACTOR + r".*positional_embedding$", _Kind.EMBEDDING, 0.02),
    _Rule(r"^xmask3d:category_head\.null_embed$", _Kind.EMBEDDING),
    _Rule(_PREDICTOR + r"(query_feat|query_embed|level_embed)\.weight$", _Kind.EMBEDDING),
    _Rule(r"^xmask3d:sem_seg_head\.pixel_decoder\.transformer\.level_embed$", _Kind.EMBEDDING),
    _Rule(
        r"^sd:cond_stage_model\..*(token_embedding|position_embedding)\.weight$",
        _Kind.EMBEDDING,
        0.5,
    ),
    _Rule(r"^clip:token_embedding\.weight$", _Kind.EMBEDDING),
    _Rule(r"^clip:positional_embedding$", _Kind.EMBEDDING, 0.1),
    _Rule(r"^clip:visual\.(class_embedding|positional_embedding)$", _Kind.EMBEDDING, 0.5),
    _Rule(r"^xmask3d:pc_binary_head\.fc\.bias$", _Kind.CONSTANT, 0.08),
    _Rule(r"^clip:(visual\.proj|text_projection)$", _Kind.RIGHT_MATRIX),
    _Rule(r"^xmask3d:pc_decoder\.encoder\..*\.?kernel$", _Kind.KERNEL, 1.5),
    _Rule(r"^xmask3d:pc_binary_head\.encoder\..*\.?kernel$", _Kind.KERNEL, 1.6),
    _Rule(r"(\.|_)bias$", _Kind.BIAS),
    _Rule(r"\.weight$", _Kind.GAIN, vectors_only=True),
    _Rule(r"^sd:first_stage_model\.quant_conv\.weight$", _Kind.MATRIX, 8.0),
    _Rule(r"^sd:first_stage_model\.post_quant_conv\.weight$", _Kind.MATRIX, 0.25),
    _Rule(r"^sd:(first_stage_model|model\.diffusion_model|cond_stage_model)\.", _Kind.MATRIX),
    _Rule(r"^clip:.*in_proj_weight$", _Kind.MATRIX, 1.8),
    _Rule(r"^clip:", _Kind.MATRIX),
    _Rule(_PREDICTOR + r"transformer_", _Kind.CENTRED, 0.5),
    _Rule(
        r"^xmask3d:(pc_binary_head|pc_decoder|backbone\.feature_extractor"
        r"|backbone\.feature_projections|sem_seg_head\.pixel_decoder|sem_seg_head\.predictor"
        r"|criterion\.fuser)\.",
        _Kind.CENTRED,
    ),
)


def fill_synthetic(model: nn.Module, namespaces: Collection[str] = NAMESPACES) -> None:
    """Set every learned tensor of an `XMask3D` to its synthetic value, in place.

    Loss constants keep what the constructor computed. Whatever the module derives from its
    weights (the embedding of the empty prompt) must be derived again afterwards.

    Args:
        model: changed in place.
        namespaces: the weight files whose tensors are set.

    Raises:
        KeyError: a tensor that no weight file, or no rule, covers.
    """
    tensors = model.state_dict()
    items = [
        (tensors[name], source)
        for name, source in build_key_map(model).items()
        if source.namespace in namespaces
    ]
    workers = min(MAX_WORKERS, count_cores())
    with ThreadPoolExecutor(workers) as pool:  # NumPy draws outside the interpreter lock
        for _ in pool.map(lambda item: _fill(*item), items):
            pass


@torch.no_grad()
def _fill(target: Tensor, source: Source) -> None:
    parts = []
    for key, shape in zip(source.keys, source.shapes(target.shape), strict=True):
        part = synthetic_tensor(source.namespace, key, shape)
        if part is None:
            return
        parts.append(torch.from_numpy(part))
    target.copy_(source.assemble(parts))


def synthetic_tensor(namespace: str, key: str, shape: Sequence[int]) -> np.ndarray | None:
    """The synthetic value of one tensor of a weight file.

    Args:
        namespace: `xmask3d`, `sd` or `clip`.
        key: name in the file, as `key_map.py` writes it.
        shape: its shape there.

    Returns:
        float32 array (int64 for counters), or None where the tensor is not a learned weight.

    Raises:
        KeyError: no rule covers it.
    """
    shape = tuple(shape)
    rule = _find_rule(f"{namespace}:{key}", shape)
    match rule.kind:
        case _Kind.KEEP:
            return None
        case _Kind.CONSTANT:
            return np.full(shape, rule.value, dtype=np.float32)
        case _Kind.COUNTER:
            return np.zeros(shape, dtype=np.int64)
    seed = zlib.crc32(f"{namespace}:{key}".encode())
    z = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32)
    return np.asarray(_scale(z, rule))


def _find_rule(full_name: str, shape: tuple[int, ...]) -> _Rule:
    for rule in _RULES:
        if rule.vectors_only and len(shape) != 1:
            continue
        if re.search(rule.pattern, full_name):
            return rule
    raise KeyError(f"synthetic_tensor: no rule for {full_name!r} {list(shape)}")


def _scale(z: np.ndarray, rule: _Rule) -> np.ndarray:
    """Normal draws to weights; the factor is rounded to float32 once."""
    tenth = np.float32(0.1)
    match rule.kind:
        case _Kind.EMBEDDING:
            return np.float32(rule.value) * z
        case _Kind.BIAS:
            return np.float32(0.05) * z
        case _Kind.GAIN:
            return np.float32(1) + tenth * z
        case _Kind.MEAN:
            return tenth * z
        case _Kind.VARIANCE:
            return np.float32(1) + tenth * np.abs(z)
    if rule.kind is _Kind.CENTRED:
        mean = z.reshape(len(z), -1).mean(axis=1, dtype=np.float64).astype(np.float32)
        z = z - mean.reshape(-1, *(1,) * (z.ndim - 1))
    return z * np.float32(rule.value / math.sqrt(_fan_in(z.shape, rule.kind)))


def _fan_in(shape: tuple[int, ...], kind: _Kind) -> int:
    """Inputs that each output sums over."""
    if kind is _Kind.KERNEL:
        return math.prod(shape[:-1])
    if kind is _Kind.RIGHT_MATRIX:
        return shape[0]
    return math.prod(shape[1:])
