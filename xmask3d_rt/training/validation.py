"""Scores of the model on held-out scenes during training: a few scenes, a few views of each.

Fixed scenes and views, so that epochs compare; the published numbers are those of `xmask3d eval`.
"""

from collections.abc import Mapping
from pathlib import Path

from xmask3d_rt.classes import parse_classes
from xmask3d_rt.config import ModelConfig
from xmask3d_rt.data.collection import open_collection
from xmask3d_rt.data.labels import make_label_space
from xmask3d_rt.evaluation.iou import Confusion, score
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.scene.rgbd import spread_views


class SceneValidator:
    """Labels scenes of a split with the module and scores its fused head.

    Args:
        folder: data folder in any layout.
        config: of the model.
        scenes: at most this many scenes, evenly spread.
        views: at most this many views of each, evenly spread.
        split: of the folder.

    Raises:
        FileNotFoundError, ValueError: the folder has no such split, or its labels mean none of
            the classes.
    """

    def __init__(
        self, folder: Path, config: ModelConfig, scenes: int, views: int, split: str = "val"
    ) -> None:
        collection = open_collection(folder, split)
        self._classes = parse_classes(list(config.split.names))
        source = collection.pick_source(self._classes)
        self._label_set = source.name
        self._space = make_label_space(self._classes, config.split, source)
        step = -(-len(collection) // scenes)
        self._scenes = collection.scenes[::step]
        self._views = views

    def __call__(self, model: XMask3D) -> Mapping[str, float]:
        """`val_hiou`, `val_miou_base`, `val_miou_novel` in percent; 0 for classes none has."""
        from xmask3d_rt.export.parity.module_pipeline import make_module_segmenter

        segmenter = make_module_segmenter(model.eval())
        confusion = Confusion(len(self._classes))
        for scene in self._scenes:
            cloud = scene.read_cloud()
            labels = self._space.read_points(scene.read_labels(self._label_set))
            views = spread_views(scene.list_views(), self._views)
            result = segmenter.run(cloud, self._classes, views=views)
            confusion.add(result.heads["fused"], labels)
        found = score(confusion, self._classes.titles, self._space.is_base)
        return {
            "val_hiou": found.hiou or 0.0,
            "val_miou_base": found.miou_base or 0.0,
            "val_miou_novel": found.miou_novel or 0.0,
        }
