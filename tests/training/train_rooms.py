"""Train the small model on generated rooms, in a process of its own: OUT [SETTING ...]."""

import sys
from pathlib import Path

import torch

from tests.training.rooms import RoomViews, make_micro_model
from tests.training.settings import SETTINGS
from xmask3d_rt.training.command import join_processes
from xmask3d_rt.training.config import make_config
from xmask3d_rt.training.trainer import Trainer


def main(out, changes):
    torch.set_num_threads(1)
    data = RoomViews(rooms=1, views=2, loop=2, jitter=0.05)
    with join_processes("cpu"):
        config = make_config("tiny", [*SETTINGS, *changes])
        Trainer(make_micro_model(), config, data, out).fit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
