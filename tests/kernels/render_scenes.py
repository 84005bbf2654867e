"""Inputs for the tests of render_view."""

import numpy as np
import torch

K = torch.tensor([[20.0, 0, 15.5], [0, 21.0, 11.5], [0, 0, 1]], dtype=torch.float64)
SIZE = (24, 32)


def random_cloud(n, seed=0, dtype=torch.float32):
    """Points before, beside and behind the camera of `random_camera`."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, 3, generator=generator, dtype=torch.float64) * 1.5
    points[:, 2] += 2
    rgb = torch.randint(0, 256, (n, 3), generator=generator).to(torch.uint8)
    return points.to(dtype), rgb


def random_camera(seed=0):
    """world_to_camera of a camera near the origin, slightly turned."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
    turn *= np.sign(np.diag(turn))
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, 0.2 * rng.normal(size=3)
    return torch.from_numpy(pose)
