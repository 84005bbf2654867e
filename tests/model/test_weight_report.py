"""What `xmask3d weights inspect` says about a file."""

import pytest
import torch
import weight_files as write

from xmask3d_rt.model.checkpoints import inspect_weights


def write_half_sd(path, model):
    tensors = write.file_tensors(model, "sd")
    return write.write_safetensors(path / "sd", {k: t.half() for k, t in tensors.items()})


FILES = {
    "xmask3d": (
        lambda p, m: write.write_xmask3d(p / "x", write.file_tensors(m, "xmask3d")),
        "XMask3D",
        "torch archive",
    ),
    "sd": (write_half_sd, "Stable Diffusion v1 with CompVis names", "safetensors"),
    "clip": (
        lambda p, m: write.write_openai(p / "c", m),
        "CLIP as OpenAI's archive",
        "TorchScript archive",
    ),
}


@pytest.mark.parametrize("namespace", FILES)
def test_complete_files(namespace, tmp_path, synthetic_tiny):
    write_file, kind, container = FILES[namespace]
    path = write_file(tmp_path, synthetic_tiny)

    report = inspect_weights(path)

    assert report.complete
    assert report.problems == ""
    assert (report.namespace, report.kind, report.container) == (namespace, kind, container)
    assert report.preset == "tiny"
    assert report.size == path.stat().st_size
    wanted = write.file_tensors(synthetic_tiny, namespace)
    constants = 3 if namespace == "clip" else 0  # OpenAI's
    assert report.tensors == len(wanted) + constants
    assert report.elements == sum(tensor.numel() for tensor in wanted.values()) + constants
    assert "complete (preset tiny)" in report.describe()


def test_dtypes_are_counted(tmp_path, synthetic_tiny):
    report = inspect_weights(write_half_sd(tmp_path, synthetic_tiny))
    assert report.dtypes == {"float16": report.tensors}


def test_incomplete_file_names_what_is_missing(tmp_path, synthetic_tiny):
    tensors = write.file_tensors(synthetic_tiny, "xmask3d")
    del tensors["category_head.null_embed"]
    report = inspect_weights(write.write_xmask3d(tmp_path / "x.pth.tar", tensors))
    assert not report.complete
    assert report.preset == "tiny"
    assert report.problems == "1 missing: category_head.null_embed"
    assert "INCOMPLETE (nearest preset tiny): 1 missing" in report.describe()


def test_class_split_tells_the_presets_apart(tmp_path, synthetic_tiny):
    tensors = write.file_tensors(synthetic_tiny, "xmask3d")
    tensors["criterion.empty_weight"] = torch.ones(13)
    report = inspect_weights(write.write_xmask3d(tmp_path / "x.pth.tar", tensors))
    assert "criterion.empty_weight [13] instead of [55]" in report.problems
