"""The feature pass on a GPU: streams, events, fixed buffers and CUDA graphs.

Source: CUDA programming guide, "Asynchronous concurrent execution" and "CUDA graphs"; PyTorch
notes, "CUDA semantics", CUDA graphs.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from xmask3d_rt.engines.base import Engine
from xmask3d_rt.errors import EngineError
from xmask3d_rt.nets.heads import Heads
from xmask3d_rt.pipeline.feature_stages import (
    Buffers,
    BufferSet,
    Pending,
    Stage,
    allocate_buffers,
    infer_in_place,
)
from xmask3d_rt.pipeline.masks import ViewMasks, embed_masks, is_finite
from xmask3d_rt.pipeline.recorder import Recorder
from xmask3d_rt.pipeline.streams import Lane, Streams

BUFFER_SETS = 2  # one batch under way on the caller's stream, the next one's VAE beside it
CHECKED = ("mask_head", "mask_clip")  # whose embeddings are checked


class FeatureQueue:
    """The pass on streams: which stage runs where, and what it waits for.

        source   image ─┐
        side            └ VAE encoder ─┬ VAE decoder ─┐
        caller   sparse nets …         └ UNet         └ mask head, MaskCLIP, copy of the results

    Two sets of buffers are used in turn, so that the VAE of the next batch may run while the
    UNet and the mask head still read the features of this one. Waits:

    - the image is written once the set's last batch is over, MaskCLIP being its last reader;
    - the VAE after the image, the UNet after the encoder, the mask head after the decoder;
    - a UNet after the previous batch, as both use the same engines, whatever stream either
      was finished on. The VAE's engines run on the side stream alone.

    Args:
        engines: all five by name, on `device`.
        heads: the mask-embedding layers.
        device: where the buffers lie.
        graphs: whether to capture stages whose engines allow it.
        streams: queues of the device.
        batch: images the buffers hold.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        heads: Heads,
        device: torch.device,
        graphs: bool,
        streams: Streams,
        batch: int,
    ) -> None:
        self._streams = streams
        side, main = streams.make_lane(), streams.make_lane()
        self._side = side.stream
        work: dict[str, tuple[Lane, Engine, Callable[[Buffers], None]]] = {
            "VAE encoder": (side, engines["vae_encoder"], _run(engines["vae_encoder"])),
            "VAE decoder": (side, engines["vae_decoder"], _run(engines["vae_decoder"])),
            "UNet": (main, engines["unet"], _run(engines["unet"])),
            "mask head": (main, engines["mask_head"], _run_mask_head(engines["mask_head"], heads)),
            "MaskCLIP": (main, engines["mask_clip"], _run_mask_clip(engines["mask_clip"])),
        }
        self._stages = {
            name: Stage(name, step, lane, streams, graphs and engine.capturable)
            for name, (lane, engine, step) in work.items()
        }
        self._buffer_sets = [
            self._make_buffers(index, engines, batch, device) for index in range(BUFFER_SETS)
        ]
        self._turn = 0
        self._finished = self._buffer_sets[-1].idle

    def _make_buffers(
        self, index: int, engines: Mapping[str, Engine], batch: int, device: torch.device
    ) -> BufferSet:
        buffers = allocate_buffers(engines.values(), batch, device)
        buffers["mask_embed"] = torch.empty_like(buffers["mask_embed_clip"])
        for component in CHECKED:
            buffers[_flag(component)] = torch.ones((), dtype=torch.bool, device=device)
        # the memory may have been another tensor's, with work on this stream that still uses it
        return BufferSet(index, buffers, idle=self._streams.record(self._streams.current()))

    def start(self, image: Tensor, recorder: Recorder, source: Any) -> Pending:
        """Copy the image and queue the VAE; see `FeaturePass.start`."""
        streams, buffer_set = self._streams, self._buffer_sets[self._turn % BUFFER_SETS]
        buffer = buffer_set.buffers["image"]
        _check_input("image", image, buffer)
        batch = image.shape[0]
        self._turn += 1
        buffer_set.turn = self._turn
        source = streams.current() if source is None else source
        streams.wait(source, buffer_set.idle)
        try:
            # on the stream the image was made on: its memory is free for reuse there after this
            with streams.on(source):
                buffer[:batch].copy_(image)
            streams.wait(self._side, streams.record(source))
            with recorder.measure("VAE encoder"):
                self._stages["VAE encoder"].queue(buffer_set, batch, self._side)
            buffer_set.encoded = streams.record(self._side)
            with recorder.measure("VAE decoder"):
                self._stages["VAE decoder"].queue(buffer_set, batch, self._side)
        finally:
            # until `finish` puts its own end here, in case the batch is given up
            buffer_set.decoded = buffer_set.idle = streams.record(self._side)
        return Pending(image, {}, buffer_set, buffer_set.turn)

    def finish(
        self, pending: Pending, buffer_set: BufferSet, imp_condition: Tensor, recorder: Recorder
    ) -> ViewMasks:
        """Queue the rest on the current stream; see `FeaturePass.finish`."""
        if pending.turn != buffer_set.turn:
            raise EngineError(
                f"feature pass: finish of a batch that {BUFFER_SETS} later ones took the place of, "
                f"or that is finished; finish each batch once, before the second start after it"
            )
        streams, batch = self._streams, len(pending.image)
        current, buffer = streams.current(), buffer_set.buffers["imp_condition"]
        _check_input("imp_condition", imp_condition, buffer, batch)
        buffer_set.turn = 0
        streams.wait(current, self._finished)
        streams.wait(current, buffer_set.encoded)
        try:
            with streams.on(current):
                buffer[:batch].copy_(imp_condition)
            with recorder.measure("UNet"):
                self._stages["UNet"].queue(buffer_set, batch, current)
            streams.wait(current, buffer_set.decoded)
            with recorder.measure("mask head"):
                self._stages["mask head"].queue(buffer_set, batch, current)
            with recorder.measure("MaskCLIP"):
                self._stages["MaskCLIP"].queue(buffer_set, batch, current)
            with streams.on(current):
                return _copy_results(buffer_set, batch)
        finally:
            buffer_set.idle = self._finished = streams.record(current)


def _copy_results(buffer_set: BufferSet, batch: int) -> ViewMasks:
    """Copies for the caller, who may read them long after the set has its next batch.

    4 MB per view; buffers handed out would have to be handed back.
    """
    found = buffer_set.of_batch(batch)
    return ViewMasks(
        found["pred_masks"].clone(),
        found["mask_embed"].clone(),
        found["mask_embed_clip"].clone(),
        {component: found[_flag(component)].clone() for component in CHECKED},
    )


def _flag(component: str) -> str:
    return f"{component} is finite"


def _run(engine: Engine) -> Callable[[Buffers], None]:
    return lambda buffers: infer_in_place(engine, buffers)


def _run_mask_head(engine: Engine, heads: Heads) -> Callable[[Buffers], None]:
    def run(buffers: Buffers) -> None:
        infer_in_place(engine, buffers)
        buffers["mask_embed"].copy_(embed_masks(heads, buffers))
        buffers[_flag("mask_head")].copy_(is_finite(buffers["mask_embed"]))

    return run


def _run_mask_clip(engine: Engine) -> Callable[[Buffers], None]:
    def run(buffers: Buffers) -> None:
        infer_in_place(engine, buffers)
        buffers[_flag("mask_clip")].copy_(is_finite(buffers["mask_embed_clip"]))

    return run


def _check_input(name: str, given: Tensor, buffer: Tensor, batch: int | None = None) -> None:
    """Copying into a buffer would broadcast and convert, so nothing else would notice."""
    shape = (*given.shape[:1], *buffer.shape[1:]) if batch is None else (batch, *buffer.shape[1:])
    fits = given.ndim == buffer.ndim and tuple(given.shape) == shape and len(given) > 0
    if not fits or given.dtype != buffer.dtype or given.device != buffer.device:
        rows = "B" if batch is None else batch
        want = ", ".join(str(size) for size in (rows, *buffer.shape[1:]))
        raise EngineError(
            f"feature pass: {name} must be [{want}] {buffer.dtype} on {buffer.device}, got "
            f"{list(given.shape)} {given.dtype} on {given.device}"
        )
