"""The stand-in for Stable Diffusion of the `tiny` preset: a VAE and a denoising auto-encoder.

VAE, on random crops: |x − x̂| + 10⁻⁶ · KL. Afterwards its latent is scaled to the spread that the
configuration's `scale_factor` expects, by the weights of the two convolutions around it.
UNet, on latents x of whole views: |x − f(x̃)|, where x̃ has noise of a random strength and blocks of
nothing but noise, and the text condition is the caption's, or that of "" in half of the views. Its
step is always 0, as in the model: the network has to see for itself what is noise.

Source: Stable Diffusion, Rombach et al. 2022; masked blocks as in He et al., arXiv 2111.06377.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmask3d_rt.model.diffusion import Diffusion
from xmask3d_rt.text.tokenizer import sd_empty_prompt_ids, tokenize
from xmask3d_rt.training.towers.fit import Clock, Fit, Losses, Plan
from xmask3d_rt.training.towers.views import ViewStore

KL_WEIGHT = 1e-6
FIRST_LOG_VARIANCE = -6.0
CROP = 64  # pixels of a side
BLOCK = 4  # latent pixels of a side that are hidden together
MOST_HIDDEN = 0.6  # of the blocks
SAMPLES = 64  # views whose latents are measured


def train_vae(
    diffusion: Diffusion, views: ViewStore, folder: Path, plan: Plan, clock: Clock
) -> bool:
    """Train the VAE in place; whether it is done."""
    vae: Any = diffusion.vae
    vae.requires_grad_(True)
    with torch.no_grad():  # behind noise as loud as itself no latent is learnt
        vae.quant_conv.bias[diffusion.config.latent_channels :] = FIRST_LOG_VARIANCE
    device = diffusion.noise.device

    def losses(rng: np.random.Generator) -> Losses:
        images = _crop(views.draw(rng, plan.batch).images, rng).to(device) * 2 - 1
        mean, log_variance = vae.quant_conv(vae.encoder(images)).chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        noise = torch.from_numpy(rng.standard_normal(mean.shape, np.float32)).to(device)
        latent = mean + (0.5 * log_variance).exp() * noise
        decoded = vae.decoder(vae.post_quant_conv(latent))
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        return {"pixels": F.l1_loss(decoded, images), "kl": KL_WEIGHT * divergence}

    done = Fit("vae", folder, vae, losses, plan).run(clock)
    vae.requires_grad_(False)
    if done:
        scale_latents(diffusion, views)
    return done


def _crop(images: Tensor, rng: np.random.Generator) -> Tensor:
    """One random place of all images [B, 3, S, S]."""
    row, col = rng.integers(0, images.shape[-1] - CROP + 1, 2)
    return images[:, :, row : row + CROP, col : col + CROP]


@torch.no_grad()
def scale_latents(diffusion: Diffusion, views: ViewStore) -> None:
    """Give latents of the training views a standard deviation of one; decoding stays the same."""
    rng = np.random.default_rng(0)
    images = views.draw(rng, min(SAMPLES, len(views.files))).images
    parts = [diffusion.encode(image.to(diffusion.noise.device))[0] for image in images.split(1)]
    spread = float(torch.cat(parts).std())
    vae: Any = diffusion.vae
    half = diffusion.config.latent_channels
    vae.quant_conv.weight[:half] /= spread
    vae.quant_conv.bias[:half] /= spread
    vae.post_quant_conv.weight *= spread


class Denoiser(nn.Module):
    """The UNet with what it needs to be trained: all of it runs, its step is always 0.

    Args:
        diffusion: VAE and text encoder stay as they are.
    """

    def __init__(self, diffusion: Diffusion) -> None:
        super().__init__()
        self.unet: Any = diffusion.unet

    def forward(self, latent: Tensor, context: Tensor) -> Tensor:
        """The clean latent [B, 4, h, w] found in a spoilt one."""
        step = torch.zeros(len(latent), device=latent.device)
        return self.unet(latent, step, context, return_dict=False)[0]


def train_denoiser(
    diffusion: Diffusion, views: ViewStore, folder: Path, plan: Plan, clock: Clock
) -> bool:
    """Train the UNet in place; VAE and text encoder are trained already; whether it is done."""
    denoiser = Denoiser(diffusion).requires_grad_(True)
    device = diffusion.noise.device

    def losses(rng: np.random.Generator) -> Losses:
        batch = views.draw(rng, plan.batch)
        with torch.no_grad():
            latent = diffusion.encode(batch.images.to(device))[0]
            context = embed_captions(diffusion, batch.captions, rng)
        return {"latent": F.l1_loss(denoiser(spoil(latent, rng), context), latent)}

    done = Fit("unet", folder, denoiser, losses, plan).run(clock)
    denoiser.requires_grad_(False)
    return done


def embed_captions(diffusion: Diffusion, captions: list[str], rng: np.random.Generator) -> Tensor:
    """Text conditions [B, 77, E]; half of them that of "" as Stable Diffusion pads it."""
    config = diffusion.config
    ids = tokenize(captions, config.context_length)
    empty = torch.from_numpy(rng.uniform(size=len(captions)) < 0.5)
    ids[empty] = sd_empty_prompt_ids(config.context_length)
    return diffusion.text_encoder(ids.to(diffusion.noise.device))


def spoil(latent: Tensor, rng: np.random.Generator) -> Tensor:
    """Latents [B, C, h, w] of unit spread with noise, and blocks that are noise alone."""
    count, _, height, width = latent.shape
    noise = torch.from_numpy(rng.standard_normal(latent.shape, np.float32)).to(latent.device)
    strength = torch.from_numpy(rng.uniform(0, 1, (count, 1, 1, 1)) ** 2).float()
    share = rng.uniform(0, MOST_HIDDEN, (count, 1, 1, 1))
    hidden = rng.uniform(size=(count, 1, height // BLOCK, width // BLOCK)) < share
    blocks = torch.from_numpy(hidden.astype(np.float32))
    blocks = F.interpolate(blocks, scale_factor=BLOCK, mode="nearest")
    amount = torch.maximum(strength, blocks).to(latent.device)
    return (1 - amount) * latent + amount * noise
