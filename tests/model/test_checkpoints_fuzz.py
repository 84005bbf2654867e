"""Damaged weight files of every container: a `CheckpointError` in one line, or tensors."""

import dataclasses
import io
import json
import pickletools
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
import torch
import weight_files as write
from fuzzing import EXAMPLES, FUZZ, assert_clear, mutate
from hypothesis import given, settings
from safetensors.torch import save_file

from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model.checkpoints import inspect_weights
from xmask3d_rt.model.checkpoints.layouts import CONVERTED_FORMAT
from xmask3d_rt.model.checkpoints.weight_file import open_weights

pytestmark = pytest.mark.fuzz

MAX_READ = 100_000  # values of a tensor that are looked at


def make_tensors():
    """A handful of CLIP's tensors of every kind, some sharing memory."""
    whole = torch.arange(24.0).reshape(4, 6)
    return {
        "visual.conv1.weight": whole,
        "visual.proj": whole.T,
        "visual.class_embedding": whole[1],
        "logit_scale": torch.tensor(2.5),
        "ln_final.weight": torch.nn.Parameter(torch.ones(3, dtype=torch.float16)),
        "transformer.resblocks.0.ln_1.bias": torch.zeros(0),
        "attn_mask": torch.ones(5, dtype=torch.int64).expand(2, 5),
    }


def write_bytes(writer, *arguments, **options):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        writer(*arguments, path, **options)
        return path.read_bytes()


def make_torch(legacy=False):
    content = {"state_dict": make_tensors(), "epoch": 3, "lr": [0.1, None, True]}
    return write_bytes(torch.save, content, _use_new_zipfile_serialization=not legacy)


def make_lightning():
    return write_bytes(lambda path: write.write_sd_ckpt(path, make_tensors()))


def make_script():
    class Program(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = torch.nn.Linear(2, 3)
            self.visual.conv1 = torch.nn.Linear(2, 1).half()
            self.register_buffer("logit_scale", torch.tensor(2.5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    return write_bytes(lambda path: torch.jit.script(Program()).save(str(path)))


def make_safetensors(metadata=None):
    tensors = {k: t.detach().clone().contiguous() for k, t in make_tensors().items()}
    return write_bytes(lambda path: save_file(tensors, path, metadata))


def make_converted():
    return make_safetensors({"format": CONVERTED_FORMAT, "namespace": "clip", "sha256": "0" * 64})


def list_pickle(archive):
    """The pickle of an archive, to be changed and put back with all checksums right."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return file.read(next(n for n in file.namelist() if n.endswith("/data.pkl")))


def put_pickle(archive, data):
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(target, "w") as made:
        for entry in source.infolist():
            main = entry.filename.endswith("/data.pkl")
            made.writestr(entry, data if main else source.read(entry))
    return target.getvalue()


SEEDS = {
    "torch archive": [make_torch(), make_lightning()],
    "torch legacy": [make_torch(legacy=True)],
    "TorchScript": [make_script()],
    "safetensors": [make_safetensors(), make_converted()],
}
ARCHIVES = {"torch archive": make_torch(), "TorchScript": make_script()}
INDEX = json.dumps(
    {
        "metadata": {"total_size": 300},
        "weight_map": {"visual.conv1.weight": "a.safetensors", "logit_scale": "b.safetensors"},
    }
).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


def read_everything(path):
    """All tensors, with the values of small ones looked at."""
    file = open_weights(path)
    for name, tensor in file.tensors.items():
        assert name.isprintable()
        values = tensor.load()
        assert (tuple(values.shape), values.dtype) == (tensor.shape, tensor.dtype)
        if 0 < tensor.elements <= MAX_READ:
            values.double().sum()
    return file


def check(path, content, named=None):
    """The file with this content is read or refused in one line that names it."""
    path.unlink(missing_ok=True)  # an earlier one may still be mapped
    path.write_bytes(content)
    try:
        return read_everything(path if named is None else named)
    except CheckpointError as error:
        assert_clear(error, path)
        return None


@pytest.mark.parametrize("kind", SEEDS)
def test_seeds_are_read(kind, folder):
    for seed in SEEDS[kind]:
        assert len(check(folder / "seed.pt", seed).tensors) >= 5


@FUZZ
@given(mutate(SEEDS["torch archive"]))
def test_torch_archive(folder, content):
    check(folder / "torch.pt", content)


@FUZZ
@given(mutate(SEEDS["torch legacy"]))
def test_torch_legacy(folder, content):
    check(folder / "legacy.pt", content)


@FUZZ
@given(mutate(SEEDS["TorchScript"]))
def test_torchscript(folder, content):
    check(folder / "script.pt", content)


@FUZZ
@given(mutate(SEEDS["safetensors"]))
def test_safetensors(folder, content):
    check(folder / "a.safetensors", content)


@FUZZ
@given(mutate([list_pickle(ARCHIVES["torch archive"])]))
def test_pickle_of_a_torch_archive(folder, data):
    check(folder / "pickle.pt", put_pickle(ARCHIVES["torch archive"], data))


@FUZZ
@given(mutate([list_pickle(ARCHIVES["TorchScript"])]))
def test_pickle_of_a_torchscript_archive(folder, data):
    check(folder / "program.pt", put_pickle(ARCHIVES["TorchScript"], data))


@FUZZ
@given(mutate([make_safetensors()[8:].partition(b"}}")[0] + b"}}"]))
def test_header_of_safetensors(folder, header):
    values = make_safetensors()[-200:]
    check(folder / "b.safetensors", struct.pack("<Q", len(header)) + header + values)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A folder of two shards beside a file that no index may reach."""
    root = tmp_path_factory.mktemp("sharded")
    (root / "hf").mkdir()
    tensors = {k: t.detach().clone().contiguous() for k, t in make_tensors().items()}
    for name in ("a", "b"):
        save_file(tensors, root / "hf" / f"{name}.safetensors")
    save_file({"secret": torch.ones(1)}, root / "secret.safetensors")
    return root / "hf"


@FUZZ
@given(mutate([INDEX, INDEX.replace(b"a.safe", b"../secret.safe")]))
def test_sharding_index(sharded, content):
    file = check(sharded / "model.safetensors.index.json", content, named=sharded)
    if file is not None:
        assert all(path.parent == sharded for path in file.files)
        assert "secret" not in file.tensors


@pytest.fixture(scope="module")
def diffusers(tmp_path_factory):
    root = tmp_path_factory.mktemp("diffusers")
    for part, stem in (("vae", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")):
        (root / part).mkdir()
        (root / part / f"{stem}.bin").write_bytes(make_torch())
    (root / "unet").mkdir()
    return root


@FUZZ
@given(mutate([make_torch(), make_safetensors(), make_torch(legacy=True)]))
def test_part_of_a_diffusers_folder(diffusers, content):
    """Containers are known by their content, whatever the file is called."""
    check(diffusers / "unet" / "diffusion_pytorch_model.bin", content, named=diffusers)


@settings(FUZZ, max_examples=min(EXAMPLES, 30))
@given(mutate([make_safetensors(), make_torch()]))
def test_report_of_a_damaged_file(folder, content):
    path = folder / "report.pt"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        text = inspect_weights(path).describe()
    except CheckpointError as error:
        assert_clear(error, path)
    else:
        assert all(line.isprintable() for line in text.split("\n"))


def claim_legacy_text():
    """A pickle whose first text is 4 GB long."""
    data = make_torch(legacy=True)
    start = data.index(b"X\x10\x00\x00\x00protocol_version")
    return data[: start + 1] + b"\xff\xff\xff\xff" + data[start + 5 :]


def claim_legacy_values():
    """A storage of 2**50 values, whose record is small when it is mentioned again."""
    head = make_torch(legacy=True)
    content = [(op.name, arg, pos) for op, arg, pos in pickletools.genops(io.BytesIO(head[137:]))]
    pos = next(p for name, arg, p in content if (name, arg) == ("BININT1", 24))
    start = 137 + pos
    return head[:start] + b"\x8a\x07" + (2**50).to_bytes(7, "little") + head[start + 2 :]


def claim_record():
    """A zip entry of 4 GB."""
    data = bytearray(make_torch())
    start = data.index(b"PK\x01\x02")
    data[start + 20 : start + 28] = b"\xf0\xff\xff\xff" * 2
    return bytes(data)


def claim_header():
    return struct.pack("<Q", 2**60) + make_safetensors()[8:]


def claim_shared_tuples():
    """A key of tuples that share their parts: 2**60 leaves for all who hash, walk or print it."""
    nested = b"K\x01K\x01\x86" + b"q\x00h\x00\x86" * 60
    return put_pickle(make_torch(), b"\x80\x02}" + nested + b"Ns.")


def claim_shared_storage():
    """The same as the identity of a storage, which a message might show."""
    nested = b"K\x01K\x01\x86" + b"q\x00h\x00\x86" * 60
    return put_pickle(make_torch(), b"\x80\x02(X\x07\x00\x00\x00storage" + nested + b"NNNtQ.")


def claim_marks():
    """Half a million marks, each looked for from the top of a deep stack."""
    return put_pickle(make_torch(), b"\x80\x02" + b"N" * 500_000 + b"(t" * 500_000 + b".")


def claim_modules():
    """Modules that share their children: 2**40 attributes."""
    layer = b"c__torch__.M\nM\n)\x81q\x01}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00bh\x00ubq\x00"
    first = b"c__torch__.M\nM\n)\x81q\x00"
    return put_pickle(make_script(), b"\x80\x02" + first + layer * 40 + b".")


def bomb():
    """A pickle that inflates to far more than its file."""
    source, target = zipfile.ZipFile(io.BytesIO(make_torch())), io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for entry in source.infolist():
            main = entry.filename.endswith("/data.pkl")
            kind = zipfile.ZIP_DEFLATED if main else zipfile.ZIP_STORED
            made.writestr(entry.filename, bytes(10**8) if main else source.read(entry), kind)
    return target.getvalue()


CLAIMS = {
    make.__name__: make
    for make in (
        *(claim_legacy_text, claim_legacy_values, claim_record, claim_header, bomb),
        *(claim_shared_tuples, claim_shared_storage, claim_marks, claim_modules),
    )
}
MEASURE = """
import sys, time
from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.system.memory import read_peak_memory
from xmask3d_rt.model.checkpoints.weight_file import open_weights
for path in sys.argv[1:]:
    before, started = read_peak_memory(), time.process_time()
    try:
        open_weights(path)
    except CheckpointError as error:
        mib = (read_peak_memory() - before) // 2**20
        print(mib, time.process_time() - started, error, sep="|", flush=True)
"""


def test_no_claim_is_believed_beyond_the_size_of_the_file(tmp_path):
    """In one fresh process, as its memory is measured."""
    for name, make in CLAIMS.items():
        (tmp_path / name).write_bytes(make())
    command = [sys.executable, "-c", MEASURE, *(str(tmp_path / name) for name in CLAIMS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == len(CLAIMS), done.stderr
    for name, line in zip(CLAIMS, lines, strict=True):
        mib, seconds, message = line.split("|", 2)
        assert int(mib) < 200, name
        assert float(seconds) < 15, name
        assert name in message


def compress():
    """An archive that was unpacked and packed again by an ordinary zip program."""
    source, target = zipfile.ZipFile(io.BytesIO(make_torch())), io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for entry in source.infolist():
            made.writestr(entry.filename, source.read(entry))
    return target.getvalue()


def shorten_record():
    """A record of fewer values than the pickle says: what follows it is not the tensor's."""
    source, target = zipfile.ZipFile(io.BytesIO(make_torch())), io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for entry in source.infolist():
            data = source.read(entry)
            made.writestr(entry, data[:-4] if entry.filename.endswith("data/0") else data)
    return target.getvalue()


def encrypt():
    data = bytearray(make_torch())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.index(magic)
        data[start + flags] |= 1
    return bytes(data)


def move_record():
    """A directory that points behind a record."""
    data = bytearray(make_torch())
    start = data.rindex(b"PK\x01\x02", 0, data.rindex(b"data/1"))
    data[start + 42 : start + 46] = (7).to_bytes(4, "little")
    return bytes(data)


def big_endian():
    return make_torch(legacy=True).replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89")


def odd_names():
    return make_safetensors().replace(b"logit_scale", b"logit\\nscal")


def float8():
    tensors = {"visual.conv1.weight": torch.ones(2, dtype=torch.float8_e4m3fn)}
    return write_bytes(lambda path: save_file(tensors, path))


DAMAGED = {
    "compressed": (compress, "a compressed record"),
    "shortened record": (shorten_record, "a record .* bytes for 24 values"),
    "encrypted": (encrypt, "encrypted"),
    "moved record": (move_record, "not where the directory says"),
    "big-endian": (big_endian, "big-endian"),
    "names": (odd_names, "a tensor named"),
    "float8": (float8, "stored as F8_E4M3"),
    "tensor": (lambda: write_bytes(torch.save, torch.ones(3)), "of a tensor, expected named"),
    "sparse": (
        lambda: write_bytes(torch.save, {"a": torch.eye(2).to_sparse()}),
        r"Python objects \(torch\._utils\._rebuild_sparse_tensor\)",
    ),
    "truncated": (
        lambda: make_torch(legacy=True)[:-1],
        "truncated .*ends within its values",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named(name, tmp_path):
    make, words = DAMAGED[name]
    path = tmp_path / "w.pt"
    path.write_bytes(make())
    with pytest.raises(CheckpointError, match=words) as caught:
        read_everything(path)
    assert_clear(caught.value, path)


def test_values_are_those_that_were_saved(tmp_path):
    """Also windows of shared memory, transposed and expanded ones, and of unaligned records."""
    expected = make_tensors()
    for seed in (make_torch(), make_torch(legacy=True)):
        found = check(tmp_path / "w.pt", seed).tensors
        assert list(found) == list(expected)
        for name, tensor in expected.items():
            assert torch.equal(found[name].load(), tensor), name


def test_attributes_of_saved_tensors_do_no_harm(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.note = "kept by torch.save"
    tensor = torch.ones(3)
    tensor.note = "as well"
    torch.save({"visual.proj": parameter, "visual.conv1.weight": tensor}, tmp_path / "w.pt")
    found = read_everything(tmp_path / "w.pt").tensors
    assert torch.equal(found["visual.proj"].load(), torch.ones(2))
    assert torch.equal(found["visual.conv1.weight"].load(), tensor)


@pytest.fixture
def odd(tmp_path):
    """Things that are no weight file."""
    (tmp_path / "empty").touch()
    (tmp_path / "nothing").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "around").mkdir()
    (tmp_path / "around" / "unet").symlink_to(tmp_path / "around")
    (tmp_path / "away").symlink_to(tmp_path / "gone")
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "model.safetensors.index.json").write_text("[" * 100_000)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    (tmp_path / "line\nbreak").write_bytes(b"no weights")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty", "the file is empty"),
        ("nothing", "a folder without weights"),
        ("loop", "no such file|cannot be read"),
        ("around", "without weights in unet/"),
        ("away", "no such file"),
        ("index", "no sharding index"),
        ("none", "a sharding index of no files"),
        ("line\nbreak", "no weight file"),
        ("nul\0byte", "no such file|cannot be read"),
        ("n" * 300, "cannot be read .File name too long"),
        ("empty/below", "no such file|cannot be read"),
        ("/dev/null", "neither a file nor a folder"),
    ],
)
def test_odd_paths_rejected(odd, name, words):
    with pytest.raises(CheckpointError, match=words) as caught:
        inspect_weights(odd / name)
    assert_clear(caught.value)


def test_report_of_nothing_unusual_is_unchanged(folder):
    report = dataclasses.asdict(inspect_report(folder))
    assert (report["namespace"], report["tensors"], report["complete"]) == ("clip", 7, False)


def inspect_report(folder):
    path = folder / "whole.pt"
    path.write_bytes(make_torch())
    return inspect_weights(path)
