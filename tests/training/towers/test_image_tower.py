"""What the stand-in for CLIP's image tower learns from: crops, regions, texts."""

import numpy as np
import pytest
import torch

from xmask3d_rt.training.towers.image_tower import INSIDE, contrast, crop_views, draw_regions
from xmask3d_rt.training.towers.views import LABEL_SIZE, NO_KIND, ViewBatch


@pytest.fixture
def views():
    """Two views whose pixel values tell their kind; two objects of kind 3, one of kind 1."""
    kinds = torch.full((2, LABEL_SIZE, LABEL_SIZE), NO_KIND)
    kinds[:, :40] = 3
    kinds[:, 60:] = 1
    objects = torch.zeros_like(kinds)
    objects[:, :20], objects[:, 20:40], objects[:, 60:] = 5, 6, 7
    images = (kinds[:, None].float() / 4).clamp(min=0).expand(-1, 3, -1, -1)
    return ViewBatch(images, kinds, objects, ["one", "two"])


def test_regions_are_kinds_or_single_objects(views):
    sizes = set()
    for seed in range(20):
        regions = draw_regions(views, np.random.default_rng(seed))
        assert sorted(set(regions.kinds.unique().tolist())) == [NO_KIND, 1, 3]
        first = regions.kinds[0].tolist().index(3)
        inside = regions.logits[0, first] == INSIDE
        sizes.add(int(inside.any(1).sum()))
    assert {20, 40} < sizes <= {20, 21, 22, 40, 41}  # one object or both; grown by a pixel


def test_crops_keep_pixels_and_labels_together(views):
    batch = crop_views(views, np.random.default_rng(1))
    assert batch.images.shape == views.images.shape
    for image, kinds, objects in zip(batch.images, batch.kinds, batch.objects, strict=True):
        assert (image[:, kinds == 3].mean() > image[:, kinds == 1].mean()).item()
        assert set(objects[kinds == 1].tolist()) <= {7}


def test_the_contrast_counts_regions_alone():
    texts = torch.eye(3, 4)
    embed = torch.stack([texts[[0, 1, 2]], texts[[0, 0, 0]]]) * 7
    right = torch.tensor([[0, 1, NO_KIND], [0, NO_KIND, NO_KIND]])
    assert contrast(embed, right, texts)["pull"].item() == pytest.approx(0)
    assert contrast(embed, right, texts)["contrast"].item() < 1e-6
    wrong = contrast(embed, torch.tensor([[1, 1, 1], [1, 1, 1]]), texts)
    assert wrong["pull"].item() == pytest.approx(5 / 6)
