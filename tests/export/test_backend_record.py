"""A backend is one file and one line."""

import pytest
import torch
import toy_backend

from xmask3d_rt.config import get_preset
from xmask3d_rt.engines.backends import BACKENDS, get_backend, open_engine
from xmask3d_rt.errors import EngineError
from xmask3d_rt.export.build import build_engines
from xmask3d_rt.export.weights import SyntheticWeights


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


def test_unknown_backend_rejected():
    with pytest.raises(EngineError, match=r"unknown backend 'magic'.*tensorrt"):
        get_backend("magic")
