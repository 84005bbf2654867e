"""Views from whatever a caller hands in, read from disk ahead of their use."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.errors import join_names
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
    return RgbdFolder(listed, skips_damaged=False)


def _expect_views(value: Any) -> str:
    return (
        "run: views must be View objects or the path of an RGB-D folder, "
        f"got {type(value).__name__}"
    )


def read_groups(
    views: Sequence[View],
    config: ModelConfig,
    count: int,
    recorder: Recorder,
    damaged: dict[str, str] | None = None,
) -> Iterator[list[PreparedView]]:
    """Views at the model's sizes, in order, `count` at a time; the next are read meanwhile.

    Args:
        views: at least one.
        config: of the model.
        count: views per group; the last one, and one with damaged views, may have fewer.
        recorder: receives the time spent waiting, as stage "read views".
        damaged: receives names and faults of views that cannot be read, which are left out;
            None: they are errors.

    Raises:
        OSError, ValueError, TypeError: a view's file is missing or damaged; when its turn comes.
    """
    size, grid = config.diffusion.image_size, config.view.mask_shape
    pending: deque[Future[PreparedView]] = deque()
    with ThreadPoolExecutor(max_workers=min(count, MAX_READERS)) as readers:
        try:
            for start in range(0, len(views), count):
                ahead = views[start + len(pending) : start + 2 * count]
                pending.extend(readers.submit(prepare_view, view, size, grid) for view in ahead)
                with recorder.measure("read views"):
                    group = [
                        prepared
                        for view in views[start : start + count]
                        if (prepared := _take(pending.popleft(), view, damaged)) is not None
                    ]
                if group:
                    yield group
        finally:
            for future in pending:
                future.cancel()


def _take(
    pending: Future[PreparedView], view: View, damaged: dict[str, str] | None
) -> PreparedView | None:
    """A view that was read; None for a damaged one that is to be left out."""
    try:
        return pending.result()
    except (OSError, ValueError, TypeError) as error:
        if damaged is None:
            raise
        damaged[view.name] = str(error)
        return None


def describe_damaged(damaged: dict[str, str], total: int) -> str:
    """A note on the views of a folder that could not be read."""
    first = next(iter(damaged.values()))
    return (
        f"left out {len(damaged)} of {total} views that cannot be read "
        f"({join_names(damaged)}; the first: {first})"
    )
