"""Models with synthetic weights, built once per session; do not modify them."""

import dataclasses

import pytest

from xmask3d_rt.config import get_preset
from xmask3d_rt.model.synthetic import fill_synthetic
from xmask3d_rt.model.xmask3d import XMask3D


def build_synthetic(config):
    model = XMask3D(config).eval()
    fill_synthetic(model)
    return model


@pytest.fixture(scope="session")
def synthetic_tiny():
    return build_synthetic(get_preset("tiny"))


@pytest.fixture(scope="session")
def synthetic_micro():
    """The same tensor names as every preset, in a tenth of the bytes of `tiny`."""
    tiny = get_preset("tiny")
    config = dataclasses.replace(
        tiny,
        name="micro",
        diffusion=dataclasses.replace(
            tiny.diffusion,
            unet_channels=(32, 32, 32, 32),
            vae_channels=(32, 32, 32, 32),
            context_dim=8,
        ),
        clip=dataclasses.replace(tiny.clip, vocab_size=100),
    )
    return build_synthetic(config)
