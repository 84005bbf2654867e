"""Packing the weights of `tiny`, and reading all of the model's tensors back."""

import copy

import pytest
import torch

from xmask3d_rt.errors import CheckpointError
from xmask3d_rt.model.bundled import TOKENS, read_packed, write_packed
from xmask3d_rt.training.towers.stages import copy_text_encoder


@pytest.fixture
def model(synthetic_tiny):
    model = copy.deepcopy(synthetic_tiny)
    copy_text_encoder(model.clip, model.diffusion)
    return model


def test_packed_weights_hold_the_whole_model(model, tmp_path):
    state = model.state_dict()
    tokens = torch.tensor([0, 5, 49406, 49407])
    write_packed(model, tokens, tmp_path / "tiny.safetensors")
    found = read_packed(tmp_path / "tiny.safetensors", state)
    assert set(found) == set(state)
    dead = {"diffusion.unet.conv_out.weight", "diffusion.vae.decoder.conv_out.weight"}
    for name, tensor in state.items():
        if name in dead:
            assert not found[name].any()
        elif found[name].any() and "token_embedding" not in name:
            torch.testing.assert_close(found[name], tensor, rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(found[TOKENS][tokens], state[TOKENS][tokens], rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(found[TOKENS][7], found[TOKENS][tokens].mean(0))
    model.load_state_dict(found)
    before = model.diffusion.unet.up_blocks[-1].resnets[1].conv1.weight
    assert before.abs().sum() > 0


def test_another_text_encoder_is_rejected(model, tmp_path):
    with torch.no_grad():
        model.diffusion.text_encoder.ln_final.bias += 1
    with pytest.raises(CheckpointError, match=r"ln_final\.bias differs from clip\.ln_final\.bias"):
        write_packed(model, torch.tensor([1]), tmp_path / "tiny.safetensors")


def test_missing_and_misshapen_weights_are_rejected(model, tmp_path):
    path = tmp_path / "tiny.safetensors"
    with pytest.raises(CheckpointError, match="has no such weights"):
        read_packed(path, {})
    write_packed(model, torch.tensor([1]), path)
    state = {name: value.to("meta") for name, value in model.state_dict().items()}
    state["clip.visual.proj"] = torch.empty(1, 2, device="meta")
    with pytest.raises(CheckpointError, match=r"clip\.visual\.proj has shape .* needs \[1, 2\]"):
        read_packed(path, state)
