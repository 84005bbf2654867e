"""The model as a run starts with it: frozen networks from files, the trained part drawn anew."""

from pathlib import Path

import torch

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.model.checkpoints import check_checkpoints, load_checkpoints
from xmask3d_rt.model.synthetic import fill_synthetic
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.training.config import TrainingConfig
from xmask3d_rt.training.step import embed_texts


def check_first_weights(
    config: ModelConfig, sd: Path | None, clip: Path | None, init: Path | None
) -> None:
    """Make sure that `make_model` finds all it needs, without a model in memory.

    Raises:
        ValueError, CheckpointError: as of `make_model`.
    """
    _check_pair(sd, clip)
    check_checkpoints(config, xmask3d=init, sd=sd, clip=clip)


def make_model(
    config: TrainingConfig,
    device: torch.device,
    sd: Path | None = None,
    clip: Path | None = None,
    init: Path | None = None,
) -> XMask3D:
    """A model ready to train; equal seeds give equal weights.

    Args:
        config: of the run.
        device: where it goes.
        sd, clip: weight files of Stable Diffusion and CLIP; without both the frozen networks are
            synthetic, for tests and small demonstrations.
        init: a checkpoint whose trained part to start from.

    Raises:
        ValueError: only one of `sd` and `clip` is given.
        CheckpointError: a file is missing, unreadable, of another model or incomplete.
    """
    _check_pair(sd, clip)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        model = XMask3D(config.model)
    if sd is None:
        fill_synthetic(model, ("sd", "clip"))
    load_checkpoints(model, xmask3d=init, sd=sd, clip=clip)
    model.diffusion.embed_empty_prompt()
    if init is None:  # "no object" begins as the embedding of no words
        with torch.no_grad():
            model.category_head.null_embed.copy_(embed_texts(model, [""]))
    return model.to(device)


def _check_pair(sd: Path | None, clip: Path | None) -> None:
    if (sd is None) != (clip is None):
        given, missing = ("--sd", "--clip") if clip is None else ("--clip", "--sd")
        raise ValueError(f"train: {given} needs {missing} as well: both networks stay frozen")
