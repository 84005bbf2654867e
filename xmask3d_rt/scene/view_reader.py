"""Views from whatever a caller hands in, read from disk ahead of their use."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.pipeline.recorder import Recorder
from xmask3d_rt.scene.prepare import PreparedView, prepare_view
from xmask3d_rt.scene.rgbd import RgbdFolder, read_rgbd
from xmask3d_rt.scene.view import View

MAX_READERS = 4  # decoding a JPEG and a PNG of 640 x 480 takes a core about 10 ms


def list_views(views: Any) -> RgbdFolder:
    """Views of an RGB-D folder with the notes about it, or the given ones; at least one.

    Args:
        views: a path, what `read_rgbd` returned, a `View`, or several.

    Raises:
        ValueError: no views.
        TypeError: something else than `View` objects or a path.
    """
    if isinstance(views, RgbdFolder):
        return views
    if isinstance(views, (str, os.PathLike)):
        return read_rgbd(views)
    if not isinstance(views, Iterable) and not isinstance(views, View):
        raise TypeError(_expect_views(views))
    listed = [views] if isinstance(views, View) else list(views)
    if not listed:
        raise ValueError("run: views is empty; pass View objects or an RGB-D folder, or None")
    for view in listed:
        if not isinstance(view, View):
            raise TypeError(_expect_views(view))
    return RgbdFolder(listed)


def _expect_views(value: Any) -> str:
    return (
        "run: views must be View objects or the path of an RGB-D folder, "
        f"got {type(value).__name__}"
    )


def read_groups(
    views: Sequence[View], config: ModelConfig, count: int, recorder: Recorder
) -> Iterator[list[PreparedView]]:
    """Views at the model's sizes, in order, `count` at a time; the next are read meanwhile.

    Args:
        views: at least one.
        config: of the model.
        count: views per group; the last one may have fewer.
        recorder: receives the time spent waiting, as stage "read views".

    Raises:
        FileNotFoundError, ValueError: a view's file is missing or damaged; when its turn comes.
    """
    size, grid = config.diffusion.image_size, config.view.mask_shape
    pending: deque[Future[PreparedView]] = deque()
    with ThreadPoolExecutor(max_workers=min(count, MAX_READERS)) as readers:
        try:
            for start in range(0, len(views), count):
                ahead = views[start + len(pending) : start + 2 * count]
                pending.extend(readers.submit(prepare_view, view, size, grid) for view in ahead)
                with recorder.measure("read views"):
                    group = [pending.popleft().result() for _ in views[start : start + count]]
                yield group
        finally:
            for future in pending:
                future.cancel()
