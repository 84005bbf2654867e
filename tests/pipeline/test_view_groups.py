"""Views in groups, as on a GPU: the same labels as one by one, and nothing that waits for it."""

import dataclasses
import functools
from unittest.mock import patch

import numpy as np
import pytest
import torch
from recorded_streams import RecordedStreams
from torch.utils._python_dispatch import _disable_current_modes

from tests.kernels.no_wait import WaitError, no_wait
from xmask3d_rt import PointCloud, Segmenter, View
from xmask3d_rt.data.room import generate_room
from xmask3d_rt.kernels import plan_view_voxels
from xmask3d_rt.pipeline import host_copy
from xmask3d_rt.pipeline import view as view_pipeline
from xmask3d_rt.pipeline.features import FeaturePass
from xmask3d_rt.pipeline.recorder import Recorder

CLASSES = ["wall", "floor", ["sofa", "couch"], "potted plant"]
TO_LIST = torch.Tensor.tolist


@pytest.fixture(scope="module")
def segmenter(tiny_engines):
    return Segmenter(tiny_engines, device="cpu", threads=1)


@pytest.fixture(scope="module")
def room():
    return generate_room(seed=3, views=3, image_size=(120, 160), point_spacing=0.08)


@pytest.fixture(scope="module")
def cloud(room):
    return PointCloud(room.points, room.rgb)


@pytest.fixture(scope="module")
def views(room):
    """Three of the room, and one in the middle that looks away from it."""
    away = room.views[0].camera_to_world.copy()
    away[:3, 3] += 100
    blind = View(room.views[0].image, room.views[0].depth, room.views[0].intrinsics, away, "away")
    return [*room.views[:2], blind, *room.views[2:]]


@pytest.fixture(scope="module")
def expected(segmenter, cloud, views):
    return segmenter.run(cloud, CLASSES, views)


@pytest.mark.parametrize(("group", "ahead"), [(1, 1), (2, 0), (2, 1), (3, 1), (100, 1)])
def test_groups_give_the_labels_of_single_views(
    segmenter, cloud, views, expected, monkeypatch, group, ahead
):
    monkeypatch.setattr(segmenter._pipeline, "group_views", group)
    monkeypatch.setattr(segmenter, "_groups_ahead", ahead)
    seen, done = [], []
    result = segmenter.run(
        cloud,
        CLASSES,
        views,
        observe=lambda name, projected, labels: seen.append((name, len(labels.fused))),
        progress=lambda count, total: done.append((count, total)),
    )
    for head, labels in expected.heads.items():
        np.testing.assert_array_equal(result.heads[head], labels)
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(result.coverage, expected.coverage)
    assert result.views == expected.views == ("0", "1", "3")
    assert result.notes == expected.notes
    assert [name for name, _ in seen] == list(result.views)
    assert done == [(i + 1, 4) for i in range(4)]


def test_large_clouds_get_smaller_groups(segmenter, cloud, views, monkeypatch):
    sizes = []
    select = segmenter._pipeline.select
    monkeypatch.setattr(segmenter._pipeline, "group_views", 4)
    monkeypatch.setattr(
        segmenter._pipeline,
        "select",
        lambda p, c, least: sizes.append(len(c)) or select(p, c, least),
    )
    monkeypatch.setattr("xmask3d_rt.segmenter.GROUP_ENTRIES", 2 * len(cloud) + 1)
    segmenter.run(cloud, CLASSES, views)
    assert sizes == [2, 2]


@pytest.mark.parametrize("mode", ["views", "virtual", "none"])
def test_a_room_3_km_from_the_origin(segmenter, room, mode):
    """Moved by 153,600 voxels, beyond the packed range: the same labels."""
    moved = np.array([3072, -3072, 512], np.float32)
    xyz = np.round(room.points * 1024) / 1024  # so that float32 holds the moved points exactly
    clouds = [PointCloud(xyz, room.rgb), PointCloud(xyz + moved, room.rgb)]
    np.testing.assert_array_equal(clouds[1].xyz - moved, clouds[0].xyz)

    def move(view):
        camera_to_world = view.camera_to_world.copy()
        camera_to_world[:3, 3] += moved
        return dataclasses.replace(view, camera_to_world=camera_to_world)

    given = room.views[:2]
    views = {"views": (given, [move(view) for view in given]), "virtual": (None, None)}
    near, far = (
        segmenter.run(cloud, CLASSES, its_views, virtual_views=2)
        for cloud, its_views in zip(clouds, views.get(mode, ("none", "none")), strict=True)
    )
    for head, labels in near.heads.items():
        np.testing.assert_array_equal(far.heads[head], labels)
    np.testing.assert_array_equal(far.coverage, near.coverage)
    np.testing.assert_allclose(far.scores, near.scores, atol=1e-5)


@pytest.fixture
def gpu_like(segmenter, monkeypatch):
    """The segmenter with everything a GPU's would do, on the CPU; counts the reads of sizes."""
    pipeline, reads = segmenter._pipeline, []
    streams = RecordedStreams()
    queued = FeaturePass(pipeline.engines, pipeline.heads, segmenter.device, streams=streams)
    monkeypatch.setattr(pipeline, "_features", queued)
    padded = functools.partial(plan_view_voxels, padded=True)
    monkeypatch.setattr(view_pipeline, "plan_view_voxels", padded)

    def wait(copy):
        reads.append(copy)
        return TO_LIST(copy._values)

    def quietly(call):
        def run(*arguments):
            with _disable_current_modes(), patch.object(torch.Tensor, "tolist", TO_LIST):
                return call(*arguments)

        return run

    monkeypatch.setattr(host_copy.HostCopy, "wait", wait)
    # copied through pinned memory, which waits for nothing
    monkeypatch.setattr(view_pipeline, "upload", quietly(host_copy.upload))
    # in Triton they wait for nothing: tests/kernels/interpreter/test_no_wait.py
    nets = {name: quietly(net) for name, net in pipeline._nets.items()}
    monkeypatch.setattr(pipeline, "_nets", nets)
    return segmenter, reads


def test_views_wait_for_sizes_alone(gpu_like, cloud, views, monkeypatch):
    segmenter, reads = gpu_like
    monkeypatch.setattr(segmenter._pipeline, "group_views", 3)
    monkeypatch.setattr(segmenter, "_groups_ahead", 1)
    with torch.inference_mode():
        target = segmenter._pipeline.make_target(
            segmenter._text.embed(["wall", "floor"]),
            torch.tensor([0, 1]),
            torch.tensor([True, False]),
        )
        points, colors = segmenter._upload(cloud)
        with no_wait(enter=False):
            found = list(segmenter._label_views(points, colors, views, target, Recorder()))
    assert [view.seen is not None for _, view in found] == [True, True, False, True]
    assert len(reads) == 2  # groups of 3 views and of one


def test_a_wait_would_be_found(gpu_like, cloud, views, monkeypatch):
    segmenter, _ = gpu_like
    select = segmenter._pipeline.select

    def waiting(points, cameras, least):
        return select(points, cameras, max(least, int(points.shape[0] > points.sum())))

    monkeypatch.setattr(segmenter._pipeline, "select", waiting)
    with torch.inference_mode():
        points, colors = segmenter._upload(cloud)
        labelled = segmenter._label_views(points, colors, views, None, Recorder())
        with no_wait(enter=False), pytest.raises(WaitError):
            next(labelled)
