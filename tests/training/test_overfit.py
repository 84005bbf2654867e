"""Two generated rooms, learned by heart: every loss falls and the training points get their class.

Voxels are as wide as points are apart. At the 2 cm of the preset the voxels of so coarse a cloud
would have no neighbours above the fourth level, and a denser cloud takes seconds more a step.
Takes five minutes of one core, so it is no part of `make test`.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch

from xmask3d_rt import config as config_module
from xmask3d_rt.config import get_preset
from xmask3d_rt.data.room import generate_room, write_room
from xmask3d_rt.data.training_views import SceneViewDataset
from xmask3d_rt.training.batch import collate_samples
from xmask3d_rt.training.config import make_config
from xmask3d_rt.training.contrastive import contrastive_loss, mask_alignment, select_masks
from xmask3d_rt.training.criterion import fuse_views
from xmask3d_rt.training.first_weights import make_model
from xmask3d_rt.training.matcher import make_targets
from xmask3d_rt.training.metrics import TrainingIoU
from xmask3d_rt.training.points import RandomPoints
from xmask3d_rt.training.trainer import Trainer

SPACING = 0.16  # metres between points, and edge of a voxel
STEPS = 130
CERTAIN = 8.0  # logit inside a target mask
SETTINGS = (
    "loss.points=256",
    "loss.start_contrast=0",
    # Class and caption losses pull on the same features, towards texts that synthetic networks
    # embed far from images; at its released weight the alignment would need many more steps.
    "loss.contrast=2",
    "optim.lr_3d=8e-3",
    "optim.lr_others=1e-3",
    "optim.epochs=1",
    "optim.batch_size=2",
    "optim.checkpointing=none",
    f"run.loop={STEPS}",
    "run.workers=0",
    "run.log_every=10",
    "run.save_every=100000",
)


@pytest.fixture
def coarse_tiny(monkeypatch):
    """`tiny` with voxels as wide as the points of these rooms are apart."""
    coarse = dataclasses.replace(get_preset("tiny"), voxel_size=SPACING)
    get_preset.cache_clear()
    monkeypatch.setattr(config_module, "_tiny", lambda: coarse)
    yield
    get_preset.cache_clear()


class Measure:
    """Losses and IoU of one batch, always at the same points of the same views.

    A run's own values do not compare over time where a loss picks what it measures. The
    contrastive one looks at the masks that are predicted: at first at none (it is 0 then) or at a
    single one over the whole view, later at up to five small ones a view, so that its mean rises
    (0.32 to 0.40 over 12 epochs at the released weight) while the same masks are no worse
    aligned. Here the true masks take the place of the predicted ones.
    """

    def __init__(self, trainer, batch):
        self._trainer, self._batch = trainer, batch
        self._step, self._model = trainer._step, trainer.model
        frozen = trainer._frozen
        self._given = frozen.caption_embed(batch.captions), frozen.image_features(batch)

    @torch.no_grad()
    def losses(self):
        state = {name: value.clone() for name, value in self._model.state_dict().items()}
        points = RandomPoints(1024, range(len(self._batch)), torch.device("cpu"))
        found = self._step(self._batch, *self._given, points, False)
        self._model.load_state_dict(state)  # batch norms count what they see
        contrast = self._align(found.points)
        return {name: float(v) for name, v in found.values.items()} | {"loss_3d_contra": contrast}

    def _align(self, points):
        totals, counts = [], []
        for view, label in enumerate(self._batch.label_2d):
            here = self._batch.point_view == view
            masks = (2 * make_targets(label).masks - 1) * CERTAIN
            pixels = self._batch.row[here], self._batch.col[here]
            shape = self._model.config.view.mask_shape
            chosen = select_masks(masks, shape, *pixels, self._batch.binary_label[here])
            embed = self._model.clip.encode_masks(self._batch.images[view : view + 1], masks[None])
            total, count = mask_alignment(points.three_d[here], embed[0], chosen)
            totals.append(total)
            counts.append(count)
        assert sum(map(int, counts)) >= 2
        return float(contrastive_loss(totals, counts))

    @torch.no_grad()
    def iou(self):
        """Of inference: batch norms use their running statistics."""
        step, batch = self._step, self._batch
        self._model.eval()
        views = batch.view_batch(step.text_embed, step.text_class)
        output = self._model(views, self._given[1], False)
        points = fuse_views(self._model, views, output)
        counts = TrainingIoU(len(step.text_embed), torch.device("cpu"))
        null = self._model.category_head.null_embed
        counts.add(points, batch.labels_3d, step.text_embed, step.text_class, null)
        return counts.read()


@pytest.mark.full
@pytest.mark.timeout(3000)  # machines are busy
@pytest.mark.usefixtures("coarse_tiny")
def test_two_rooms_are_learned_by_heart(tmp_path):
    for seed in range(2):
        room = generate_room(seed, 1, (120, 160), point_spacing=SPACING)
        write_room(room, tmp_path / "rooms" / f"room{seed}")
    config = make_config("tiny", SETTINGS)
    folders = tmp_path / "rooms", config.model, tmp_path / "index"
    data = SceneViewDataset(*folders, loop=STEPS, augment=False)
    trainer = Trainer(make_model(config, torch.device("cpu")), config, data, tmp_path / "run")
    samples = [data.load(place, np.random.default_rng(0)) for place in range(2)]
    measure = Measure(trainer, collate_samples(samples, (40, 40, 40)))
    before = measure.losses()
    trainer.fit()
    after = measure.losses()
    assert len(before) == 3 * (get_preset("tiny").mask_head.decoder_layers + 1) + 7
    risen = {name: (before[name], after[name]) for name in before if after[name] >= before[name]}
    assert not risen
    iou = measure.iou()
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    assert rows[-1]["scores"]["train_3d"] > 0
    assert iou["3d"] > 80, iou
    assert iou["fused"] > 80, iou
