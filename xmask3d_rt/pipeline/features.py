"""From images to masks and their embeddings: the part of a view whose shapes never change.

Diffusion features, mask head, mask embeddings and MaskCLIP (arXiv 2411.13243, sections 3.2 and
3.3). On a GPU the VAE runs on a stream of its own, beside the sparse nets and the UNet, and every
stage is a CUDA graph; elsewhere the same engines are called one after the other.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from xmask3d_rt.components import FEATURES, IMAGES, VIEW_ENGINES
from xmask3d_rt.engines.base import Engine
from xmask3d_rt.errors import EngineError
from xmask3d_rt.nets.heads import Heads
from xmask3d_rt.pipeline.feature_queue import FeatureQueue
from xmask3d_rt.pipeline.feature_stages import Pending
from xmask3d_rt.pipeline.masks import ViewMasks, check_finite, embed_masks, is_finite
from xmask3d_rt.pipeline.recorder import Recorder
from xmask3d_rt.pipeline.streams import CudaStreams, Streams


class FeaturePass:
    """The engines of `VIEW_ENGINES` and the mask-embedding head, applied to batches of views.

    One caller at a time. Results are the caller's: they stay as they are while later batches
    are computed.

    Args:
        engines: `VIEW_ENGINES` by name, on `device`; others are ignored.
        heads: the small layers between the engines, on `device`.
        device: where images come from and masks go to.
        graphs: on a GPU, replay CUDA graphs of stages whose engines can be captured.
        streams: queues of the device; None takes the GPU's, and none on a CPU.

    Raises:
        EngineError: an engine is missing.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        heads: Heads,
        device: torch.device,
        graphs: bool = True,
        streams: Streams | None = None,
    ) -> None:
        missing = [name for name in VIEW_ENGINES if name not in engines]
        if missing:
            raise EngineError(
                f"feature pass: no engine {missing[0]}; it needs {list(VIEW_ENGINES)}"
            )
        self._engines = {name: engines[name] for name in VIEW_ENGINES}
        self._heads = heads
        if streams is None and device.type == "cuda":
            streams = CudaStreams(device)
        self._queue = (
            None
            if streams is None
            else FeatureQueue(self._engines, heads, device, graphs, streams, self.max_batch)
        )

    @property
    def max_batch(self) -> int:
        """Most images per call: the smallest upper limit of the engines' axis B."""
        profiles = [engine.signature.profile for engine in self._engines.values()]
        return min(profile[IMAGES].max if IMAGES in profile else 1 for profile in profiles)

    @torch.inference_mode()
    def start(
        self,
        image: Tensor,
        recorder: Recorder,
        source: Any = None,
    ) -> Pending:
        """Begin with a batch: the VAE, which needs the image alone.

        On a GPU this queues the VAE encoder, and the VAE decoder behind it, on a side stream
        and returns at once; what the caller queues before `finish` runs beside them. The side
        stream waits for what was queued on `source` before. Two batches may be under way.

        Args:
            image: [B, 3, S, S] in [0, 1], float32.
            recorder: of stages; one that keeps values has them called one by one.
            source: stream that `image` was made on; None is the current one. With a stream of
                its own for uploads the VAE does not wait for earlier batches.

        Raises:
            EngineError: more images than `max_batch`, an image of another shape, dtype or
                device, or an engine failed.
        """
        if image.ndim and image.shape[0] > self.max_batch:
            raise EngineError(
                f"feature pass: {image.shape[0]} images at once, the engines take at most "
                f"{self.max_batch}; split the batch or rebuild them with --max-batch"
            )
        if self._queue is not None and not recorder.keeps_values:
            return self._queue.start(image, recorder, source)
        with recorder.measure("VAE encoder"):
            return Pending(image, self._infer("vae_encoder", recorder, image=image))

    @torch.inference_mode()
    def finish(
        self,
        pending: Pending,
        imp_condition: Tensor,
        recorder: Recorder,
    ) -> ViewMasks:
        """The rest of a batch, queued on the current stream: UNet, mask head, MaskCLIP.

        Args:
            pending: from `start`.
            imp_condition: 3D condition [B, E] of the UNet, float32.
            recorder: of stages and intermediates, the one that `start` was given.

        Raises:
            EngineError: a condition of another shape, dtype or device; two batches were
                started since `pending`; an engine failed; on a CPU or keeping values, an
                embedding is not finite (elsewhere `check_finite` says so, once per scene).
        """
        if self._queue is not None and pending.buffer_set is not None:
            return self._queue.finish(pending, pending.buffer_set, imp_condition, recorder)
        return self._call_rest(pending, imp_condition, recorder)

    def _call_rest(self, pending: Pending, imp_condition: Tensor, recorder: Recorder) -> ViewMasks:
        """Everything after the VAE encoder, stage by stage."""
        features = dict(pending.features)
        latent = features.pop("latent")
        with recorder.measure("UNet"):
            features |= self._infer("unet", recorder, latent=latent, imp_condition=imp_condition)
        with recorder.measure("VAE decoder"):
            features |= self._infer("vae_decoder", recorder, latent=latent)
        with recorder.measure("mask head"):
            masks = self._infer(
                "mask_head", recorder, **{name: features[name] for name in FEATURES}
            )
            mask_embed = embed_masks(self._heads, masks)
            finite = {"mask_head": is_finite(mask_embed)}
            check_finite([finite])
            recorder.record(mask_embed=mask_embed.flatten(0, 1))
        with recorder.measure("MaskCLIP"):
            clip_inputs = {"image": pending.image, "pred_masks": masks["pred_masks"]}
            mask_embed_clip = self._infer("mask_clip", recorder, **clip_inputs)["mask_embed_clip"]
            finite["mask_clip"] = is_finite(mask_embed_clip)
            check_finite([finite])
        return ViewMasks(masks["pred_masks"], mask_embed, mask_embed_clip, finite)

    def _infer(self, component: str, recorder: Recorder, **inputs: Tensor) -> dict[str, Tensor]:
        outputs = self._engines[component].infer(inputs)
        recorder.record(**outputs)
        return outputs
