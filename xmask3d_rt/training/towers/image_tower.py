"""CLIP's image tower of the `tiny` preset, trained as MaskCLIP uses it.

Each step takes random crops of views, in each crop a few regions of one kind (all of it, or one
object, at times grown by a little), and draws the embedding of every region towards the
text embedding of its kind and away from those of all others:

    loss = CE(s · cos(region, text), kind) + 1 − cos(region, text of its kind)

The text tower is fixed; the words of a kind are its name and names with an attribute.

Source: CLIP, Radford et al. 2021; mask tokens of MaskCLIP, Ding et al., arXiv 2208.08984.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from xmask3d_rt.model.clip import Clip
from xmask3d_rt.training.towers.fit import Clock, Fit, Losses, Plan
from xmask3d_rt.training.towers.text_tower import encode_texts
from xmask3d_rt.training.towers.views import LABEL_SIZE, NO_KIND, ViewBatch, ViewStore, join_views

SCALE = 20.0  # on cosines; text embeddings of neighbouring kinds have cosines of 0.7
REGIONS = 8  # of one view
MIN_PIXELS = 24  # of a region, of LABEL_SIZE²
INSIDE = 8.0  # mask logit inside a region, negated outside
SMALLEST_CROP = 0.35  # side of a crop over the view's
GROWN_SHARE = (
    0.25  # of the steps in which masks are a pixel too large: predicted ones are not exact
)
WORDS_OF_KIND = ("{}", "a {}", "a photo of a {}")


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of views: `logits` [B, Q, L, L], `kinds` [B, Q], NO_KIND where there is none."""

    logits: Tensor
    kinds: Tensor


def train_image_tower(
    clip: Clip,
    views: ViewStore,
    attributes: Mapping[str, Sequence[str]],
    folder: Path,
    plan: Plan,
    clock: Clock,
) -> bool:
    """Train `clip.visual` in place against its text tower; whether it is done.

    Args:
        clip: its text tower is trained already.
        views: training views.
        attributes: of kinds, such as "wooden".
        folder: of checkpoint and log.
        plan, clock: how long.
    """
    bank = embed_kinds(clip, views.classes, attributes)
    device = bank.device

    def losses(rng: np.random.Generator) -> Losses:
        batch = crop_views(views.draw(rng, plan.batch), rng)
        regions = draw_regions(batch, rng)
        embed = clip.visual(batch.images.to(device), regions.logits.to(device))
        wanted = bank[int(rng.integers(len(bank)))]
        return contrast(embed, regions.kinds.to(device), wanted)

    return Fit("image", folder, clip.visual, losses, plan).run(clock)


@torch.no_grad()
def embed_kinds(
    clip: Clip, kinds: Sequence[str], attributes: Mapping[str, Sequence[str]]
) -> Tensor:
    """Unit text embeddings [W, K, E] of W wordings of each kind; the first is its bare name."""
    rng = np.random.default_rng(0)
    wordings = [[form.format(kind) for kind in kinds] for form in WORDS_OF_KIND]
    wordings.append([f"a {rng.choice(attributes.get(kind, ['usual']))} {kind}" for kind in kinds])
    return torch.stack([F.normalize(encode_texts(clip, row), dim=-1) for row in wordings])


def contrast(embed: Tensor, kinds: Tensor, texts: Tensor) -> dict[str, Tensor]:
    """Losses of region embeddings [B, Q, E] of `kinds` [B, Q] against texts [K, E]."""
    found = kinds != NO_KIND
    cosines = F.normalize(embed[found], dim=-1) @ texts.T
    wanted = kinds[found]
    pull = 1 - cosines.gather(1, wanted[:, None]).mean()
    return {"contrast": F.cross_entropy(SCALE * cosines, wanted), "pull": pull}


def crop_views(batch: ViewBatch, rng: np.random.Generator) -> ViewBatch:
    """Crops of random size and place, half of them mirrored, in another light."""
    crops = []
    for view in range(len(batch.images)):
        image, kinds, objects = (x[view] for x in (batch.images, batch.kinds, batch.objects))
        side = rng.uniform(SMALLEST_CROP, 1.0) if rng.uniform() < 0.7 else 1.0
        low = rng.uniform(0, 1 - side, 2)
        ids = torch.stack([kinds, objects]).float()
        image, ids = _cut(image, low, side, "bilinear"), _cut(ids, low, side, "nearest").long()
        if rng.uniform() < 0.5:
            image, ids = image.flip(-1), ids.flip(-1)
        gain = torch.from_numpy(rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3)).float()
        image = (image * gain[:, None, None]).clamp(0, 1)
        crops.append(ViewBatch(image[None], ids[:1], ids[1:], batch.captions[view : view + 1]))
    return join_views(crops)


def _cut(image: Tensor, low: np.ndarray, side: float, mode: str) -> Tensor:
    """A square part of [C, S, S], at its size."""
    size = image.shape[-1]
    row, col = (int(v) for v in np.floor(low * size))
    width = max(int(side * size), 1)
    part = image[None, :, row : row + width, col : col + width]
    return F.interpolate(part, size=(size, size), mode=mode)[0]


def draw_regions(batch: ViewBatch, rng: np.random.Generator) -> Regions:
    """Up to `REGIONS` regions of each view, each all of a kind or one object of it."""
    logits = torch.full((len(batch.images), REGIONS, LABEL_SIZE, LABEL_SIZE), -INSIDE)
    found = torch.full((len(batch.images), REGIONS), NO_KIND)
    for b, (kinds, objects) in enumerate(
        zip(batch.kinds.numpy(), batch.objects.numpy(), strict=True)
    ):
        values, counts = np.unique(kinds[kinds != NO_KIND], return_counts=True)
        values = rng.permutation(values[counts >= MIN_PIXELS])[:REGIONS]
        for q, kind in enumerate(values):
            mask = _draw_object(kinds == kind, objects, rng)
            logits[b, q][torch.from_numpy(mask)] = INSIDE
            found[b, q] = int(kind)
    grown = rng.uniform() < GROWN_SHARE
    return Regions(F.max_pool2d(logits, 3, 1, 1) if grown else logits, found)


def _draw_object(mask: np.ndarray, objects: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All of a kind's mask [L, L], or one of its objects that is large enough."""
    numbers, sizes = np.unique(objects[mask], return_counts=True)
    large = numbers[sizes >= MIN_PIXELS]
    if rng.uniform() < 0.5 or not len(large):
        return mask
    return mask & (objects == rng.choice(large))


@torch.no_grad()
def score_image_tower(clip: Clip, views: ViewStore, names: Sequence[str]) -> np.ndarray:
    """Zero-shot confusion [K, K] of regions of whole views, true kind by row.

    Args:
        clip: both towers.
        views: held-out views.
        names: one text per kind.
    """
    texts = F.normalize(encode_texts(clip, names), dim=-1)
    confusion = np.zeros((len(names), len(names)), np.int64)
    rng = np.random.default_rng(0)
    for index in range(len(views.files)):
        batch = views.read(index)
        regions = draw_regions(batch, rng)
        embed = clip.visual(batch.images.to(texts.device), regions.logits.to(texts.device))
        best = (F.normalize(embed, dim=-1) @ texts.T).argmax(-1).cpu()
        found = regions.kinds != NO_KIND
        np.add.at(confusion, (regions.kinds[found].numpy(), best[found].numpy()), 1)
    return confusion
