"""A backend is one file and one line."""

import ast
from pathlib import Path

import pytest
import torch
import toy_backend

import xmask3d_rt
from xmask3d_rt.config import Precision, get_preset
from xmask3d_rt.engines.backend import Compilation
from xmask3d_rt.engines.backends import BACKENDS, get_backend, open_engine
from xmask3d_rt.engines.options import BuildOptions
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.backends import inductor as inductor_build
from xmask3d_rt.export.backends import tensorrt as tensorrt_build
from xmask3d_rt.export.build.directory import build_engines
from xmask3d_rt.export.build.weights import SyntheticWeights
from xmask3d_rt.export.graph.contracts import get_contract


def test_one_file_and_one_line_add_a_backend(monkeypatch, tmp_path):
    monkeypatch.setitem(BACKENDS, toy_backend.BACKEND.name, toy_backend.BACKEND)
    result = build_engines(
        tmp_path, get_preset("tiny"), SyntheticWeights(), backend="script", only=["vae_decoder"]
    )
    component = result.manifest.get("vae_decoder")
    assert component.backend == "script"
    assert [file.path for file in component.files] == ["vae_decoder/model.pt"]
    assert max(component.parity.errors.values()) < 1e-5
    with open_engine(result.manifest, "vae_decoder", "cpu") as engine:
        latent = torch.zeros(1, *engine.inputs[0].shape[1:])
        assert set(engine.infer({"latent": latent})) == {"dec2", "dec5"}


# Beside a backend's own files: what tries libraries before torch is known to work, what says how
# to install them, and the cache folder of earlier releases.
NAMING = {"doctor.py", "extras.py", "options.py"}


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_is_named_in_its_own_files_alone(name):
    root = Path(xmask3d_rt.__file__).parents[1]
    named = set()
    for path in (*root.glob("xmask3d_rt/**/*.py"), *root.glob("export/**/*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        words = {node.value for node in nodes if isinstance(node, ast.Constant)}
        if name in words and not path.name.startswith(name):
            named.add(path.name)
    assert named <= NAMING


@pytest.mark.parametrize(
    ("compiler", "lacks"),
    [
        (inductor_build.compile_component, "backend inductor needs the torch module"),
        (tensorrt_build.compile_component, "backend tensorrt needs the exported graph"),
    ],
)
def test_compiler_without_what_it_takes_rejected(tmp_path, compiler, lacks):
    job = Compilation(
        component="unet",
        signature=get_contract("unet", get_preset("tiny")).signature,
        precision=Precision.FP32,
        device=torch.device("cpu"),
        output=tmp_path / "model",
        inputs=(),
        graph=None,
        module=None,
        options=BuildOptions(),
    )
    with pytest.raises(EngineError, match=f"unet: {lacks}"):
        compiler(job)
    assert list(tmp_path.iterdir()) == []


def test_unknown_backend_rejected():
    with pytest.raises(EngineError, match=r"unknown backend 'magic'.*tensorrt"):
        get_backend("magic")
