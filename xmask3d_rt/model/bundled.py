"""The weights of `tiny` that lie in the package: one file of half-precision tensors.

It holds the state dict of the whole model in the module's own names, but for what follows from
the rest:

- Stable Diffusion's text encoder is CLIP's text tower, as in Stable Diffusion v1.
- Blocks behind the last taps are never run; their tensors are zero.
- Of the table of token embeddings it has the rows of `token_ids`; every other token, which no
  training text contained, has the mean of those.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.files import atomic_write
from xmask3d_rt.model.diffusion import prune_decoder, prune_unet
from xmask3d_rt.model.xmask3d import XMask3D

TOKENS, TOKEN_IDS = "clip.token_embedding.weight", "token_ids"
TEXT_ENCODER = "diffusion.text_encoder."


def write_packed(model: XMask3D, token_ids: Tensor, path: Path) -> None:
    """Write the weights of a model.

    Args:
        model: its Stable Diffusion text encoder is CLIP's text tower.
        token_ids: [K] int64, ascending; tokens whose embeddings were trained.
        path: of the file.

    Raises:
        CheckpointError: the text encoder is another than CLIP's.
    """
    state = model.state_dict()
    live = _list_live(model)
    packed = {}
    for name, tensor in state.items():
        twin = _name_twin(name)
        if twin is not None and not torch.equal(tensor, state[twin]):
            raise CheckpointError(f"{name} differs from {twin}, which packed weights share")
        if twin is None and name in live:
            packed[name] = _halve(tensor)
    packed[TOKENS] = packed[TOKENS][token_ids]
    packed[TOKEN_IDS] = token_ids.to(torch.int32)
    with atomic_write(path) as temporary:
        save_file({name: t.contiguous() for name, t in packed.items()}, temporary)


def read_packed(path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All tensors of a model by name, float32.

    Args:
        path: written by `write_packed`.
        state: state dict of the model, possibly on the meta device: names and shapes.

    Raises:
        CheckpointError: no such file, or of a model of another shape.
    """
    check_present(path)
    packed = load_file(path)
    ids = packed.pop(TOKEN_IDS).long()
    rows = packed.pop(TOKENS).float()
    table = rows.mean(dim=0).expand(state[TOKENS].shape[0], -1).clone()
    table[ids] = rows
    found = {TOKENS: table, **{name: _widen(tensor) for name, tensor in packed.items()}}
    whole = {}
    for name, wanted in state.items():
        tensor = found.get(_name_twin(name) or name)
        if tensor is None:
            tensor = torch.zeros(wanted.shape, dtype=wanted.dtype)
        if tensor.shape != wanted.shape:
            raise CheckpointError(
                f"{path}: {name} has shape {list(tensor.shape)}, the model needs "
                f"{list(wanted.shape)}"
            )
        whole[name] = tensor
    return whole


def check_present(path: Path) -> None:
    """Make sure that there is such a file.

    Raises:
        CheckpointError: there is none.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: the package has no such weights; use --weights synthetic")


def _name_twin(name: str) -> str | None:
    """CLIP's tensor that a tensor of Stable Diffusion's text encoder equals; None for others."""
    if not name.startswith(TEXT_ENCODER):
        return None
    return "clip." + name.removeprefix(TEXT_ENCODER)


def _list_live(model: XMask3D) -> set[str]:
    """Names of the tensors that are ever used."""
    unet: Any = model.diffusion.unet
    vae: Any = model.diffusion.vae
    pruned = {
        "diffusion.unet.": prune_unet(unet).state_dict(),
        "diffusion.vae.decoder.": prune_decoder(vae.decoder).state_dict(),
    }
    names = {name for name in model.state_dict() if not name.startswith(tuple(pruned))}
    return names.union(*({p + name for name in s} for p, s in pruned.items()))


def _halve(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
