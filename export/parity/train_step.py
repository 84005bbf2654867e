"""One training step of the module against a recorded step of the released code.

The file names its scenes (`in_cases`; their inputs lie beside it as `case_X_inputs.npz`) and holds
labels, captions and the points at which masks are compared, so nothing is random. What is
compared: every loss, every gradient's norm and the first entries of some, the assignments of all
heads, the masks of the contrastive loss, batch statistics, and one step of the optimiser.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xmask3d_rt.config import ModelConfig
from xmask3d_rt.export.parity.cases import ArrayFile, read_arrays
from xmask3d_rt.export.parity.compare import Row, relative_l2
from xmask3d_rt.model.synthetic import fill_synthetic
from xmask3d_rt.model.xmask3d import XMask3D
from xmask3d_rt.training.batch import TrainingBatch, TrainingSample, collate_samples
from xmask3d_rt.training.config import TrainingConfig, make_config
from xmask3d_rt.training.criterion import Losses
from xmask3d_rt.training.optim import is_sparse, make_optimizer
from xmask3d_rt.training.points import FixedPoints
from xmask3d_rt.training.step import TrainingStep, embed_texts

LOSS_LIMIT, TOTAL_LIMIT = 3e-4, 3e-5
NORM_LIMIT, ENTRY_LIMIT = 1e-2, 1e-1
COVERED_LIMIT = 20
STATISTICS_LIMIT = 1e-5
# The first step of AdamW moves an entry by the rate times the sign of its gradient: entries whose
# gradient is noise move either way.
UPDATE_LIMIT = 0.05  # of the rate
NOISE_SHARE = 0.3  # of a tensor's root mean square gradient
ENTRIES = 16
# What to look at first where a step differs.
VALUES = {"text_embed": 5e-6, "caption_embed": 5e-6, "imp_condition": 5e-5}
ROW_LIMITS = {"pure3d_rows": 1e-4, "fused_rows": 1e-3}


@dataclass(frozen=True, eq=False)
class StepTrace:
    """What one step computed: losses and choices, and values by the names of the reference."""

    losses: Losses
    values: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    updated: dict[str, np.ndarray]


def read_step_batch(golden: ArrayFile) -> TrainingBatch:
    """The batch of a recorded step.

    Raises:
        ValueError: an array is missing, here or in a scene's inputs, or they disagree.
        FileNotFoundError: the inputs of a scene are not beside the file.
    """
    folder = golden.path.parent
    coords = golden["in_coords_3d"]  # [M, 4], the scene first
    scenes = [read_arrays(folder / f"case_{name}_inputs.npz") for name in golden["in_cases"]]
    counts = [len(scene["x_label"]) for scene in scenes]
    if sum(counts) != len(golden["in_labels_3d"]):
        raise ValueError(
            f"{golden.path} has labels of {len(golden['in_labels_3d'])} points, its scenes have "
            f"{sum(counts)}; the inputs belong to another step"
        )
    ends = np.cumsum(counts)[:-1]
    labels = np.split(golden["in_labels_3d"].astype(np.int64), ends)
    binary = np.split(golden["in_binary_label_3d"].astype(np.int64), ends)
    samples = [
        TrainingSample(
            name=str(golden["in_cases"][i]),
            image=scene["image_512"],
            coords=coords[coords[:, 0] == i, 1:].astype(np.int32),
            colors=scene["voxel_feats"],
            point_to_voxel=scene["inds_reconstruct"].astype(np.int64),
            row=scene["x_label"].astype(np.int64),
            col=scene["y_label"].astype(np.int64),
            labels_3d=labels[i],
            binary_label=binary[i],
            label_2d=golden["in_label_2d"][i],
            caption=str(golden["in_captions"][i]),
        )
        for i, scene in enumerate(scenes)
    ]
    return collate_samples(samples)


def make_step_config(preset: str, golden: Mapping[str, np.ndarray]) -> TrainingConfig:
    """The preset's recipe, fp32, every activation that can be computed twice not kept."""
    points = len(golden["in_sampler_points"])
    return make_config(preset, ["optim.checkpointing=all", f"loss.points={points}"])


def load_step_model(config: ModelConfig) -> XMask3D:
    """The module with synthetic weights, in training mode."""
    model = XMask3D(config)
    fill_synthetic(model)
    model.diffusion.embed_empty_prompt()
    return model


def trace_step(
    model: XMask3D, config: TrainingConfig, batch: TrainingBatch, golden: ArrayFile
) -> StepTrace:
    """Forward, backward and one step of the optimiser.

    Args:
        model: with its weights; changed by the step.
        config: of the run.
        batch: on the model's device.
        golden: gives the points at which masks are compared, and the names of what to keep.
    """
    step = TrainingStep(model, config)
    device = step.text_embed.device
    captions = embed_texts(model, batch.captions)
    outputs: list = []
    hook = model.register_forward_hook(lambda _module, _args, output: outputs.append(output))
    points = FixedPoints(torch.from_numpy(golden["in_sampler_points"]).to(device))
    contrast = "loss_3d_contra" in golden["loss_names"]
    losses = step(batch, captions, step.encode_images(batch.images), points, contrast)
    hook.remove()
    output = outputs.pop()
    values = {
        "text_embed": step.text_embed,
        "caption_embed": captions,
        "imp_condition": output.sparse.imp_condition,
        "pred_logits": output.masks.pred_logits,
        "pred_masks_sub": output.masks.pred_masks[:, ::7, ::16, ::16],
        "mask_embed_sub": output.masks.mask_embed[:, ::7],
        "mask_embed_clip_sub": output.mask_embed_clip[:, ::7],
    }
    kept = {name: to_array(value) for name, value in values.items()}
    del output  # its activations are needed no longer than the graph
    losses.total.backward()
    parameters = dict(model.named_parameters())
    gradients = {name: to_array(p.grad) for name, p in parameters.items() if p.grad is not None}
    buffers = dict(model.named_buffers())
    statistics = {
        f"{name}.{kind}": to_array(buffers[f"{name}.running_{kind}"].flatten()[:ENTRIES])
        for name in golden["bn_names"]
        for kind in ("mean", "var")
    }
    make_optimizer(model, config.optim).step()
    updated = {
        str(name): to_array(parameters[name].flatten()[:ENTRIES]) for name in golden["grad_names"]
    }
    return StepTrace(losses, kept, gradients, statistics, updated)


def to_array(tensor: Tensor) -> np.ndarray:
    """Values as float32 on the host."""
    return tensor.detach().float().cpu().numpy().copy()


def compare_step(
    trace: StepTrace, golden: ArrayFile, batch: TrainingBatch, config: TrainingConfig
) -> list[Row]:
    """Every comparison, losses first."""
    return [
        *_compare_losses(trace, golden),
        *_compare_choices(trace, golden, batch),
        *_compare_gradients(trace, golden),
        *_compare_update(trace, golden, config),
        *_compare_values(trace, golden, batch),
    ]


def _compare_losses(trace: StepTrace, golden: ArrayFile) -> Iterator[Row]:
    """Each weighted loss, and their sum."""
    got = {name: value.item() for name, value in trace.losses.values.items()}
    wanted = dict(zip(golden["loss_names"].tolist(), golden["loss_values"].tolist(), strict=True))
    differ = set(got) ^ set(wanted)
    yield Row("losses", "names differ", float(len(differ)), 0)
    for name, want in wanted.items():
        error = abs(got.get(name, math.nan) - want) / max(abs(want), 1e-30)
        yield Row(name, "relative error", error, LOSS_LIMIT)
    total = float(golden["total"])
    error = abs(trace.losses.total.item() - total) / abs(total)
    yield Row("total", "relative error", error, TOTAL_LIMIT)


def _compare_choices(trace: StepTrace, golden: ArrayFile, batch: TrainingBatch) -> Iterator[Row]:
    """Assignments of every head, masks of the contrastive loss, covered points."""
    for view in range(len(batch)):
        name = f"view {batch.names[view]}"
        queries, targets = golden[f"match_query_{view}"], golden[f"match_target_{view}"]
        differ = 0
        for head, images in enumerate(trace.losses.matches):
            found = zip(images[view].query.tolist(), images[view].target.tolist(), strict=True)
            wanted = zip(queries[head].tolist(), targets[head].tolist(), strict=True)
            differ += len(set(wanted) - set(found))
        yield Row(name, f"assignments differ, of {queries.size}", float(differ), 0)
        if trace.losses.selections:
            chosen = trace.losses.selections[view]
            got = chosen.queries[chosen.valid].tolist()
            want = golden.get(f"contra_selected_{view}", np.zeros(0)).tolist()
            moved = len(got) != len(want) or sum(a != b for a, b in zip(got, want, strict=True))
            yield Row(name, "contrastive masks differ", float(moved), 0)
        covered = int(trace.losses.points.covered[batch.point_view == view].sum())
        off = abs(covered - int(golden["covered_points"][view]))
        yield Row(name, "covered points differ", float(off), COVERED_LIMIT)


def _part(name: str) -> str:
    """The part of the model a parameter belongs to."""
    first, second = name.split(".")[:2]
    alone = first.startswith("pc_") or first in ("criterion", "category_head")
    return first if alone else f"{first}.{second}"


def _compare_gradients(trace: StepTrace, golden: ArrayFile) -> Iterator[Row]:
    """The norm of every gradient and the first entries of those recorded; the worst of a part."""
    names = golden["all_names"].tolist()
    missing = set(names) ^ set(trace.gradients)
    yield Row("gradients", f"names differ, of {len(names)}", float(len(missing)), 0)
    norms: dict[str, float] = {}
    for name, want in zip(names, golden["all_grad_l2"].tolist(), strict=True):
        got = float(np.linalg.norm(trace.gradients[name].astype(np.float64)))
        error = abs(got - want) / max(want, 1e-30)
        norms[_part(name)] = max(norms.get(_part(name), 0.0), error)
    for part, error in norms.items():
        yield Row(part, "relative error of norms", error, NORM_LIMIT)
    entries: dict[str, float] = {}
    recorded = zip(
        golden["grad_names"].tolist(), golden["grad_numel"], golden["grad_first16"], strict=True
    )
    for name, size, want in recorded:
        first = trace.gradients[name].flatten()[:ENTRIES]
        error = relative_l2(first, want[: min(int(size), ENTRIES)])
        entries[_part(name)] = max(entries.get(_part(name), 0.0), error)
    for part, error in entries.items():
        yield Row(part, "relative L2 of entries", error, ENTRY_LIMIT)


def _compare_update(trace: StepTrace, golden: ArrayFile, config: TrainingConfig) -> Iterator[Row]:
    """Batch statistics, and parameters after one step of the optimiser."""
    for kind in ("mean", "var"):
        worst = 0.0
        for name, want in zip(
            golden["bn_names"].tolist(), golden[f"bn_running_{kind}_first16"], strict=True
        ):
            got = trace.statistics[f"{name}.{kind}"]
            worst = max(worst, relative_l2(got, want[: len(got)]))
        yield Row("batch statistics", f"relative L2 of {kind}", worst, STATISTICS_LIMIT)
    worst = 0.0
    for i, name in enumerate(golden["grad_names"].tolist()):
        size = min(int(golden["grad_numel"][i]), ENTRIES)
        gradient = np.abs(golden["grad_first16"][i][:size])
        typical = float(golden["grad_l2"][i]) / math.sqrt(float(golden["grad_numel"][i]))
        sure = gradient > NOISE_SHARE * typical
        rate = config.optim.lr_3d if is_sparse(name) else config.optim.lr_others
        moved = np.abs(trace.updated[name] - golden["param_first16_after_adamw"][i][:size])
        worst = max(worst, float((moved * sure).max()) / rate)
    yield Row("AdamW", "relative to the rate", worst, UPDATE_LIMIT)


def _compare_values(trace: StepTrace, golden: ArrayFile, batch: TrainingBatch) -> Iterator[Row]:
    """Intermediate values, to find where a step parts from the reference."""
    for name, value in trace.values.items():
        yield Row(name, "relative L2", relative_l2(value, golden[name]), VALUES.get(name))
    feats = {"pure3d_rows": trace.losses.points.three_d, "fused_rows": trace.losses.points.fused}
    for name, all_points in feats.items():
        worst = 0.0
        for view in range(len(batch)):
            here = all_points[batch.point_view == view]
            rows = to_array(here[torch.from_numpy(golden[f"rows_{view}"]).to(here.device)])
            worst = max(worst, relative_l2(rows, golden[f"{name}_{view}"]))
        yield Row(name, "relative L2", worst, ROW_LIMITS[name])


def check_train_step(golden_path: Path, preset: str, device: torch.device) -> list[Row]:
    """Run a recorded step and compare it.

    Args:
        golden_path: the recorded step.
        preset: of the model it was recorded with.
        device: where to run.

    Raises:
        ValueError: an array is missing, or the step belongs to other inputs.
        FileNotFoundError: a file is missing.
    """
    golden = read_arrays(golden_path)
    batch = read_step_batch(golden).to(device)
    config = make_step_config(preset, golden)
    model = load_step_model(config.model).to(device)
    return compare_step(trace_step(model, config, batch, golden), golden, batch, config)
