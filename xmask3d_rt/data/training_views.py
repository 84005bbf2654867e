"""Training samples from labelled scenes: one random view per sample, as the released loader.

An epoch visits every scene `loop` times; which view, and the augmentation, come from the
generator that the trainer seeds for the sample.
"""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import distance_transform_edt

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.config import ModelConfig
from xmask3d_rt.data.augment import voxelize_view
from xmask3d_rt.data.collection import open_collection, read_label_image
from xmask3d_rt.data.labelled import LabelledScene
from xmask3d_rt.data.labels import LabelSpace, make_label_space
from xmask3d_rt.data.view_index import ViewRule, index_views, project_prepared
from xmask3d_rt.many.jobs import Progress
from xmask3d_rt.scene.prepare import prepare_view, resize_depth_nearest
from xmask3d_rt.scene.view import View
from xmask3d_rt.training.batch import TrainingSample

KEPT_SCENES = 4  # in memory per loader process; a scene is 4 MB
SPREAD = 3  # pixels of the mask grid over which a point's label spreads


class LoadedScene(NamedTuple):
    """Points, colours, evaluation labels and views of a scene."""

    xyz: np.ndarray
    rgb: np.ndarray
    labels: np.ndarray
    views: dict[str, View]


class SceneViewDataset:
    """Random views of the training scenes of a collection; a `TrainingDataset`.

    Attributes:
        space: classes, base split and label tables.

    Args:
        folder: data folder in any layout.
        config: of the model: class split, image size, mask grid, voxel size.
        cache_dir: where the counts of views are kept.
        split: of the folder.
        loop: samples per scene and epoch.
        augment: random scale and rotation of the points.
        extra: also elastic, flip and colour augmentation, no part of the released recipe.
        progress: called with (scenes done, scenes) while views are counted.
        workers: processes that count them.

    Raises:
        FileNotFoundError, ValueError: the folder has no such split, its labels mean none of the
            classes, or no view can be used.
    """

    def __init__(
        self,
        folder: Path,
        config: ModelConfig,
        cache_dir: Path,
        split: str = "train",
        loop: int = 16,
        augment: bool = True,
        extra: bool = False,
        progress: Progress | None = None,
        workers: int = 1,
    ) -> None:
        collection = open_collection(folder, split)
        classes = parse_classes(list(config.split.names))
        self._source = collection.pick_source(classes)
        self.space: LabelSpace = make_label_space(classes, config.split, self._source)
        self._config = config
        rule = ViewRule.for_training(config.view)
        self._views = index_views(
            collection, self.space, self._source, config.view, rule, cache_dir, progress, workers
        )
        self._scenes = [scene for scene in collection.scenes if scene.name in self._views]
        self._loop, self._augment, self._extra = loop, augment, extra
        self._load_scene = lru_cache(KEPT_SCENES)(self._read_scene)

    def __len__(self) -> int:
        return len(self._scenes) * self._loop

    def __getstate__(self) -> dict[str, object]:
        """What a loader process gets: everything but the scenes in memory."""
        return {k: v for k, v in self.__dict__.items() if k != "_load_scene"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._load_scene = lru_cache(KEPT_SCENES)(self._read_scene)

    def load(self, index: int, rng: np.random.Generator) -> TrainingSample:
        """A random usable view of scene `index` modulo the number of scenes.

        Raises:
            ValueError, OSError: a damaged or missing file.
        """
        place = index % len(self._scenes)
        scene = self._scenes[place]
        name = str(rng.choice(self._views[scene.name]))
        return self.load_view(place, name, rng if self._augment else None)

    def load_view(self, place: int, name: str, rng: np.random.Generator | None) -> TrainingSample:
        """The sample of one view; without a generator its points stay as they are.

        Args:
            place: index of the scene.
            name: of the view.
            rng: for the augmentation.

        Raises:
            ValueError, OSError: a damaged or missing file.
        """
        scene, config = self._scenes[place], self._config
        loaded = self._load_scene(place)
        view = prepare_view(loaded.views[name], config.diffusion.image_size, config.view.mask_shape)
        projected = project_prepared(loaded.xyz, view, config.view)
        seen = projected.visible_indices().numpy()
        row, col = (t.numpy()[seen].astype(np.int64) for t in (projected.row, projected.col))
        labels = loaded.labels[seen]
        grid = voxelize_view(
            loaded.xyz[seen], loaded.rgb[seen], config.voxel_size, rng, self._extra
        )
        targets = self.space.point_targets(labels)
        return TrainingSample(
            name=f"{scene.name}/{name}",
            image=view.image,
            coords=grid.coords,
            colors=grid.colors,
            point_to_voxel=grid.point_to_voxel,
            row=row,
            col=col,
            labels_3d=targets,
            binary_label=self.space.binary_targets(labels),
            label_2d=self._label_image(scene, name, row, col, targets),
            caption=scene.read_captions().get(name, ""),
        )

    def _read_scene(self, place: int) -> LoadedScene:
        scene = self._scenes[place]
        cloud = scene.read_cloud()
        labels = self.space.read_points(scene.read_labels(self._source.name))
        views = {view.name: view for view in scene.list_views()}
        return LoadedScene(cloud.xyz, cloud.require_rgb(scene.name), labels, views)

    def _label_image(
        self, scene: LabelledScene, view: str, row: np.ndarray, col: np.ndarray, targets: np.ndarray
    ) -> np.ndarray:
        """Training labels [S, S] of a view: its label image, else its points'."""
        size = (self._config.diffusion.image_size,) * 2
        path = scene.label_image_path(view, self._source.name)
        if path is not None:
            labels = self.space.image_targets(read_label_image(path))
        else:
            grid = self._config.view.mask_shape
            labels = splat_labels(row, col, targets, grid, self.space.num_base)
        return resize_depth_nearest(labels, size)


def splat_labels(
    row: np.ndarray, col: np.ndarray, labels: np.ndarray, shape: tuple[int, int], rest: int
) -> np.ndarray:
    """A label image from points: a pixel takes the label of a point at most 3 pixels away.

    Args:
        row, col: [n] pixels of the points.
        labels: [n] their labels.
        shape: (rows, columns) of the image.
        rest: label of pixels without a point nearby.

    Returns:
        [rows, columns] int64.
    """
    image = np.full(shape, -1, np.int64)
    image[row, col] = labels
    distance, nearest = distance_transform_edt(image < 0, return_indices=True)
    return np.where(distance <= SPREAD, image[tuple(nearest)], rest)
