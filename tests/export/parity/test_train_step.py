"""`verify --train-step` on a small model: a step equals itself, and every kind of change shows."""

import numpy as np
import pytest
import torch

from tests.training.rooms import RoomViews, make_micro_model
from xmask3d_rt.export.parity import train_step
from xmask3d_rt.export.parity.cases import ArrayFile
from xmask3d_rt.export.verify import app
from xmask3d_rt.training.config import make_config
from xmask3d_rt.training.optim import is_sparse

NORMS = ("pc_decoder.encoder.bn0.bn", "pc_binary_head.batch_norm")
POINTS = 64


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    """Golden file, its batch and configuration, from a run of the small model."""
    folder = tmp_path_factory.mktemp("step")
    samples = RoomViews(rooms=1, views=2).samples
    names = ["A", "B"]
    for name, sample in zip(names, samples, strict=True):
        np.savez(
            folder / f"case_{name}_inputs.npz",
            image_512=sample.image,
            voxel_feats=sample.colors,
            inds_reconstruct=sample.point_to_voxel,
            x_label=sample.row,
            y_label=sample.col,
        )
    coords = [np.insert(sample.coords, 0, i, axis=1) for i, sample in enumerate(samples)]
    golden = ArrayFile(
        folder / "step.npz",
        {
            "in_cases": np.array(names),
            "in_coords_3d": np.concatenate(coords).astype(np.int16),
            "in_labels_3d": np.concatenate([s.labels_3d for s in samples]).astype(np.int16),
            "in_binary_label_3d": np.concatenate([s.binary_label for s in samples]),
            "in_label_2d": np.stack([s.label_2d for s in samples]).astype(np.uint8),
            "in_captions": np.array([s.caption for s in samples]),
            "in_sampler_points": np.random.default_rng(0).random((POINTS, 2), np.float32),
            "loss_names": np.array(["loss_3d_contra"]),
            "bn_names": np.array(NORMS),
            "grad_names": np.array([name for name, _ in make_micro_model().named_parameters()][:2]),
        },
    )
    config = make_config("tiny", [f"loss.points={POINTS}"])
    batch = train_step.read_step_batch(golden)
    trace = train_step.trace_step(make_micro_model(), config, batch, golden)
    golden |= record(trace, golden, batch)
    return golden, batch, config, trace


def pad(rows):
    """Rows of at most 16 values, zeros behind them."""
    return np.stack([np.pad(row, (0, 16 - len(row))) for row in rows])


def record(trace, golden, batch):
    """What a file of a recorded step holds beside its inputs."""
    losses, gradients = trace.losses, trace.gradients
    kept = golden["grad_names"].tolist()
    arrays = {
        "loss_names": np.array(list(losses.values)),
        "loss_values": np.array([value.item() for value in losses.values.values()]),
        "total": np.array(losses.total.item()),
        "all_names": np.array(list(gradients)),
        "all_grad_l2": np.array([np.linalg.norm(g) for g in gradients.values()]),
        "grad_numel": np.array([gradients[name].size for name in kept]),
        "grad_l2": np.array([np.linalg.norm(gradients[name]) for name in kept]),
        "grad_first16": pad([gradients[name].flatten()[:16] for name in kept]),
        "param_first16_after_adamw": pad([trace.updated[name] for name in kept]),
        "covered_points": torch.bincount(batch.point_view[losses.points.covered]).numpy(),
        **trace.values,
    }
    for kind in ("mean", "var"):
        rows = [trace.statistics[f"{name}.{kind}"] for name in NORMS]
        arrays[f"bn_running_{kind}_first16"] = pad(rows)
    for view in range(len(batch)):
        here = batch.point_view == view
        arrays[f"match_query_{view}"] = np.stack([m[view].query for m in losses.matches])
        arrays[f"match_target_{view}"] = np.stack([m[view].target for m in losses.matches])
        chosen = losses.selections[view]
        arrays[f"contra_selected_{view}"] = chosen.queries[chosen.valid].numpy()
        arrays[f"rows_{view}"] = np.arange(5)
        arrays[f"pure3d_rows_{view}"] = losses.points.three_d[here][:5].detach().numpy()
        arrays[f"fused_rows_{view}"] = losses.points.fused[here][:5].detach().numpy()
    return arrays


def compare(step, **changes):
    golden, batch, config, trace = step
    changed = ArrayFile(golden.path, {**golden, **changes})
    rows = train_step.compare_step(trace, changed, batch, config)
    return {f"{row.stage}: {row.metric}" for row in rows if not row.ok}


def test_a_step_equals_itself(step):
    assert compare(step) == set()


def test_another_loss_shows(step):
    values = step[0]["loss_values"].copy()
    values[0] *= 1 + 4e-4
    assert compare(step, loss_values=values) == {"loss_ce: relative error"}
    assert compare(step, total=step[0]["total"] * (1 + 4e-5)) == {"total: relative error"}


def test_a_missing_loss_shows(step):
    names, values = step[0]["loss_names"], step[0]["loss_values"]
    found = compare(step, loss_names=np.append(names, "loss_new"), loss_values=np.append(values, 1))
    assert found == {"losses: names differ", "loss_new: relative error"}


def test_another_assignment_shows(step):
    queries = step[0]["match_query_0"].copy()
    queries[0, 0] += 1
    (failed,) = compare(step, match_query_0=queries)
    assert failed.startswith("view A: assignments differ")


def test_another_selection_shows(step):
    selected = np.append(step[0]["contra_selected_1"], 3)
    assert compare(step, contra_selected_1=selected) == {"view B: contrastive masks differ"}


def test_other_covered_points_show(step):
    covered = step[0]["covered_points"] + np.array([0, 21])
    assert compare(step, covered_points=covered) == {"view B: covered points differ"}


def test_another_gradient_shows(step):
    norms = step[0]["all_grad_l2"].copy()
    norms[-1] *= 1.02
    (failed,) = compare(step, all_grad_l2=norms)
    assert failed.endswith("relative error of norms")
    entries = 1.2 * step[0]["grad_first16"]
    (failed,) = compare(step, grad_first16=entries)
    assert failed.endswith("relative L2 of entries")


def test_another_update_shows(step):
    golden, _, config, _ = step
    name = golden["grad_names"][0]
    rate = config.optim.lr_3d if is_sparse(name) else config.optim.lr_others
    moved = golden["param_first16_after_adamw"] + 0.1 * rate
    assert compare(step, param_first16_after_adamw=moved) == {"AdamW: relative to the rate"}


def test_labels_of_another_step_are_rejected(step):
    golden = step[0]
    shorter = ArrayFile(golden.path, {**golden, "in_labels_3d": golden["in_labels_3d"][:-1]})
    with pytest.raises(ValueError, match="belong to another step"):
        train_step.read_step_batch(shorter)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--train-step"], "needs --golden"),
        (["--train-step", "--golden", "x.npz", "--module"], "goes with --golden, --preset"),
        (["--train-step", "--golden", "x.npz", "--record", "y.npz"], "goes with --golden"),
        (["--train-step", "--golden", "x.npz"], "no file x.npz"),
    ],
)
def test_wrong_options_are_rejected(options, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        app(options)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
