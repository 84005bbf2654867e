"""Weight files in every real format load to identical tensors; broken ones are refused whole."""

import copy
import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import weight_files as write

from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model.checkpoints import inspect_weights, load_checkpoints
from xmask3d_rt.model.key_map import NAMESPACES, build_key_map


@pytest.fixture(scope="module")
def reference(synthetic_micro):
    return synthetic_micro


@pytest.fixture(scope="module")
def key_map(reference):
    return build_key_map(reference)


def count_writes(model):
    """How often each tensor was written to in place."""
    return [tensor._version for tensor in model.state_dict().values()]


def erase(model):
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(7)


@pytest.fixture(scope="module")
def scratch(reference):
    """A model to load into, and what `count_writes` said when it was last empty."""
    return {"model": copy.deepcopy(reference), "empty": None}


@pytest.fixture
def blank(scratch):
    """A model with nothing in it."""
    if scratch["empty"] != count_writes(scratch["model"]):
        erase(scratch["model"])
        scratch["empty"] = count_writes(scratch["model"])
    return scratch["model"]


def check_loaded(model, reference, key_map, namespace, half=False):
    """The namespace equals the reference bit for bit, all else is untouched."""
    expected = reference.state_dict()
    for name, tensor in model.state_dict().items():
        if key_map[name].namespace != namespace:
            assert (tensor == 7).all(), name
        elif half and tensor.is_floating_point():
            assert torch.equal(tensor, expected[name].half().float()), name
        else:
            assert torch.equal(tensor, expected[name]), name


FORMATS = {
    "released .pth.tar": (
        "xmask3d",
        lambda p, m: write.write_xmask3d(p / "b15n4.pth.tar", write.file_tensors(m, "xmask3d")),
        "XMask3D",
    ),
    "trained part as safetensors": (
        "xmask3d",
        lambda p, m: write.write_safetensors(p / "x.st", write.file_tensors(m, "xmask3d")),
        "XMask3D",
    ),
    "CompVis .ckpt": (
        "sd",
        lambda p, m: write.write_sd_ckpt(p / "sd-v1-3.ckpt", write.file_tensors(m, "sd")),
        "CompVis",
    ),
    "CompVis .safetensors": (
        "sd",
        lambda p, m: write.write_safetensors(p / "sd.safetensors", write.file_tensors(m, "sd")),
        "CompVis",
    ),
    "diffusers folder": ("sd", lambda p, m: write.write_diffusers(p / "sd", m), "diffusers"),
    "old diffusers folder": (
        "sd",
        lambda p, m: write.write_diffusers(p / "sd", m, old_names=True),
        "diffusers",
    ),
    "open_clip training .pt": (
        "clip",
        lambda p, m: write.write_open_clip(p / "clip.pt", write.file_tensors(m, "clip")),
        "open_clip",
    ),
    "open_clip .safetensors": (
        "clip",
        lambda p, m: write.write_safetensors(p / "c.safetensors", write.file_tensors(m, "clip")),
        "open_clip",
    ),
    "Hugging Face folder": ("clip", lambda p, m: write.write_hf_clip(p / "hf", m), "Hugging Face"),
    "Hugging Face shards": (
        "clip",
        lambda p, m: write.write_hf_clip(p / "hf", m, shards=3),
        "Hugging Face",
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_load_identical_tensors(name, tmp_path, blank, reference, key_map):
    namespace, write_file, kind = FORMATS[name]
    path = write_file(tmp_path, reference)

    loaded = load_checkpoints(blank, **{namespace: path})

    check_loaded(blank, reference, key_map, namespace)
    assert list(loaded) == [namespace]
    assert kind in loaded[namespace].title


@pytest.mark.parametrize("name", ["clip.bin", "pytorch_model.bin"])
def test_bare_state_dicts_load(name, tmp_path, blank, reference, key_map):
    hugging_face = name.startswith("pytorch")
    tensors = (
        write.hf_clip_tensors(reference) if hugging_face else write.file_tensors(reference, "clip")
    )
    torch.save(tensors, tmp_path / name)
    load_checkpoints(blank, clip=tmp_path / name)
    check_loaded(blank, reference, key_map, "clip")


def test_legacy_torch_file_loads(tmp_path, blank, reference, key_map):
    path = tmp_path / "old.pt"
    torch.save(write.file_tensors(reference, "clip"), path, _use_new_zipfile_serialization=False)
    load_checkpoints(blank, clip=path)
    check_loaded(blank, reference, key_map, "clip")


def test_openai_archive_loads_without_running_it(tmp_path, blank, reference, key_map, monkeypatch):
    path = write.write_openai(tmp_path / "ViT-L-14.pt", reference)
    monkeypatch.setattr(torch.jit, "load", None)
    loaded = load_checkpoints(blank, clip=path)
    check_loaded(blank, reference, key_map, "clip", half=True)
    assert "OpenAI" in loaded["clip"].title


def test_half_precision_is_cast(tmp_path, blank, reference, key_map):
    tensors = {k: t.half() for k, t in write.file_tensors(reference, "sd").items()}
    load_checkpoints(blank, sd=write.write_safetensors(tmp_path / "fp16.safetensors", tensors))
    check_loaded(blank, reference, key_map, "sd", half=True)


def test_custom_text_open_clip_loads(tmp_path, blank, reference, key_map):
    text = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_pro")
    tensors = {
        f"text.{key}" if key.startswith(text) else key: tensor
        for key, tensor in write.file_tensors(reference, "clip").items()
    }
    load_checkpoints(blank, clip=write.write_safetensors(tmp_path / "c.safetensors", tensors))
    check_loaded(blank, reference, key_map, "clip")


def test_converted_copy_is_reused(tmp_path, blank, reference, key_map):
    source = write.write_hf_clip(tmp_path / "hf", reference)
    cache = tmp_path / "engines" / "weights"

    loaded = load_checkpoints(blank, clip=source, cache_dir=cache)
    (made,) = cache.iterdir()
    assert loaded["clip"].sha256[:16] in made.name

    stamp = made.stat().st_mtime_ns
    erase(blank)
    load_checkpoints(blank, clip=source, cache_dir=cache)
    assert made.stat().st_mtime_ns == stamp
    check_loaded(blank, reference, key_map, "clip")


def test_damaged_copy_is_made_again(tmp_path, blank, reference, key_map):
    source = write.write_safetensors(
        tmp_path / "c.safetensors", write.file_tensors(reference, "clip")
    )
    load_checkpoints(blank, clip=source, cache_dir=tmp_path / "cache")
    (made,) = (tmp_path / "cache").iterdir()
    os.truncate(made, made.stat().st_size // 2)

    load_checkpoints(blank, clip=source, cache_dir=tmp_path / "cache")

    check_loaded(blank, reference, key_map, "clip")
    assert "converted copy of CLIP" in inspect_weights(made).kind


def test_changed_file_gets_its_own_copy(tmp_path, blank, reference):
    tensors = write.file_tensors(reference, "clip")
    source = write.write_safetensors(tmp_path / "c.safetensors", tensors)
    load_checkpoints(blank, clip=source, cache_dir=tmp_path / "cache")
    tensors["logit_scale"] = torch.tensor(1.5)
    write.write_safetensors(source, tensors)
    load_checkpoints(blank, clip=source, cache_dir=tmp_path / "cache")
    assert blank.clip.logit_scale.item() == 1.5
    assert len(list((tmp_path / "cache").iterdir())) == 2


def refuse(model, match, **paths):
    """Loading fails with these words, and no tensor of the model was written to."""
    before = count_writes(model)
    with pytest.raises(CheckpointError, match=match) as caught:
        load_checkpoints(model, **paths)
    assert count_writes(model) == before
    return str(caught.value)


def test_misfits_rejected_in_one_error(tmp_path, blank, reference):
    tensors = write.file_tensors(reference, "sd")
    lost = sorted(k for k in tensors if k.startswith("model.diffusion_model.middle_block."))
    for key in lost:
        del tensors[key]
    tensors["control_model.extra"] = torch.zeros(1)
    tensors["first_stage_model.quant_conv.bias"] = torch.zeros(3)
    tensors["first_stage_model.quant_conv.weight"] = torch.zeros(8, 8, 1, 1, dtype=torch.int64)
    path = write.write_safetensors(tmp_path / "sd.safetensors", tensors)

    message = refuse(blank, "does not fit", sd=path)

    assert str(path) in message
    assert "Stable Diffusion v1 with CompVis names, safetensors" in message
    assert f"{len(lost)} missing: " in message
    assert sum(key in message for key in lost) == 10
    assert "1 unexpected: control_model.extra" in message
    assert "2 mis-shaped: " in message
    assert "first_stage_model.quant_conv.bias [3] instead of [8]" in message
    assert "torch.int64 instead of torch.float32" in message


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_one_missing_key_rejected(namespace, tmp_path, blank, reference):
    tensors = write.file_tensors(reference, namespace)
    lost = sorted(tensors)[len(tensors) // 2]
    del tensors[lost]
    path = write.write_safetensors(tmp_path / "w.safetensors", tensors)
    refuse(blank, f"1 missing: {lost}", **{namespace: path})


def test_nothing_is_loaded_if_a_later_file_is_bad(tmp_path, blank, reference):
    good = write.write_xmask3d(tmp_path / "x.pth.tar", write.file_tensors(reference, "xmask3d"))
    tensors = write.file_tensors(reference, "clip")
    tensors["visual.proj"] = tensors["visual.proj"][:, 1:]
    bad = write.write_safetensors(tmp_path / "c.safetensors", tensors)
    refuse(blank, "1 mis-shaped: visual.proj", xmask3d=good, clip=bad)


def test_wrong_kind_rejected(tmp_path, blank, reference):
    path = write.write_safetensors(
        tmp_path / "c.safetensors", write.file_tensors(reference, "clip")
    )
    refuse(blank, "looks like CLIP with open_clip names, expected Stable Diffusion v1", sd=path)


def test_wrong_preset_rejected(tmp_path, blank, reference):
    tensors = write.file_tensors(reference, "xmask3d")
    tensors["criterion.empty_weight"] = torch.ones(13)  # b12n7 has 12 base classes
    path = write.write_xmask3d(tmp_path / "b12n7.pth.tar", tensors)
    refuse(blank, r"criterion.empty_weight \[13\] instead of \[55\]", xmask3d=path)


@pytest.mark.parametrize("name", ["released .pth.tar", "CompVis .safetensors", "legacy", "openai"])
@pytest.mark.parametrize("share", [0.001, 0.5, 0.99])
def test_truncated_files_rejected(name, share, tmp_path, blank, reference):
    if name == "legacy":
        namespace, path = "clip", tmp_path / "old.pt"
        tensors = write.file_tensors(reference, "clip")
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
    elif name == "openai":
        namespace, path = "clip", write.write_openai(tmp_path / "clip.pt", reference)
    else:
        namespace, write_file, _ = FORMATS[name]
        path = write_file(tmp_path, reference)
    os.truncate(path, int(path.stat().st_size * share))
    message = refuse(blank, "truncated|damaged", **{namespace: path})
    assert str(path) in message


class Touch:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (Path(self.marker),))


def write_malicious(container, path, marker):
    content = {"state_dict": {"visual.conv1.weight": torch.ones(1)}, "payload": Touch(marker)}
    if container == "torch archive":
        torch.save(content, path)
    elif container == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif container == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("clip/constants.pkl", b"")
            archive.writestr("clip/data.pkl", pickle.dumps({"a": Touch(marker)}, protocol=2))


@pytest.mark.parametrize("container", ["torch archive", "legacy", "plain pickle", "TorchScript"])
def test_pickled_code_rejected_and_never_run(container, tmp_path, blank):
    marker, path = tmp_path / "executed", tmp_path / "evil.pt"
    write_malicious(container, path, marker)

    refuse(blank, "code|objects|more than tensors|not read", clip=path)
    with pytest.raises(CheckpointError):
        inspect_weights(path)

    assert not marker.exists()


def test_the_malicious_files_would_run(tmp_path):
    """Otherwise the test above could not fail."""
    write_malicious("torch archive", tmp_path / "evil.pt", tmp_path / "executed")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "executed").exists()


def test_whole_modules_rejected(tmp_path, blank):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    refuse(blank, r"torch\.nn\.modules\.linear\.Linear", clip=tmp_path / "module.pt")


def write_npz(path):
    np.savez(path, a=np.ones(3))


NOT_WEIGHTS = {
    "empty": (lambda p: p.write_bytes(b""), "the file is empty"),
    "html": (lambda p: p.write_text("<!DOCTYPE html><html>"), "no weight file"),
    "LFS": (
        lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "Git LFS pointer",
    ),
    "zip": (write_npz, "no data.pkl"),
    "list": (lambda p: torch.save([torch.ones(1)], p), "of a list, expected named tensors"),
    "no tensors": (lambda p: torch.save({"epoch": 3}, p), "without any tensor"),
    "other model": (lambda p: torch.save({"fc.weight": torch.ones(1)}, p), "no model known here"),
    "UNet alone": (
        lambda p: torch.save({"down_blocks.0.resnets.0.conv1.weight": torch.ones(1)}, p),
        "one part of a diffusers",
    ),
}


@pytest.mark.parametrize("kind", NOT_WEIGHTS)
def test_other_files_rejected(kind, tmp_path, blank):
    write_file, words = NOT_WEIGHTS[kind]
    path = tmp_path / "file.npz"
    write_file(path)
    refuse(blank, words, clip=path)


def test_missing_paths_rejected(tmp_path, blank):
    refuse(blank, "no such file or folder", sd=tmp_path / "absent.ckpt")
    refuse(blank, "a folder without weights", sd=tmp_path)
    (tmp_path / "unet").mkdir()
    refuse(blank, "without weights in unet/", sd=tmp_path)


def test_missing_and_foreign_shards_rejected(tmp_path, blank, reference):
    folder = write.write_hf_clip(tmp_path / "hf", reference, shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refuse(blank, "shards are missing: model-00002", clip=folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors"}}))
    refuse(blank, "shards are missing: secret", clip=folder)
    index.write_text("{}")
    refuse(blank, "no sharding index", clip=folder)


def rewrite_openai(path, forge):
    """The archive with `data.pkl` or a record changed, all checksums right again."""
    forged = path.with_name("forged.pt")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(forged, "w") as target:
        for entry in source.infolist():
            target.writestr(entry, forge(entry.filename, source.read(entry)))
    return forged


def test_forged_archives_rejected(tmp_path, blank, reference):
    """A window or a record that is not what the pickle says must not be read."""
    path = write.write_openai(tmp_path / "clip.pt", reference)

    def move_window(name, data):  # the first tensor starts at 255 in place of 0
        if not name.endswith("/data.pkl"):
            return data
        start = re.search(rb"Qq.K\x00\(", data, re.DOTALL).end() - 2
        return data[:start] + b"\xff" + data[start + 1 :]

    def shorten_record(name, data):
        return data[:-2] if name.endswith("/data/0") else data

    def cut_program(name, data):
        return data[:-40] if name.endswith("/data.pkl") else data

    for forge, words in (
        (move_window, "outside its storage"),
        (shorten_record, "a record"),
        (cut_program, "damaged TorchScript archive"),
    ):
        refuse(blank, words, clip=rewrite_openai(path, forge))


def test_damaged_record_rejected(tmp_path, blank, reference):
    path = write.write_openai(tmp_path / "clip.pt", reference)
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    data = bytearray(path.read_bytes())
    data[largest.header_offset + largest.file_size // 2] ^= 0xFF
    path.write_bytes(data)
    refuse(blank, "damaged TorchScript archive", clip=path)
