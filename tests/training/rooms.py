"""Generated rooms as training data, small enough for tests."""

import dataclasses

import numpy as np
import torch

from xmask3d_rt.config import SparseUNetConfig, get_preset
from xmask3d_rt.data.room import generate_room
from xmask3d_rt.kernels import project_view, voxelize
from xmask3d_rt.model.synthetic import fill_synthetic
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.scene.prepare import prepare_view, resize_depth_nearest
from xmask3d_rt.training.batch import TrainingSample

SPACING = 0.12
NARROW = (8, 8, 16, 16, 16, 16, 8, 8)


def micro_config():
    """The tensor names of every preset at widths that train in seconds."""
    tiny = get_preset("tiny")
    return dataclasses.replace(
        tiny,
        name="micro",
        voxel_size=0.15,
        point_encoder=SparseUNetConfig(NARROW, (1,) * 8, stem=8, out_channels=16),
        binary_head=SparseUNetConfig(NARROW, (1,) * 8, stem=8, out_channels=8),
        diffusion=dataclasses.replace(
            tiny.diffusion,
            image_size=128,
            unet_channels=(32, 32, 32, 32),
            vae_channels=(32, 32, 32, 32),
            context_dim=8,
        ),
        clip=dataclasses.replace(tiny.clip, vision_layers=1, text_layers=1),
        view=dataclasses.replace(tiny.view, mask_shape=(60, 80), border=2),
    )


def make_micro_model(seed=0):
    """A model with synthetic frozen networks; equal seeds, equal weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = XMask3D(micro_config())
    fill_synthetic(model, ("sd", "clip"))
    model.diffusion.embed_empty_prompt()
    return model


class RoomViews:
    """Every view of some rooms; `index` counts them through. `jitter` of colours uses the rng."""

    def __init__(self, rooms=2, views=2, loop=1, jitter=0.0):
        config = micro_config()
        made = [
            generate_room(seed, views, (120, 160), point_spacing=SPACING) for seed in range(rooms)
        ]
        self.samples = [
            make_sample(config, room, index, f"room{seed}/{index}")
            for seed, room in enumerate(made)
            for index in range(views)
        ]
        self.loop = loop
        self.jitter = jitter

    def __len__(self):
        return len(self.samples) * self.loop

    def load(self, index, rng):
        sample = self.samples[index % len(self.samples)]
        if not self.jitter:
            return sample
        colors = sample.colors + rng.normal(0, self.jitter, sample.colors.shape)
        return dataclasses.replace(sample, colors=colors.astype(np.float32))


def make_sample(config, room, index, name):
    shape = config.view.mask_shape
    view = prepare_view(room.views[index], config.diffusion.image_size, shape)
    projected = project_view(
        torch.from_numpy(room.points),
        torch.from_numpy(view.intrinsics),
        torch.from_numpy(view.world_to_camera),
        torch.from_numpy(view.depth),
        config.view.border,
        config.view.depth_tolerance,
    )
    seen = np.flatnonzero(projected.visible.numpy())
    voxels = voxelize(torch.from_numpy(room.points[seen]), config.voxel_size)
    split = config.split
    base = [i for i in range(len(split.names)) if i not in split.novel]
    table = np.full(256, len(base))
    table[base] = np.arange(len(base))
    binary = np.arange(256)
    binary[base], binary[list(split.novel)] = 1, 0
    labels = room.labels[seen].astype(np.int64)
    image = table[room.view_labels[index].astype(np.uint8)]
    size = (config.diffusion.image_size,) * 2
    return TrainingSample(
        name=name,
        image=view.image,
        coords=voxels.coords.numpy()[:, -3:],
        colors=(room.rgb[seen][voxels.first_point.numpy()] / 127.5 - 1).astype(np.float32),
        point_to_voxel=voxels.point_to_voxel.numpy().astype(np.int64),
        row=projected.row.numpy()[seen].astype(np.int64),
        col=projected.col.numpy()[seen].astype(np.int64),
        labels_3d=table[labels],
        binary_label=binary[labels],
        label_2d=resize_depth_nearest(image, size),
        caption="a room with a table",
    )
