"""Opening a weight file or folder of any known kind."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from xmask3d_rt.errors import CheckpointError, join_names, one_line
from xmask3d_rt.model.checkpoints import layouts
from xmask3d_rt.model.checkpoints.containers import (
    SAFETENSORS,
    TORCHSCRIPT,
    read_container,
    read_metadata,
)
from xmask3d_rt.model.checkpoints.layouts import Layout
from xmask3d_rt.model.checkpoints.lazy import LazyTensor
from xmask3d_rt.model.key_map import NAMESPACES

# Subfolder of a diffusers folder → stems of its weight files
_DIFFUSERS_PARTS = {
    "unet": ("diffusion_pytorch_model",),
    "vae": ("diffusion_pytorch_model",),
    "text_encoder": ("model", "pytorch_model"),
}

_MODEL_STEMS = ("open_clip_model", "open_clip_pytorch_model", "model", "pytorch_model")
# Full precision before half, safetensors before torch.
_ENDINGS = (
    *(".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json"),
    *(".fp16.safetensors", ".fp16.bin"),
)
# Names of attention projections in VAE files from before diffusers 0.15
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_ATTENTION_KEY = re.compile(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn)(\..*)")


@dataclass(frozen=True)
class WeightFile:
    """An opened weight file or folder; nothing is in memory until a tensor is loaded.

    Attributes:
        path: as given.
        layout: what it is.
        container: how it is stored.
        tensors: by the names `layout.locate` answers.
        files: every file read.
    """

    path: Path
    layout: Layout
    container: str
    tensors: dict[str, LazyTensor]
    files: tuple[Path, ...]

    @property
    def title(self) -> str:
        """Path and kind, for messages."""
        return f"{self.path} ({self.layout.title}, {self.container})"

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def dtypes(self) -> dict[str, int]:
        """Tensors per dtype, most frequent first."""
        counts = Counter(str(t.dtype).removeprefix("torch.") for t in self.tensors.values())
        return dict(counts.most_common())


def open_weights(path: Path | str) -> WeightFile:
    """Open a weight file or folder and say what it is.

    Args:
        path: `.pth.tar`, `.ckpt`, `.pt`, `.bin`, `.safetensors`, a diffusers folder, or a
            folder of a Hugging Face or open_clip model. The content decides, not the name.

    Raises:
        CheckpointError: missing, truncated, no weight file, or of no known model.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return _open_folder(path)
        if path.is_file():
            return _open_file(path)
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file or folder; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read ({reason}); check the path") from error
    raise CheckpointError(
        f"{path}: neither a file nor a folder (mode {mode:#o}); pass a weight file"
    )


def _open_file(path: Path) -> WeightFile:
    container, tensors = read_container(path)
    layout = _read_converted_layout(path) if container == SAFETENSORS else None
    layout = layout or layouts.recognise(tensors)
    if layout is None:
        raise CheckpointError(f"{path}: {container} with {layouts.describe_unknown(tensors)}")
    if layout is layouts.CLIP_OPEN_CLIP:
        tensors = _flatten_text_tower(tensors)
        if container == TORCHSCRIPT:
            layout = layouts.CLIP_OPENAI
    return WeightFile(path, layout, container, tensors, (path,))


def _read_converted_layout(path: Path) -> Layout | None:
    metadata = read_metadata(path)
    if metadata.get("format") != layouts.CONVERTED_FORMAT:
        return None
    if metadata.get("namespace") not in NAMESPACES:
        raise CheckpointError(f"{path}: damaged header, namespace {metadata.get('namespace')!r}")
    return layouts.converted_layout(metadata["namespace"])


def _flatten_text_tower(tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    """open_clip's custom-text models keep the text tower one level down."""
    return {name.removeprefix("text."): tensor for name, tensor in tensors.items()}


def _open_folder(path: Path) -> WeightFile:
    if any((path / part).is_dir() for part in _DIFFUSERS_PARTS):
        return _open_diffusers(path)
    main = _find_weights(path, _MODEL_STEMS)
    if main is None:
        raise CheckpointError(
            f"{path}: a folder without weights; expected unet/, vae/ and text_encoder/, or "
            f"one of {', '.join(stem + '.safetensors' for stem in _MODEL_STEMS)} (or .bin)"
        )
    if main.suffix != ".json":
        opened = _open_file(main)
        return WeightFile(path, opened.layout, opened.container, opened.tensors, (main,))
    container, tensors, files = _read_shards(main)
    layout = layouts.recognise(tensors)
    if layout is None:
        raise CheckpointError(f"{main}: {container} with {layouts.describe_unknown(tensors)}")
    return WeightFile(path, layout, container, tensors, files)


def _open_diffusers(path: Path) -> WeightFile:
    """All parts that are there, their names behind `unet/`, `vae/` or `text_encoder/`."""
    tensors: dict[str, LazyTensor] = {}
    files: tuple[Path, ...] = ()
    containers = []
    for part, stems in _DIFFUSERS_PARTS.items():
        main = _find_weights(path / part, stems)
        if main is None:
            raise CheckpointError(
                f"{path}: a diffusers folder without weights in {part}/; expected "
                f"{part}/{stems[0]}.safetensors or .bin"
            )
        container, found, read = _read_shards(main) if main.suffix == ".json" else _read_one(main)
        tensors |= {f"{part}/{_modern_name(part, name)}": t for name, t in found.items()}
        files += read
        containers.append(container)
    return WeightFile(
        path, layouts.SD_DIFFUSERS, " and ".join(dict.fromkeys(containers)), tensors, files
    )


def _modern_name(part: str, name: str) -> str:
    """Names of today's libraries for what older ones wrote."""
    if part == "text_encoder":
        return name.removeprefix("text_model.")
    if (match := _OLD_ATTENTION_KEY.fullmatch(name)) is not None:
        before, projection, after = match.groups()
        return before + _OLD_ATTENTION[projection] + after
    return name


def _find_weights(folder: Path, stems: tuple[str, ...]) -> Path | None:
    """The best weight file of a folder."""
    for ending in _ENDINGS:
        for stem in stems:
            if (folder / (stem + ending)).is_file():
                return folder / (stem + ending)
    return None


def _read_one(path: Path) -> tuple[str, dict[str, LazyTensor], tuple[Path, ...]]:
    container, tensors = read_container(path)
    return container, tensors, (path,)


def _read_shards(index: Path) -> tuple[str, dict[str, LazyTensor], tuple[Path, ...]]:
    """All files that a sharding index names; they lie beside it, whatever path it says."""
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = [index.parent / Path(name).name for name in dict.fromkeys(weight_map.values())]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{index}: no sharding index (weight_map unreadable); download it again"
        ) from error
    if not shards:
        raise CheckpointError(f"{index}: a sharding index of no files; download it again")
    missing = [one_line(shard.name, 60) for shard in shards if not shard.is_file()]
    if missing:
        raise CheckpointError(
            f"{index}: shards are missing: {join_names(missing)}; put them beside it"
        )
    tensors: dict[str, LazyTensor] = {}
    container = ""
    for shard in shards:
        container, found = read_container(shard)
        tensors |= found
    return f"sharded {container}", tensors, (index, *shards)
